"""The card of a compiled judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import scripted_lm
from worlds import TRAIN, VALIDATION, grey, student, world

from blpo_dspy.data.examples import dataset_fingerprint
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.bench.cards import described, versions
from blpo_dspy.programs import VisualJudge


def compiled(make: Any = BLPO, **options: Any) -> VisualJudge:
    """Returns a judge after one round of the made world."""
    lm = world()
    optimizer: JudgeOptimizer = make(prompt_model=lm, task_model=lm, seed=3, **options)
    return optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION)


@pytest.mark.slow
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


@pytest.mark.slow
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


def prints(examples: list[Any]) -> str:
    """Returns by what a set is known again."""
    return str(described(examples)["prints"])


@pytest.mark.slow
def test_a_judge_knows_what_all_the_judges_before_it_were_compiled_with(tmp_path: Path) -> None:
    """Two generations on, through the saved file, and each set once."""
    lm = world()
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=1)
    judge, lines = student(), []
    for start in (0, 1, 1, 2):
        judge = optimizer.compile(judge, trainset=TRAIN[start::3], valset=VALIDATION[start::3])
        judge.save(tmp_path / "judge.json")
        judge = VisualJudge.load(tmp_path / "judge.json")
        lines.append(judge.card["ancestors"])
    assert lines[0] == []
    first, second = ({"train": prints(TRAIN[i::3]), "val": prints(VALIDATION[i::3])} for i in (0, 1))
    found = [[{name: part["prints"] for name, part in sets.items()} for sets in line] for line in lines[1:]]
    assert found == [[first], [second, first], [second, first]]


@pytest.mark.parametrize("card", [{}, {"data": 5, "ancestors": "x"}, {"ancestors": [7, {"train": 1}], "folds": None}])
def test_a_card_without_a_known_past_has_no_ancestors(card: dict[str, Any]) -> None:
    """An older card, or one that somebody else wrote."""
    lm, start = world(), student()
    start.card = card
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=1)
    assert optimizer.compile(start, trainset=TRAIN, valset=VALIDATION).card["ancestors"] == []


@pytest.mark.slow
def test_figures_of_the_training_images_are_called_that() -> None:
    """Without a validation set a warning is issued, and neither card nor record names them "val"."""
    lm = world()
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=1)
    with pytest.warns(UserWarning, match=r"BLPO has no valset: .* on the training images themselves"):
        judge = optimizer.compile(student(), trainset=TRAIN)
    record = judge.detailed_results
    agreement = record.after.agreement.to_dict()
    assert {when: list(found) for when, found in judge.card["agreement"].items()} == {
        "before": ["train"],
        "after": ["train"],
    }
    assert judge.card["agreement"]["after"]["train"] == agreement
    assert list(judge.card["data"]) == ["train"]
    assert record.to_dict()["validated_on"] == "train"
    assert "no valset" in record.warnings[0]
    assert compiled(rounds=1, inner_steps=1).detailed_results.validated_on == "val"


def test_without_figures_nothing_is_said_of_them(recwarn: pytest.WarningsRecorder) -> None:
    """The paper's algorithm needs no validation set."""
    lm = world()
    BLPO.paper(prompt_model=lm, task_model=lm, rounds=1, inner_steps=1).compile(student(), trainset=TRAIN)
    assert not [warning for warning in recwarn if "valset" in str(warning.message)]


def pairs(values: range) -> list[dspy.Example]:
    """Returns pairs of greys of which people called the brighter one better."""
    return [
        dspy.Example(
            left=dspy.Image(grey(v)), right=dspy.Image(grey(255 - v)), label="A" if v > 127 else "B", id=str(v)
        ).with_inputs("left", "right")
        for v in values
    ]


@pytest.mark.slow
def test_half_of_the_pairs_are_shown_in_the_other_order_and_the_card_says_so() -> None:
    """Balanced by label and drawn by the seed; what identifies the sets is the order in which they were given."""
    train, val = pairs(range(0, 250, 12)), pairs(range(6, 250, 12))
    space = LabelSpace.pairwise("A", "B")
    shown: dict[int, list[tuple[str, ...]]] = {}
    for seed in (0, 0, 1):
        lm = scripted_lm(
            lambda seen: {name: "A" if name == "label" else "Say how bright it is." for name in seen.fields}
        )
        judge = VisualJudge(space, instruction="Which is brighter?", images=("left", "right"), evidence="image")
        optimizer = BLPO(prompt_model=lm, task_model=lm, seed=seed, rounds=1, inner_steps=1, minibatch_size=None)
        made = optimizer.compile(judge, trainset=train, valset=val)
        asked = sorted(tuple(seen.images) for seen in lm.engine.seen if "label" in seen.fields)
        assert shown.setdefault(seed, asked) == asked
        data = made.card["data"]
        assert {name: part["sha256"] for name, part in data.items()} == {
            "train": dataset_fingerprint(train), "val": dataset_fingerprint(val),
        }  # fmt: skip
        assert data["val"]["swapped"] in (10, 11)
        before = made.detailed_results.before.agreement
        assert abs(before.confusion[0][0] - before.confusion[1][0]) <= 2  # of all-A answers half are right
    assert shown[0] != shown[1]


def test_examples_that_are_no_pairs_are_named_before_any_call() -> None:
    """By the program's own check of its inputs, or as what they are."""
    lm = world(lambda seen: pytest.fail("an LM was called"))
    optimizer = BLPO(prompt_model=lm, task_model=lm, labels=LabelSpace.pairwise("dark", "bright"))
    with pytest.raises(BlpoError, match="examples are not pairs"):
        optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION)
