"""A judge on Ray, or on any other engine that calls a function in many processes: Spark, Daft, a batch system.

`plan_chunks` divides the images, `judge_chunk` judges a chunk wherever it is called, and `merge` writes down what each
returns, and then the table. A lost process repeats the chunk that it had. Where Ray is not installed, this process
judges one chunk after the other.

usage: python examples/ray_judge.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from blpo_dspy import LabelSpace, Models, VisualJudge
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.predictions import Chunk, ChunkReport, judge_chunk, plan_chunks
from blpo_dspy.workspace.workspace import Workspace


def on_ray(chunks: Sequence[Chunk]) -> list[ChunkReport]:
    """Judges chunks as tasks of Ray."""
    import ray  # noqa: PLC0415 - only where it is installed

    ray.init(include_dashboard=False)
    task = ray.remote(max_retries=3)(judge_chunk)
    reports: list[ChunkReport] = ray.get([task.remote(chunk) for chunk in chunks])
    ray.shutdown()
    return reports


def main() -> None:
    """Judges forty photographs in chunks of ten."""
    judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate the technical quality of this photograph.")
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(folder, RATERS["sharp"], train=32, val=4, test=4)
        out = Path(folder) / "predictions.parquet"
        with Workspace(models=Models.named("embedded")):
            plan = plan_chunks(judge, f"{folder}/images", out=out, contents=10)
        ray = find_spec("ray") is not None
        print(f"{len(plan.chunks)} chunks, judged {'by Ray' if ray else 'in this process, as Ray is not installed'}")
        done = plan.merge(on_ray(plan.chunks) if ray else map(judge_chunk, plan.chunks))
        print(f"{done.known} of {done.total} rows in {out.name}: {dict(done.labels)}, {done.errors} errors")


if __name__ == "__main__":
    main()
