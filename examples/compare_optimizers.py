"""Choose an optimizer on evidence: several of them on the same labels, at the same number of LM calls, in one table.

Offline, on photographs rated by a made-up taste. The embedded engine is not a multimodal LLM: its table shows how to
compare, not which optimizer is better on real models. Put your own examples and models in its place.

    python examples/compare_optimizers.py
"""

from __future__ import annotations

import tempfile

from blpo_dspy import LabelSpace, Models, VisualJudge, compare, load_examples, split_examples
from blpo_dspy.comparison.tables import markdown
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.workspace.workspace import Workspace


def main() -> None:
    """Runs the example."""
    with tempfile.TemporaryDirectory() as folder:
        table = write_dataset(folder, RATERS["colour"], train=75, val=0, test=0).train

        labels = LabelSpace.ordinal(1, 5)
        splits = split_examples(load_examples(table, labels=labels), labels=labels)
        with Workspace(models=Models.named("embedded")):
            comparison = compare(
                VisualJudge(labels, instruction="Rate the technical quality of this photograph."),
                trainset=splits.train,
                valset=splits.val,
                testset=splits.test,
                optimizers="blpo,gepa",  # all of them if left out
                max_calls=400,
                seeds=[0],
                out=f"{folder}/comparison",  # the same call with the same folder resumes
            )
        print(markdown(comparison))
        best = max(comparison.rows, key=lambda row: row.score or 0.0)
        print(f"best on the validation set: {best.method}")
        print("its judge instruction:", (best.instructions or {}).get("judge"))


if __name__ == "__main__":
    main()
