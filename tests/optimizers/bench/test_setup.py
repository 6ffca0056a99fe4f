"""Fitting data, program and models together: what is taken, what is refused, what makes two runs the same."""

from __future__ import annotations

from typing import Any

import dspy
import pandas as pd
import pytest
from worlds import LABELS, TRAIN, VALIDATION, student, world

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.optimizers.bench.bench import find_predictors
from blpo_dspy.optimizers.bench.setup import (
    dataset,
    fingerprint,
    in_balanced_order,
    label_space,
    meta_prompt_digest,
    program_lms,
)
from blpo_dspy.programs import VisualJudge


class Own(dspy.Module):
    """A program that prepares nothing and names no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.verbalizer = dspy.Predict("image: dspy.Image -> description")
        self.judge = dspy.Predict("description -> label")

    def forward(self, image: dspy.Image) -> dspy.Prediction:
        """Describes, then labels."""
        return dspy.Prediction(label=self.judge(description=self.verbalizer(image=image).description).label)


PREDICTORS = find_predictors(student(), "verbalizer", "judge")


def test_the_validation_set_is_the_trainset_where_there_is_none() -> None:
    """And the figures are named after it."""
    both, alone = dataset(student(), TRAIN[:3], VALIDATION[:2], "label"), dataset(student(), TRAIN[:3], None, "label")
    assert (both.train, both.validation, both.validated_on) == ((0, 1, 2), (3, 4), "val")
    assert (alone.train, alone.validation, alone.validated_on) == ((0, 1, 2), (0, 1, 2), "train")
    assert [e.label for e in both.examples] == ["dark"] * 5


@pytest.mark.parametrize(
    ("trainset", "valset", "said"),
    [
        ([], None, "the trainset is empty"),
        (TRAIN, [], "the valset is empty"),
        (None, None, "trainset=None is not a list of examples"),
        (TRAIN, 7, "valset=7 is not a list of examples"),
        ("labels.csv", None, "trainset='labels.csv' is not a list of examples; .*load_examples"),
        (pd.DataFrame({"image": ["a.png"]}), None, "trainset=.* is not a list of examples"),
        (dict(enumerate(TRAIN)), None, "trainset=.* is not a list of examples"),
    ],
)
def test_a_set_without_examples_is_refused(trainset: Any, valset: Any, said: str) -> None:
    """Empty ones, and what is not a list."""
    with pytest.raises(BlpoError, match=said):
        dataset(student(), trainset, valset, "label")


@pytest.mark.parametrize("program", [student, Own])
def test_every_unusable_example_is_named(program: Any) -> None:
    """With its set and number, whether or not the program prepares its inputs."""
    image = TRAIN[0].image
    bad = [
        dspy.Example(image=image, label=None).with_inputs("image"),
        dspy.Example(image=image, label="dark"),
        dspy.Example(picture=image, label="dark").with_inputs("picture"),
        dspy.Example(image="a.png", label="dark").with_inputs("image"),
    ]
    with pytest.raises(DataError, match="5 examples cannot be used") as caught:
        dataset(program(), [TRAIN[0], *bad], [*VALIDATION[:1], {"image": image}], "label")
    said = [problem.partition(":")[0] for problem in caught.value.problems]
    assert said == ["trainset[1]", "trainset[2]", "trainset[3]", "trainset[4]", "valset[1]"]
    assert "it has no 'label'" in caught.value.problems[0]
    assert "inputs are not marked" in caught.value.problems[1]
    if program is Own:
        assert "the program's forward doesn't take picture" in caught.value.problems[2]
        assert "none of its inputs is a dspy.Image or a list of them (image is a str)" in caught.value.problems[3]
    assert len(dataset(program(), TRAIN, None, "label").examples) == len(TRAIN)


def rated(*labels: Any) -> list[dspy.Example]:
    """Examples with these labels."""
    return [TRAIN[0].copy(label=label) for label in labels]


def test_the_label_space_is_the_given_one_the_students_or_that_of_the_examples() -> None:
    """None where a metric is all that there is."""
    given, metric = LabelSpace("dark", "bright", "dim"), (lambda example, prediction: 1.0)
    assert label_space(given, student(), TRAIN, "label", None) == given
    assert label_space(None, student(), TRAIN, "label", metric) == LABELS
    assert label_space(None, Own(), TRAIN, "label", None) == LabelSpace("bright", "dark")
    assert label_space(None, Own(), TRAIN, "label", metric) is None
    assert label_space(None, Own(), rated(2, 1), "label", None) == LabelSpace(1, 2)
    assert label_space(None, Own(), rated(1, 2, "x"), "label", None) == LabelSpace(1, 2, "x")
    with pytest.raises(BlpoError, match=r"numbers from 1 to 3: .* labels=LabelSpace\.ordinal\(1, 3\)"):
        label_space(None, Own(), rated(1, 3, 2), "label", None)
    with pytest.raises(DataError, match=r"2 labels are not in the label space") as caught:
        label_space(None, student(), rated("dark", "dim", "red"), "label", None)
    assert list(caught.value.problems) == ["example 1: 'dim'", "example 2: 'red'"]


def marked(metric: Any = None, labels: Any = LABELS, rows: Any = TRAIN, lm: Any = None) -> dict[str, Any]:
    """The fingerprint of a run."""
    data = dataset(student(), rows, VALIDATION, "label")
    return fingerprint(student(), data, "label", {"judge": lm or world()}, metric, labels)


@pytest.mark.slow
def test_runs_are_the_same_with_the_same_data_program_models_and_metric() -> None:
    """Each of them tells two runs apart, and nothing else."""
    assert marked() == marked()
    assert marked()["labels"] == LABELS.to_dict()
    assert marked()["metric"] is None
    assert marked(labels=None)["labels"] is None
    assert marked(metric=max)["metric"] == "max"
    assert [name for name in marked() if marked()[name] != marked(rows=TRAIN[::-1])[name]] == ["train"]
    relabelled = [TRAIN[0].copy(label="bright"), *TRAIN[1:]]
    assert [name for name in marked() if marked()[name] != marked(rows=relabelled)[name]] == ["train"]
    other = world(temperature=0.5)
    assert [name for name in marked() if marked()[name] != marked(lm=other)[name]] == ["models"]


def test_a_meta_prompt_is_known_by_its_instructions_and_fields() -> None:
    """A short hash of them."""
    one, same, other = dspy.Signature("a -> b", "x"), dspy.Signature("a -> b", "x"), dspy.Signature("a -> b", "y")
    assert meta_prompt_digest(one) == meta_prompt_digest(same) != meta_prompt_digest(other)
    assert meta_prompt_digest(one) != meta_prompt_digest(one.with_updated_fields("a", desc="another"))
    assert len(meta_prompt_digest(one)) == len("sha256 ") + 16


def test_the_lm_of_a_predictor_is_the_first_that_is_given() -> None:
    """The verbalizer's own, the task model, the predictor's, DSPy's; each counts under its role."""
    own, task, verbalizer, settings = (world() for _ in range(4))
    program = student()
    program.set_lm(own)
    with dspy.context(lm=settings):
        assert program_lms(program, PREDICTORS, task, verbalizer) == {
            "verbalizer": (verbalizer, "verbalizer"),
            "judge": (task, "judge"),
        }
        assert {lm for lm, _ in program_lms(program, PREDICTORS, task, None).values()} == {task}
        assert {lm for lm, _ in program_lms(program, PREDICTORS, None, None).values()} == {own}
        assert {lm for lm, _ in program_lms(student(), PREDICTORS, None, None).values()} == {settings}
    with pytest.raises(BlpoError, match=r"predictor 'verbalizer' has no LM; pass task_model"):
        program_lms(student(), PREDICTORS, None, None)


def test_only_training_examples_keep_their_reasons_and_only_for_an_optimizer_that_reads_them() -> None:
    """The examples that were given stay as they are."""
    rows = [example.copy(reason="too dark") for example in TRAIN[:2]]
    for reasons, kept in ((True, ["too dark", "too dark", None, None]), (False, [None] * 4)):
        data = dataset(student(), rows, rows, "label", reasons=reasons)
        assert [example.get("reason") for example in data.examples] == kept
        assert all(set(example.inputs().keys()) == {"image"} for example in data.examples)
    assert all(row.reason == "too dark" for row in rows)


def test_the_reason_of_a_pair_that_is_shown_in_the_other_order_says_so() -> None:
    """It may speak of the first and the second image."""
    labels = LabelSpace.pairwise("A", "B")
    one, other = (example.image for example in TRAIN[:2])
    pair = dspy.Example(first=one, second=other, label="A", reason="A is sharper").with_inputs("first", "second")
    judge = VisualJudge(labels, instruction="Which is better?", images=("first", "second"))
    data = in_balanced_order(dataset(judge, [pair] * 4, None, "label"), labels, "label", 0)
    shown = {i: example.reason for i, example in enumerate(data.examples)}
    assert len(data.swapped) == 2
    for i, reason in shown.items():
        assert reason == ("(written with the two in the other order) " if i in data.swapped else "") + "A is sharper"
