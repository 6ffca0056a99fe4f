"""A judge on Ray, or on any other engine that calls a function in many processes: Spark, Daft, a batch system.

`plan_shards` divides the images, `judge_shard` judges a shard wherever it is called, and `merge` writes the table. A
shard that is tried again resumes from its journal, so that a lost process repeats no more than the calls that it had
under way. Where Ray is not installed, this process judges one shard after the other.

usage: python examples/ray_judge.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from blpo_dspy import LabelSpace, Models, VisualJudge
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.predictions import Report, Shard, judge_shard, plan_shards


def on_ray(shards: Sequence[Shard]) -> list[Report]:
    """Judges shards as tasks of Ray."""
    import ray  # noqa: PLC0415 - only where it is installed

    ray.init(include_dashboard=False)
    task = ray.remote(max_retries=3)(judge_shard)
    reports: list[Report] = ray.get([task.remote(shard) for shard in shards])
    ray.shutdown()
    return reports


def main() -> None:
    """Judges forty photographs in shards of ten."""
    judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate the technical quality of this photograph.")
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(folder, RATERS["sharp"], train=32, val=4, test=4)
        out = Path(folder) / "predictions.parquet"
        plan = plan_shards(judge, f"{folder}/images", out=out, models=Models.named("embedded"), shard_rows=10)
        ray = find_spec("ray") is not None
        print(f"{len(plan.shards)} shards, judged {'by Ray' if ray else 'in this process, as Ray is not installed'}")
        done = plan.merge(on_ray(plan.shards) if ray else map(judge_shard, plan.shards))
        print(f"{done.known} of {done.total} rows in {out.name}: {dict(done.labels)}, {done.errors} errors")


if __name__ == "__main__":
    main()
