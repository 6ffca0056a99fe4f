"""The benchmarks' earlier search goes the way that BLPO's defaults went, call for call."""

from __future__ import annotations

import sys
from pathlib import Path

import dspy
import pytest

from blpo_dspy import BLPO, Budget, LabelSpace, VisualJudge, embedded_lm
from blpo_dspy.embedded import RATERS, rated_photographs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "benchmarks"))

from earlier_search import EarlierSearch


@pytest.mark.parametrize(
    ("rater", "temperament", "cap", "options"),
    [
        ("sharp", "careful", 600, {}),
        ("sharp", "bold", 600, {}),
        ("colour", "careful", 300, {}),
        ("exposure", "bold", 2000, {}),
        ("harsh", "careful", None, {"rounds": 3}),
        ("sharp", "careful", 600, {"fixed": True}),
    ],
)
def test_the_rounds_are_those_of_blpo(rater: str, temperament: str, cap: int | None, options: dict) -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    lm = embedded_lm(1, temperament=temperament, cache=False)
    splits = rated_photographs(RATERS[rater], seed=1, train=50, val=20, test=0)
    train, val = (
        [dspy.Example(image=p.image, label=p.label).with_inputs("image") for p in part]
        for part in (splits.train, splits.val)
    )
    shared = {
        "prompt_model": lm,
        "task_model": lm,
        "seed": 1,
        "num_threads": 2,
        "rounds": options.get("rounds", 1000),
        "budget": None if cap is None else Budget(max_calls=cap),
    }
    student = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate the technical quality of this photograph.")
    ours = EarlierSearch(**shared, learned="fixed" not in options).compile(student, trainset=train, valset=val)
    theirs = BLPO(**shared, verbalizer_search="fixed" if "fixed" in options else "learned").compile(
        student, trainset=train, valset=val
    )
    a, b = ours.detailed_results, theirs.detailed_results
    assert [r.end for r in a.rounds] == [r.end for r in b.rounds]
    assert [[(t.verbalizer, t.judge, t.score) for t in r.trials] for r in a.rounds] == [
        [(t.verbalizer, t.judge, t.score) for t in r.trials] for r in b.rounds
    ]
    assert a.ledger.total.calls == b.ledger.total.calls
    assert [v.score for v in a.validations] == [v.score for v in b.validations]
    assert ours.instruction == theirs.instruction
