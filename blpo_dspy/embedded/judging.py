"""The judge's role: evidence and an instruction's weights become a label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from blpo_dspy.embedded.reading import vocabulary
from blpo_dspy.embedded.reading.cases import deciding, read_cases
from blpo_dspy.embedded.reading.pictures import beyond_original, difference, named_images, pair_labels, sections
from blpo_dspy.embedded.reading.request import OutputField, Reading, without_images
from blpo_dspy.embedded.reading.vocabulary import ranked
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.senses import Senses, present
from blpo_dspy.embedded.sight.settings import Setting, read_setting

_RANGE = re.compile(
    r"(?:from|between|scale(?: of)?:?|number|rating|rate|integer|\()?\s*\b(-?\d{1,3})\b(?:\s*\([^)]{1,40}\))?\s*"
    r"(?:to|and|-|–|—|through)\s*\b(\d{1,3})\b",
    re.IGNORECASE,
)
_NUMERAL = r"(-?\d{1,6}(?:\.\d{1,6})?)"
_SCORES = re.compile(rf"\bnumber from {_NUMERAL} to {_NUMERAL} \((?:decimals are allowed|in steps of {_NUMERAL})\)")
_SCORES_IN_ALL, _MOST_SCORES = 1000, 10_000
# With more numbers than that people no longer think in single ones: a fifth of the range is a level to them.
_MOST_LEVELS = 20
_CHOICE = re.compile(
    r"[\"'`‘“]([\w -]{1,30})[\"'`’”]\s*(?:,|or|/)+\s*(?:or )?[\"'`‘“]([\w -]{1,30})[\"'`’”]", re.IGNORECASE
)
_BARE_CHOICE = re.compile(
    r"\b(keep|reject|safe|unsafe|yes|no|good|bad|match|mismatch|real|fake|pass|fail|accept)\s*(?:or|/|,)\s*"
    r"(keep|reject|safe|unsafe|yes|no|good|bad|match|mismatch|real|fake|pass|fail|accept)\b",
    re.IGNORECASE,
)
CLOSE = 0.125
"""Two pictures whose flaws weigh less apart are equally good: half a level of five."""

_REPORTS = re.compile(r"descri|caption|report|observ|evidence|verbal|notes?$", re.IGNORECASE)


def scale_of(field: OutputField, reading: Reading) -> tuple[Any, ...]:
    """Returns the labels that a request offers, from worst to best; 1 to 5 where it says nothing.

    Of two pictures they are from that for the second to that for the first.
    """
    if pair := pair_labels(field.desc):
        return (pair[1], *pair[2:], pair[0])
    options = field.options()
    if options:
        return options if all(isinstance(x, int) for x in options) else ranked(options)
    if field.type == "bool":
        return (False, True)
    found = [scale_in(text) for text in (field.desc, reading.objective, without_images(reading.text))]
    return next(filter(None, [listed_in(field.desc), *found]), (1, 2, 3, 4, 5))


def listed_in(text: str) -> tuple[Any, ...]:
    """Returns the labels that a field's description lists after its colon, from worst to best, or ()."""
    listing = text.rsplit(":", 1)[-1]
    ordered = "(lowest to highest)" in listing
    names = [name.strip(" .`'\"") for name in listing.replace("(lowest to highest)", "").split(",")]
    if len(names) < 2 or "\n" in listing or not all(0 < len(name) <= 40 for name in names):
        return ()
    return tuple(names) if ordered else ranked(names)


@lru_cache(maxsize=1024)
def scale_in(text: str) -> tuple[Any, ...]:
    """Returns the scale or the choice that a text states, from worst to best, or ()."""
    match = _SCORES.search(text)
    if match:
        return _scores(float(match[1]), float(match[2]), float(match[3] or 0))
    match = _RANGE.search(text)
    if match and int(match[1]) < int(match[2]) <= int(match[1]) + 100:
        return tuple(range(int(match[1]), int(match[2]) + 1))
    match = _CHOICE.search(text) or _BARE_CHOICE.search(text)
    return ranked([match[1].strip(), match[2].strip()]) if match else ()


def _scores(low: float, high: float, step: float) -> tuple[float, ...]:
    """The numbers of a range, in its steps; where it has none, as fine as the engine can tell."""
    steps = min(round((high - low) / step) if step > 0 else _SCORES_IN_ALL, _MOST_SCORES)
    found = [round(low + (high - low) * i / steps, 9) for i in range(steps + 1)] if steps > 0 else []
    return tuple(int(number) if number.is_integer() else number for number in found)


def level_in(scale: Sequence[Any]) -> float:
    """Returns by how much labels differ that are a level apart: 1, but for scores a quarter of the range."""
    numbers = all(isinstance(label, (int, float)) for label in scale)
    if not numbers or (len(scale) <= _MOST_LEVELS and all(isinstance(label, int) for label in scale)):
        return 1.0
    return float(scale[-1] - scale[0]) / 4


def evidence(reading: Reading, senses: Senses) -> dict[str, int]:
    """Returns the levels that the judge uses: what it sees, complemented by what a description reports.

    Of several named pictures those of the edited one are what the original doesn't have.
    """
    several = _of_several(reading, senses)
    if several:
        return beyond_original(several)
    images = [image for image in reading.images if image is not None]
    return _levels(images[-1] if images else None, _description(reading, bool(images)), reading, senses)


def _of_several(reading: Reading, senses: Senses) -> dict[str, dict[str, int]]:
    """The levels of each named picture of a request, or of each that its description reports about."""
    images = named_images(reading)
    reports = sections(_description(reading, bool(reading.images)))
    return {n: _levels(images.get(n), reports.get(n, ""), reading, senses) for n in images or reports}


def _levels(image: bytes | None, report: str, reading: Reading, senses: Senses) -> dict[str, int]:
    described = vocabulary.read_levels(report)
    if image is None:
        return present(described)
    traits = senses.traits
    rng = senses.rng(reading.seed, "judge", reading.objective, image)
    attention, noise = 1 - traits.judging_misses, traits.judging_noise
    seen = senses.look(image, rng, attention=attention, noise=noise, crowd=reading.images_in_all)
    return _joined(present(seen), described)


def setting(reading: Reading, senses: Senses) -> Setting:
    """Returns what else the picture shows: as the judge sees it, else as a description has it."""
    images = [image for image in reading.images if image is not None]
    return senses.perception(images[-1]).setting if images else read_setting(_description(reading, has_image=False))


def _joined(seen: Mapping[str, int], described: Mapping[str, int]) -> dict[str, int]:
    """What is seen, and what is described as well; a slight flaw on which the two disagree is taken for an error."""
    kept = {flaw: level for flaw, level in seen.items() if level > 1 or described.get(flaw, 1)}
    return {**{flaw: level for flaw, level in described.items() if level > 1}, **kept}


def _description(reading: Reading, has_image: bool) -> str:
    """What the request reports about the picture; without picture and report, whatever it says of it."""
    reports = [text for name, text in reading.inputs.items() if _REPORTS.search(name)]
    if not reports and not has_image:
        reports = list(reading.inputs.values()) or [vocabulary.without_cases(reading.text)]
    return without_images("\n".join(reports))


def judge(field: OutputField, reading: Reading, senses: Senses) -> Any:
    """Returns the label for the picture or description of a request, one of those that it offers.

    Of a picture that was not sent with the request it says so, and states no label.
    """
    unseen = bool(reading.images) or vocabulary.UNSEEN in _description(reading, has_image=False)
    named = named_images(reading)
    if (unseen and not any(reading.images)) or not all(named.values()):
        return f"{vocabulary.UNSEEN}, so it gets none of the labels."
    pair = pair_labels(field.desc)
    if pair:
        return _preferred(pair, reading, senses)
    scale, levels = scale_of(field, reading), evidence(reading, senses)
    cases = read_cases(reading.objective)
    case = deciding(cases, levels, setting(reading, senses)) if cases else None
    stated = None if case is None else _of_scale(scale, case.label)
    return scale[position(len(scale), levels, reading.objective, senses.traits.prior)] if stated is None else stated


def _preferred(labels: tuple[str, ...], reading: Reading, senses: Senses) -> str:
    """The label of a pair: for the picture whose flaws weigh less, a little in favour of one place."""
    several = _of_several(reading, senses)
    levels = difference(several) if len(several) > 1 else {}
    excess = weighed(levels, reading.objective, senses.traits.prior) - senses.favour_of_first()
    return labels[(1, 2, 0)[place_of_pair(excess, ties=len(labels) > 2) + 1]]


def place_of_pair(excess: float, *, ties: bool) -> int:
    """Returns which picture of a pair is better, 1 the first, −1 the second, 0, with `ties`, neither.

    The excess is what the flaws of the first weigh more than those of the second.
    """
    if ties and abs(excess) < CLOSE:
        return 0
    return -1 if excess > 0 else 1


def _of_scale(scale: tuple[Any, ...], name: str) -> Any:
    """The label of this name, of scores the nearest; None if there is none."""
    if level_in(scale) != 1 and re.fullmatch(_NUMERAL, name.strip()):
        return min(scale, key=lambda score: abs(score - float(name)))
    return next((label for label in scale if str(label).casefold() == name.strip().casefold()), None)


def position(n: int, levels: Mapping[str, int], instruction: str, prior: float) -> int:
    """Returns the position on a scale of n labels, from worst to best, at which an instruction's weights put levels."""
    return round((n - 1) * (1 - min(1.0, weighed(levels, instruction, prior))))


def weighed(levels: Mapping[str, int], instruction: str, prior: float) -> float:
    """Returns what levels weigh together by an instruction; those of a difference may be negative."""
    weights = vocabulary.read_weights(instruction)
    stated = {flaw: level for flaw, level in levels.items() if flaw in weights}
    unstated = {f: level for f, level in levels.items() if f not in weights and abs(level) >= flaws.LEVELS - 1}
    return flaws.severity_sum(stated, weights) + flaws.severity_sum(unstated, dict.fromkeys(unstated, prior))


def reasons(reading: Reading, senses: Senses) -> str:
    """Returns the evidence that decides, in words."""
    several = _of_several(reading, senses)
    paired = any(pair_labels(field.desc) for field in reading.outputs) and len(several) > 1
    levels = difference(several) if paired else evidence(reading, senses)
    if not levels:
        return "No flaw that would count against the picture is visible."
    weights = vocabulary.read_weights(reading.objective)
    worst: Sequence[str] = sorted(levels, key=lambda flaw: -weights.get(flaw, senses.traits.prior) * abs(levels[flaw]))
    degrees = ("", "slight", "moderate", "severe")
    return f"What decides is {vocabulary.listed(f'{degrees[abs(levels[flaw])]} {flaw}' for flaw in worst[:3])}."
