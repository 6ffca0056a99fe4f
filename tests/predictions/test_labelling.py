"""A judge at work on many images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from engines import Seen, scripted_lm

from blpo_dspy.agreement.verdicts import Verdict, agreement_of
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.labelling import inputs_of, label_each, label_images
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers

LABELS = LabelSpace("keep", "reject")


def picture(number: int) -> str:
    """A reference to an image that nobody fetches."""
    return f"https://pictures.example/{number}.png"


def run(script: Callable[[Seen], Any], count: int, *, evidence: str = "image", threads: int = 4, **options: Any) -> Any:
    """The verdicts on so many pictures by a scripted judge."""
    lm = scripted_lm(script, num_retries=options.pop("retries", 0))
    judge = VisualJudge(LABELS, instruction="Keep or reject.", evidence=evidence)
    inputs = [{"image": picture(number)} for number in range(count)]
    with Workers(threads) as workers:
        meter = options.pop("meter", None) or Meter(num_threads=threads)
        return label_images(judge, Models(lm, lm, lm), inputs, workers=workers, meter=meter, **options)


def number_of(seen: Seen) -> int:
    """Which picture a request shows."""
    return int(seen.images[0].rpartition("/")[2].partition(".")[0])


@pytest.mark.parametrize("threads", [1, 8])
def test_verdicts_come_in_the_order_of_the_images(threads) -> None:
    """Whatever order the calls end in; `done` sees the same order."""
    shown: list[Verdict] = []
    verdicts = run(lambda seen: "keep" if number_of(seen) % 2 else "reject", 20, threads=threads, done=shown.append)
    assert [verdict.label for verdict in verdicts] == ["reject", "keep"] * 10
    assert shown == verdicts


def test_a_refused_image_and_an_answer_without_a_label_stay_with_their_image() -> None:
    """Neither ends the run; they are distinguished."""

    def script(seen: Seen) -> Any:
        return {2: lm15.InvalidRequestError("too violent"), 3: "no idea"}.get(number_of(seen), "keep")

    verdicts = run(script, 6)
    assert [verdict.label for verdict in verdicts] == ["keep", "keep", None, None, "keep", "keep"]
    assert "too violent" in verdicts[2].failure
    assert (verdicts[3].answer, verdicts[3].failure) == ("no idea", "")


def test_the_description_is_kept_where_the_judge_has_one() -> None:
    """As `blpo judge --json` shows it."""
    verdicts = run(lambda seen: "a dark room" if seen.fields == ["description"] else "keep", 2, evidence="both")
    assert [verdict.description for verdict in verdicts] == ["a dark room"] * 2


def test_a_server_that_is_down_from_the_start_is_asked_a_few_times_only() -> None:
    """One message instead of a failure for each of a thousand images."""
    asked: list[int] = []
    shown: list[Verdict] = []

    def script(seen: Seen) -> Any:
        asked.append(number_of(seen))
        return lm15.TransportError("connection refused")

    with pytest.raises(ModelError, match=r"first 4 images: .*connection refused"):
        run(script, 1000, threads=2, done=shown.append)
    assert sorted(asked) == [0, 1, 2, 3]
    assert not shown


def test_a_refused_key_ends_it_with_one_message() -> None:
    """No further call could mend it."""
    with pytest.raises(ModelError, match=r"cannot be used.*bad key"):
        run(lambda seen: lm15.AuthError("bad key"), 10)


@pytest.mark.slow
def test_inputs_are_taken_as_their_turn_comes() -> None:
    """A few for each thread ahead of the verdicts, so that a thousand images never lie in memory."""
    taken: list[int] = []
    shown: list[Verdict] = []
    ahead: list[int] = []

    def inputs() -> Iterator[dict[str, Any]]:
        for number in range(100):
            taken.append(number)
            ahead.append(len(taken) - len(shown))
            yield {"image": picture(number)}

    lm = scripted_lm(lambda seen: "keep" if number_of(seen) % 2 else "reject")
    judge = VisualJudge(LABELS, instruction="Keep or reject.", evidence="image")
    with Workers(2) as workers:
        label_each(judge, Models(lm, lm, lm), inputs(), workers=workers, meter=Meter(num_threads=2), done=shown.append)
    assert [verdict.label for verdict in shown] == ["reject", "keep"] * 50
    assert max(ahead) <= 4 * 2


def test_an_image_that_cannot_be_read_is_its_own_failure(tmp_path: Path) -> None:
    """Among the first ones, too, where nothing was answered yet."""
    lm = scripted_lm(lambda seen: "keep")
    judge = VisualJudge(LABELS, instruction="Keep or reject.", evidence="image")
    inputs = [{"image": tmp_path / f"{number}.png"} for number in range(5)] + [{"image": picture(1)}]
    with Workers(2) as workers:
        verdicts = label_images(judge, Models(lm, lm, lm), inputs, workers=workers, meter=Meter(num_threads=2))
    assert [verdict.failure for verdict in verdicts] == ["no such file"] * 5 + [""]
    assert verdicts[5].label == "keep"
    assert not any(verdict.outage for verdict in verdicts)


@pytest.mark.slow
def test_a_server_that_falls_silent_in_the_middle_ends_it() -> None:
    """After some rounds of failures on all threads; single failures in between don't add up to that."""

    def flaky(seen: Seen) -> Any:
        return lm15.ServerError("down") if number_of(seen) % 3 else "keep"

    assert sum(bool(verdict.failure) for verdict in run(flaky, 60, threads=2)) == 40

    def silent(seen: Seen) -> Any:
        return lm15.ServerError("down") if number_of(seen) > 10 else "keep"

    shown: list[Verdict] = []
    with pytest.raises(ModelError, match="failed for 7 images in a row"):
        run(silent, 1000, threads=2, done=shown.append)
    assert len(shown) == 17


def test_agreement_counts_failures_apart_from_answers() -> None:
    """A failed call is not a wrong answer."""

    def script(seen: Seen) -> Any:
        return {1: lm15.InvalidRequestError("no"), 2: "??"}.get(number_of(seen), "keep")

    lm = scripted_lm(script, num_retries=0)
    examples = [dspy.Example(image=picture(n), label="keep").with_inputs("image") for n in range(6)]
    judge = VisualJudge(LABELS, instruction="Keep or reject.", evidence="image")
    with Workers(2) as workers:
        meter = Meter(num_threads=2)
        verdicts = label_images(judge, Models(lm, lm, lm), inputs_of(examples), workers=workers, meter=meter)
        agreement = agreement_of(judge.labels, examples, verdicts)
    assert (agreement.n, agreement.failed, agreement.invalid, agreement.accuracy) == (5, 1, 1, 0.8)
    assert meter.ledger.calls() == {"judge": 6, "verbalizer": 0, "optimizer": 0, "cached": 0}
    assert judge.judge.lm is None, "the caller's judge got an LM"


@pytest.mark.slow
def test_a_model_that_refuses_every_image_is_not_asked_about_all() -> None:
    """After twenty refusals from the first image on it isn't the images; one answer among them, and it may be."""
    asked: list[int] = []

    def script(seen: Seen) -> Any:
        asked.append(number_of(seen))
        return lm15.InvalidRequestError("no such model")

    with pytest.raises(ModelError, match=r"refused every one of the first 20 images: .*no such model"):
        run(script, 120, threads=2)
    assert len(asked) <= 20 + 4 * 2
    mixed = run(lambda seen: "keep" if number_of(seen) == 19 else lm15.InvalidRequestError("too violent"), 120)
    assert [n for n, verdict in enumerate(mixed) if not verdict.failure] == [19]
    few = run(lambda seen: lm15.InvalidRequestError("too violent"), 19)
    assert [verdict.refused for verdict in few] == [True] * 19


def pair_verdicts(orders: str, labels: LabelSpace) -> tuple[list[Verdict], int]:
    """Verdicts on three pairs by a judge that prefers the first image of pair 1, and the calls they took."""

    def script(seen: Seen) -> Any:
        first, second = (int(image.rpartition("/")[2].partition(".")[0]) for image in seen.images)
        if {first, second} == {40, 41}:
            return lm15.InvalidRequestError("too violent") if first == 41 else "A"
        return "A" if {first, second} == {10, 11} or first > second else "B"

    lm = scripted_lm(script, num_retries=0)
    judge = VisualJudge(labels, instruction="Which is larger?", images=("left", "right"), evidence="image")
    inputs = [{"left": picture(a), "right": picture(a + 1)} for a in (10, 20, 40)]
    with Workers(2) as workers:
        meter, models = Meter(num_threads=2), Models(lm, lm, lm)
        verdicts = label_images(judge, models, inputs, workers=workers, meter=meter, orders=orders)
    return verdicts, meter.ledger.total.calls


def test_pairs_are_judged_in_both_orders() -> None:
    """A pair whose label changes with the order is neither a failed call nor an answer without a label."""
    labels = LabelSpace.pairwise("A", "B")
    verdicts, calls = pair_verdicts("both", labels)
    assert [(v.label, v.inconsistent, v.invalid) for v in verdicts[:2]] == [(None, True, False), ("B", False, False)]
    assert verdicts[2].refused
    assert verdicts[2].inconsistent is None
    assert calls == 6
    agreement = agreement_of(labels, [dspy.Example(label="B")] * 3, verdicts)
    assert (agreement.n, agreement.invalid, agreement.failed, agreement.unlabelled) == (2, 0, 1, 1)
    assert (agreement.accuracy, agreement.flip_rate) == (0.5, 0.5)


def test_one_order_costs_one_call_a_pair() -> None:
    """And nothing is known of the other."""
    verdicts, calls = pair_verdicts("one", LabelSpace.pairwise("A", "B", tie="tie"))
    assert [verdict.label for verdict in verdicts] == ["A", "B", "A"]
    assert calls == 3
    agreement = agreement_of(LabelSpace.pairwise("A", "B", tie="tie"), [dspy.Example(label="B")] * 3, verdicts)
    assert (agreement.flips, agreement.flip_rate) == (None, None)
    assert "flips" not in agreement.to_dict()
