"""The card of a compiled judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from worlds import TRAIN, VALIDATION, student, world

from blpo_dspy.data import dataset_fingerprint
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.programs import VisualJudge
from blpo_dspy.versions import versions


def compiled(make: Any = BLPO, **options: Any) -> VisualJudge:
    """Returns a judge after one round of the made world."""
    lm = world()
    optimizer: JudgeOptimizer = make(prompt_model=lm, task_model=lm, seed=3, **options)
    return optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION)


def test_a_judge_that_was_compiled_in_python_says_how(tmp_path: Path) -> None:
    """Options, seed, answers, end, data, agreement before and after, versions: in the saved file, too."""
    judge = compiled(rounds=1, inner_steps=1)
    judge.save(tmp_path / "judge.json")
    card, record = VisualJudge.load(tmp_path / "judge.json").card, judge.detailed_results
    assert card == judge.card
    assert (card["options"]["optimizer"], card["options"]["inner_steps"], card["seed"]) == ("BLPO", 1, 3)
    assert (card["rounds"], card["stop_reason"]) == (1, "the only round is done")
    assert card["answers"] == record.ledger.answered
    sets = {"train": TRAIN, "val": VALIDATION}
    assert {name: (part["n"], part["sha256"]) for name, part in card["data"].items()} == {
        name: (len(examples), dataset_fingerprint(examples)) for name, examples in sets.items()
    }
    assert card["agreement"]["before"]["val"] == record.before.agreement.to_dict()
    assert card["agreement"]["after"]["val"] == record.after.agreement.to_dict()
    assert card["versions"] == versions()


def test_every_candidate_says_how_far_it_agrees_itself() -> None:
    """The card of a candidate is not that of the returned judge, nor of the one that compiling began with."""
    candidates = compiled(rounds=4, inner_steps=1).candidate_programs
    found = [candidate["program"].card["agreement"]["after"]["val"]["accuracy"] for candidate in candidates]
    assert found == pytest.approx([candidate["score"] for candidate in candidates])
    assert len(set(found)) > 1


def test_what_was_not_validated_claims_no_agreement() -> None:
    """The paper's algorithm returns what it ends with, unmeasured."""
    card = compiled(BLPO.paper, rounds=1, inner_steps=1).card
    assert card["options"]["select"] == "last"
    assert card["agreement"] == {"before": {"val": None}, "after": {"val": None}}
