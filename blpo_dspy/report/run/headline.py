"""The result of a run in a sentence, a few numbers, and the evidence for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from blpo_dspy.agreement.intervals import BETTER, NO_CHANGE, WORSE, Difference, PairedComparison
from blpo_dspy.models.lm import is_embedded
from blpo_dspy.report.numbers import figure, p_value
from blpo_dspy.report.run.figure_table import IntervalEstimate, estimates, right_in_words
from blpo_dspy.report.run.measured import FOLDS, VALIDATION, WHEN, Measured

Tone = Literal["good", "bad", "none"]


@dataclass(frozen=True)
class Shown:
    """A number with its interval, ready to read, and of how many it is, "" for a share."""

    value: str
    interval: str = ""
    of: str = ""


@dataclass(frozen=True)
class Headline:
    """The result in a sentence.

    Attributes:
        tone: What its colour says.
        title: The result in a few words.
        figures: The start's and the compiled judge's, None where there is nothing to set side by side.
        measure: What they are.
        sentences: What stands behind it.
    """

    tone: Tone
    title: str
    figures: tuple[Shown, Shown] | None
    measure: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Unit:
    """How a figure is written: its factor, least digits, the sign behind a value, and the word behind a change."""

    factor: float
    digits: int
    sign: str
    word: str


_PERCENT = _Unit(100, 0, "%", "points")


def models_and_day(models: Mapping[str, str], on: str) -> str:
    """Returns in one line the models of a run by role and its day, as far as that is known."""
    roles: dict[str, list[str]] = {}
    for role, name in models.items():
        roles.setdefault(name, []).append(role)
    named = [name if len(roles) == 1 else f"{name} ({', '.join(of)})" for name, of in roles.items()]
    offline = ["offline engine, not a multimodal LLM"] if any(map(is_embedded, models.values())) else []
    return " · ".join([", ".join(named), *offline, *filter(None, [on])])


def headline_of(measured: Measured) -> Headline:
    """Returns the headline of what a run measured."""
    paired = measured.paired
    if paired is None:
        return _not_compared(measured)
    title, tone = _verdict(paired, _rightly(measured))
    exact = paired.differences["accuracy"]
    digits = _digits(exact, _PERCENT)
    first, last = (estimates(measured.both[when], measured.seed)["accuracy"] for when in WHEN)
    if not measured.labels.ordered:
        figures = (_shown(first, _PERCENT, digits), _shown(last, _PERCENT, digits))
        images = f"{measured.where.images} judged {right_in_words(measured.labels)}{_by_whom(measured)}"
        return Headline(tone, title, figures, f"of the {images}", tuple(_sentences(measured, paired)))
    counts = _counted(first, paired.n), _counted(last, paired.n)
    exactly = "exactly " if measured.labels.kind == "ordinal" else ""
    lead = f"judged {exactly}{right_in_words(measured.labels)}: {counts[0].value} → {counts[1].value} of {paired.n:,}"
    measure = f"{lead} ({_distance(measured, paired)}), on the {measured.where.images}{_by_whom(measured)}"
    return Headline(tone, title, counts, measure, tuple(_sentences(measured, paired)))


def _not_compared(measured: Measured) -> Headline:
    """Where no image was answered by both judges; figures of the validation set are shown as what they are."""
    images = measured.where.images
    if measured.where is not VALIDATION:
        reason = (
            f"The {measured.n:,} {images} were judged, but on none of them did the model answer both before and after, "
            "so there is nothing to compare."
        )
        return Headline("none", "Nothing could be compared", None, "", (reason,))
    title, before, after = "Not measured on sealed test images", *(_accuracy(measured, when) for when in WHEN)
    if before is None or after is None:
        return Headline("none", title, None, "", ("Neither test nor validation figures were recorded.",))
    reason = (
        "The sealed test set was not judged, so these figures come from the validation set. The judge was picked on "
        "that set, which flatters it: they are no evidence of a gain on new images."
    )
    return Headline(
        "none", title, (before, after), f"of the {images} judged {right_in_words(measured.labels)}", (reason,)
    )


def _accuracy(measured: Measured, when: str) -> Shown | None:
    found = estimates(measured.agreements[when], measured.seed).get("accuracy")
    return None if found is None else _shown(found, _PERCENT, 0)


def _digits(difference: Difference, unit: _Unit) -> int:
    change = IntervalEstimate(difference.change, difference.interval).times(unit.factor)
    return change.digits(unit.digits)


def _shown(estimate: IntervalEstimate, unit: _Unit, digits: int) -> Shown:
    scaled = estimate.times(unit.factor)
    return Shown(f"{figure(scaled.value, digits)}{unit.sign}", scaled.ends(digits, unit.sign))


def _verdict(paired: PairedComparison, rightly: str) -> tuple[str, Tone]:
    """Title and tone; on a scale judges can come nearer to people and yet agree with them less often."""
    exact = _exactly(paired)
    if paired.verdict == BETTER and exact == WORSE:
        return f"Nearer to people, but {rightly} less often", "none"
    if paired.verdict == WORSE and exact == BETTER:
        return f"Farther from people, but {rightly} more often", "none"
    if paired.verdict == BETTER:
        return "Agrees with people better than before", "good"
    if paired.verdict == WORSE:
        return "Agrees with people less than before", "bad"
    return "Not distinguishable from no change", "none"


def _exactly(paired: PairedComparison) -> str:
    """The verdict on exactly right answers, by the rule of the main one."""
    change = paired.differences["accuracy"]
    interval = change.interval
    if interval.low <= 0 <= interval.high or paired.mcnemar_p > 1 - interval.level:
        return NO_CHANGE
    return BETTER if change.change > 0 else WORSE


def _rightly(measured: Measured) -> str:
    """What a right answer on a scale is, in a word or two."""
    return "within the tolerance" if measured.labels.kind == "scores" else "exactly right"


def _by_whom(measured: Measured) -> str:
    return ", each judged by a judge that never saw it" if measured.where is FOLDS else ""


def _counted(exact: IntervalEstimate, n: int) -> Shown:
    """How many of the images a share is, with its interval in images."""
    scaled = exact.times(n)
    return Shown(f"{scaled.value:,.0f}", scaled.ends(0), f"of {n:,}")


def _distance(measured: Measured, paired: PairedComparison) -> str:
    """The mean distance from the human rating, on a scale; the figure that the verdict is about."""
    unit = _levels(measured)
    change = paired.differences[paired.headline]
    digits = _digits(change, unit)
    before, after = (figure(unit.factor * value, digits) for value in (change.before, change.after))
    lost = any(measured.both[when].invalid for when in WHEN)
    without = (
        f", where an answer without a label counts as {measured.labels.span} {measured.labels.unit}" if lost else ""
    )
    return f"mean distance {before} → {after}{without}"


def _levels(measured: Measured) -> _Unit:
    return _Unit(measured.labels.span, 2, "", measured.labels.unit)


def _sentences(measured: Measured, paired: PairedComparison) -> Iterator[str]:
    scale = measured.labels.ordered
    unit, lead = (_levels(measured), "Mean distance: change ") if scale else (_PERCENT, "Change ")
    yield (
        f"{lead}{_change(paired.differences[paired.headline], unit)}; exact paired test {p_value(paired.p_value)}."
        + (
            " An interval or test that allows for no change is no evidence of one."
            if paired.verdict == NO_CHANGE
            else ""
        )
    )
    if scale:
        rightly = _rightly(measured)
        yield f"{rightly[:1].upper()}{rightly[1:]}: change {_change(paired.differences['accuracy'], _PERCENT)}."
    yield f"Of {paired.n:,} images, {paired.fixed:,} were fixed and {paired.broken:,} broken."
    failed = measured.n - paired.n
    if failed:
        yield f"{failed:,} of {measured.n:,} images could not be compared: the model failed."
    without = [measured.both[when].invalid for when in WHEN]
    if without[0] != without[1]:
        yield f"Answers without a label: {without[0]:,} before, {without[1]:,} after."
    if measured.where is FOLDS:
        yield "These are judges compiled alike, each on the other folds; the judge that was saved saw all images."


def _change(difference: Difference, unit: _Unit) -> str:
    change, digits = (
        IntervalEstimate(difference.change, difference.interval).times(unit.factor),
        _digits(difference, unit),
    )
    value, ends = figure(change.value, digits, signed=True), change.ends(digits, signed=True)
    return f"{value} {unit.word}; {difference.interval.level:.0%} interval {ends}"
