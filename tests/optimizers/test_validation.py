"""Tests of validations whose calls fail: what is compared, what is refused, what is asked again."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest
from engines import Seen
from worlds import LABELS, TRAIN, VALIDATION, brightness, mind, student, threshold, world

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.optimizers import BLPO, OPRO, BLPOResult, Guards
from blpo_dspy.optimizers.bench.bench import Bench, find_predictors
from blpo_dspy.optimizers.bench.records import Instructions, Judgement, Validation
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.optimizers.validation import Validator, agreement_of, lost_labels, parts_of
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.workers import Workers

REFUSAL = dspy.lm15.InvalidRequestError("against our policy")
VALIDATED = {example.image.url for example in VALIDATION}


def found(script: Any, *, retries: int = 0, **options: Any) -> BLPOResult:
    """The record of a run in the small world."""
    lm = world(script, num_retries=retries)
    made = BLPO(prompt_model=lm, task_model=lm, **{"rounds": 2, "inner_steps": 1, "num_threads": 4, **options})
    result: BLPOResult = made.compile(student(), trainset=TRAIN, valset=VALIDATION).detailed_results
    return result


def validating(seen: Seen) -> bool:
    """Whether a request judges a validation image."""
    return seen.fields == ["label"] and any(f"data:image/png;base64,{image}" in VALIDATED for image in seen.images)


@pytest.mark.slow
def test_instructions_that_are_refused_the_hard_images_are_not_returned() -> None:
    """The few that they are right on would make them the best; the record says why they are not."""

    def squeamish(seen: Seen) -> Any:
        hard = validating(seen) and threshold(seen.instruction) != 20 and brightness(seen) > 60
        return REFUSAL if hard else mind(seen)

    record = found(squeamish)
    assert record.returned == record.start
    last = record.validations[-1]
    assert last.score > record.before.score
    assert last.refused == f"the model failed for {last.agreement.failed} of {len(VALIDATION)} examples"


@pytest.mark.slow
def test_an_update_that_is_refused_most_of_its_batch_has_no_score() -> None:
    """It is not chosen, whatever it says about the rest."""

    def squeamish(seen: Seen) -> Any:
        hard = seen.fields == ["label"] and threshold(seen.instruction) != 20 and brightness(seen) % 12
        return REFUSAL if hard else mind(seen)

    trials = [trial for completed in found(squeamish).rounds for trial in completed.trials]
    assert trials
    assert all(trial.score is None and trial.failed for trial in trials if trial.judge is not None)


def test_the_gain_is_that_on_images_answered_both_times() -> None:
    """Fewer wrong answers because the wrong ones are missing are no gain; too many missing ones leave none."""
    judge = student()
    with Workers(1) as workers:
        options = {"metric": None, "labels": None, "label_field": "label", "workers": workers}
        bench = Bench(judge, find_predictors(judge, "verbalizer", "judge"), {}, TRAIN, **options, max_failed_share=0.3)
        start = [Judgement(i, "dark", "dark", loss) for i, loss in enumerate([0.0, 0.0, 0.5, 1.0])]
        later = [*start[:2], Judgement(2, "dark", "bright", 0.75), Judgement(3, "dark", None, None, failure="no")]
        assert bench.mean_loss(later) < bench.mean_loss(start)
        assert bench.gain(start, later) == pytest.approx(-0.25 / 3)
        assert bench.gain(later, start) == pytest.approx(0.25 / 3)
        assert (
            bench.gain(start, [*later[:1], *(Judgement(i, "dark", None, None, failure="no") for i in (1, 2, 3))])
            is None
        )


@pytest.mark.parametrize("optimizer", [BLPO, OPRO])
def test_a_start_that_is_refused_too_many_images_ends_the_run_with_their_names(optimizer: Any) -> None:
    """There is nothing to compare with: that is said rather than a judge returned."""

    def squeamish(seen: Seen) -> Any:
        return REFUSAL if seen.fields == ["label"] and brightness(seen) % 4 == 3 else mind(seen)

    lm = world(squeamish)
    sets = {"trainset": TRAIN + VALIDATION[:20], "valset": VALIDATION}
    with pytest.raises(ModelError, match=r"failed for \d+ of \d+ examples \(example .*, …\).*against our policy"):
        optimizer(prompt_model=lm, task_model=lm, num_threads=4, max_failed_share=0.1).compile(student(), **sets)


@pytest.mark.slow
def test_images_that_are_refused_are_not_images_without_mistakes() -> None:
    """A judge that is refused whatever it would be wrong on isn't taken for one that is right."""

    def squeamish(seen: Seen) -> Any:
        hard = seen.fields == ["label"] and not validating(seen) and 20 < brightness(seen) <= 128
        return REFUSAL if hard else mind(seen)

    with pytest.raises(ModelError, match="against our policy"):
        found(squeamish)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*hardly pays")
@pytest.mark.parametrize("cap", [180, 220, 260])
def test_a_short_outage_costs_a_capped_run_no_validation(cap: int) -> None:
    """What it took is asked for again at once, not when the budget is spent."""
    failed: Counter[str] = Counter()

    def hiccup(seen: Seen) -> Any:
        if validating(seen) and not failed["start"]:
            failed["start"] += 1
            return dspy.lm15.ServerError("hiccup")
        return mind(seen)

    record = found(hiccup, rounds=8, budget=Budget(max_calls=cap))
    assert failed["start"] == 1
    assert record.before.agreement.failed == 0
    assert record.returned != record.start


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*hardly pays")
def test_a_validation_stands_without_the_few_images_that_keep_failing() -> None:
    """Within the allowed share the others say enough, whether or not the budget pays for a second attempt."""
    down = {example.image.url for example in VALIDATION[::7]}

    def failing(seen: Seen) -> Any:
        hit = validating(seen) and any(f"data:image/png;base64,{image}" in down for image in seen.images)
        return dspy.lm15.ServerError("down") if hit else mind(seen)

    record = found(failing, budget=Budget(max_calls=400), rounds=20, max_failed_share=0.4)
    assert record.ledger.total.calls <= 400
    assert [v.examples for v in record.validations] == [42, 42]
    assert all(0 < v.agreement.failed < 8 for v in record.validations)


@contextmanager
def validator(script: Any = mind, *, evidence: str = "image", **options: Any) -> Iterator[tuple[Validator, Run, Any]]:
    """Yields a validator over the validation images, its run, and what it has heard."""
    lm, heard = world(script, num_retries=0), list[Validation]()
    optimizer = BLPO(prompt_model=lm, task_model=lm, num_threads=1, **options)
    with Workers(1) as workers, Run(optimizer, student(evidence=evidence), TRAIN, VALIDATION, workers) as run:
        yield Validator(run, heard.append), run, heard


Q = "Describe this image in detail."


@pytest.mark.slow
def test_each_instructions_are_judged_once_and_stand_wherever_they_were_reached() -> None:
    """What an earlier validation measured costs a later one nothing."""
    start, later = Instructions("Bright is above 20", Q), Instructions("Bright is above 128", Q)
    with validator(evidence="both") as (found, run, heard):
        for after_round, instructions in ((0, start), (2, start), (3, later), (5, later), (5, start)):
            found.validate(after_round, instructions)
        measured = found.found
        assert (found.calls, found.each_pass) == (2 * 42, True)
        assert [v.spent for v in measured] == [2 * 42, 2 * 42, 3 * 42, 3 * 42]  # one description each
        assert run.meter.ledger.total.calls == 3 * 42
    assert [(v.after_round, v.instructions) for v in measured] == [(0, start), (2, start), (3, later), (5, later)]
    assert [v.instructions for v in heard] == [start, later]
    assert (measured[0].gain, measured[3].score, measured[3].refused) == (0.0, 1.0, "")
    assert measured[3].gain == pytest.approx(1.0 - measured[0].score)
    assert measured[0].parts["label dark"] == (21, pytest.approx(18 / 21))


def test_a_part_of_the_validation_set_has_as_many_of_each_label_as_it_can() -> None:
    """Under a cap on calls that doesn't pay for all."""
    with validator(budget=Budget(max_calls=120)) as (found, run, _):
        found.validate(0, run.start)
        (start,) = found.found
        assert (found.calls, found.each_pass, start.examples) == (6, False, 6)
    assert {part: n for part, (n, _) in start.parts.items()} == {"label dark": 3, "label bright": 3}
    with validator(budget=Budget(max_calls=10_000)) as (found, _, _):
        assert found.calls == 42


@pytest.mark.slow
def test_what_a_cap_cuts_short_is_not_measured() -> None:
    """Half a validation set would not be comparable."""
    with validator(budget=Budget(max_calls=50)) as (found, run, heard):
        found.validate(0, run.start)
        run.bench.judge(run.start, list(range(10)))
        for threshold in range(30, 70):
            found.validate(threshold, Instructions(f"Bright is above {threshold}", Q))
        assert 1 < len(found.found) < 41
        assert len(heard) == len(found.found)
    with validator(budget=Budget(max_calls=50)) as (found, run, heard):
        run.bench.judge(run.start, list(range(49)))
        with pytest.raises(BlpoError, match="the start was not judged on the validation images"):
            found.validate(0, run.start)
    assert not heard


@pytest.mark.slow
def test_later_instructions_that_fail_on_too_much_are_refused_and_the_start_ends_the_run() -> None:
    """With how many; within the allowed share the gain is that on the rest."""

    def squeamish(seen: Seen) -> Any:
        return REFUSAL if threshold(seen.instruction) > brightness(seen) else mind(seen)

    with validator(squeamish, max_failed_share=0.3) as (found, run, _):
        found.validate(0, run.start)
        found.validate(1, Instructions("Bright is above 60", Q))
        found.validate(2, Instructions("Bright is above 120", Q))
        _, some, many = found.found
    assert (some.refused, some.agreement.failed) == ("", 10)
    assert some.gain == 0.0
    assert (many.refused, many.gain) == ("the model failed for 20 of 42 examples", 0.0)
    with validator(squeamish, max_failed_share=0.3) as (found, run, _), pytest.raises(ModelError, match="20 of 42"):
        found.validate(0, Instructions("Bright is above 120", Q))


def test_parts_are_the_labels_and_the_groups_of_what_was_answered() -> None:
    """With the mean loss of each."""
    examples = [TRAIN[0].copy(group="a"), TRAIN[1].copy(group=""), TRAIN[2], TRAIN[3].copy(group="a")]
    losses = (0.0, 0.5, 1.0, None)
    judged = [
        Judgement(i, "dark", "dark", loss, failure="" if loss is not None else "no") for i, loss in enumerate(losses)
    ]
    assert parts_of(judged, examples, LABELS) == {"label dark": (3, 0.5), "group a": (1, 0.0)}


def test_agreement_leaves_out_what_the_model_failed_on_and_counts_it() -> None:
    """There is none without a closed set of labels."""
    judged = [
        Judgement(0, "dark", "dark", 0.0),
        Judgement(1, "bright", "dark", 1.0),
        Judgement(2, "dark", None, None, failure="no"),
        Judgement(3, "dark", None, 1.0),
    ]
    found = agreement_of(judged, LABELS)
    assert (found.n, found.failed, found.invalid) == (3, 1, 1)
    assert found.accuracy == pytest.approx(1 / 3)
    assert agreement_of(judged, None) is None


def test_a_guard_that_guards_nothing_is_said_before_anything_is_judged() -> None:
    """A warning where it guards a part, an error where it guards none."""
    with validator() as (found, run, _), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found.check(Guards(part_loss=0.1), "label")
        assert run.meter.ledger.total.calls == 0
    with validator(budget=Budget(max_calls=120)) as (found, _, _), pytest.raises(BlpoError, match="guards nothing"):
        found.check(Guards(part_loss=0.1), "label")
    with validator(budget=Budget(max_calls=290)) as (found, _, _):
        assert found.calls == 19
        with pytest.warns(UserWarning, match=r"have label (dark|bright) \(9\)"):
            found.check(Guards(part_loss=0.1), "label")


def test_the_parts_of_a_set_of_scores_are_its_bins() -> None:
    """The same ones whatever the judge said, failed calls included."""
    data = [dspy.Example(label=10.5 * i, group="a" if i % 2 else None) for i in range(10)]
    judgements = [Judgement(i, e.label, 0, e.label / 100) for i, e in enumerate(data)]
    labels = LabelSpace.scores(0, 100)
    parts = parts_of(judgements, data, labels)
    assert list(parts) == [
        "label 0–10.5",
        "group a",
        "label 21–31.5",
        "label 42–52.5",
        "label 63–73.5",
        "label 84–94.5",
    ]
    assert parts["label 21–31.5"] == (2, pytest.approx(0.2625))
    failed = [Judgement(i, j.label, None, None, failure="down") if i < 3 else j for i, j in enumerate(judgements)]
    assert set(parts_of(failed, data, labels)) < set(parts)


def answering(*pairs: tuple[str, str | None], labels: LabelSpace = LABELS) -> Validation:
    """A validation of people's labels and the judge's."""
    judged = [Judgement(i, label, said, float(label != said)) for i, (label, said) in enumerate(pairs)]
    return Validation(0, Instructions("p", "q"), 0.5, len(pairs), agreement_of(judged, labels))


PEOPLE = ["dark"] * 9 + ["bright"]
BOTH, DARK = answering(*zip(PEOPLE, PEOPLE, strict=True)), answering(*((label, "dark") for label in PEOPLE))


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (BOTH, DARK, True),
        (BOTH, answering(*((label, None if i else "dark") for i, label in enumerate(PEOPLE))), True),
        (BOTH, BOTH, False),
        (DARK, DARK, False),
        (BOTH, answering(*[("dark", "dark")] * 10), False),
        (BOTH, answering(*((label, "dark") for label in PEOPLE[1:])), False),
        (BOTH, None, False),
        (None, DARK, False),
    ],
)
def test_a_judge_has_lost_labels_if_it_gives_one_where_it_gave_several(before: Any, after: Any, lost: bool) -> None:
    """On ten examples or more, of which people give several; answers without a label are none."""
    assert (lost_labels(before, after) is not None) == lost
