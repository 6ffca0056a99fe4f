"""The optimizer's role, boldly: everything that a prompt shows is corrected at once, if need be by rules for one case.

That is what a strong model does with few examples: its rules fit them all, and hold for few other pictures. A prompt
that asks for rules which several mistakes share is obeyed as far as `Traits.obedience` goes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from blpo_dspy.embedded.judging import place_of_pair, position, weighed
from blpo_dspy.embedded.reading import vocabulary
from blpo_dspy.embedded.reading.cases import Case, own_cases, write_cases
from blpo_dspy.embedded.reading.evidence import Mistake
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.senses import Traits
from blpo_dspy.embedded.sight.settings import DETAIL, HUE, SIDE, TONE

STEP = 0.125
_PULL = 0.3
"""How strongly the fit is held to the present weights, relative to a mistake with one severe flaw, which counts 1."""
_NEAR = 0.25
"""A fit that is off by so little, as a part of the range, puts a picture right: of five labels a level, of two none."""
_GOOD_FIT, _MOST_OF_THE_WAY, _LITTLE_OF_THE_WAY = 0.7, 0.9, 0.1
_SCENE, _FURTHER = (DETAIL, SIDE), (TONE, HUE)
_SAID = 0.9
"""Probability that a rule names a trait in addition to the scene that it could do without."""
_WORST_FLAWS = 2
_SHARED_WEIGHT, _SHARED_CASE = 2, 3
_MOST_CASES, _MOST_CASES_OBEYING = 40, 6
_ASKS_FOR_SHARED = re.compile(
    r"\b(?:several|at least (?:two|three)|(?:two|three) or more|more than one)(?: of (?:the|its|these))?"
    r" (?:mistakes|errors|cases|images|pictures|examples)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_WORD_LIMIT = re.compile(r"\b(?:at most|no more than|not more than|up to) (\d{2,5}) words\b", re.IGNORECASE)


@dataclass(frozen=True)
class Shown:
    """A picture in the prompt: what is reported of it, people's label, and its place on the scale."""

    mistake: Mistake
    label: str
    place: int

    def contradicts(self, case: Case) -> bool:
        """Whether a rule gives this picture another label."""
        return case.label != self.label and case.applies(self.mistake.levels, self.mistake.setting)


def placed(found: Sequence[Mistake], scale: Sequence[object]) -> list[Shown]:
    """Returns the pictures of which the prompt states people's label, one of a scale from worst to best."""
    places = {str(label).casefold(): (str(label), i) for i, label in enumerate(scale)}
    labelled = [(mistake, places.get((mistake.label or "").casefold())) for mistake in found]
    return [Shown(mistake, *place) for mistake, place in labelled if place is not None]


def corrected(
    current: str, shown: Sequence[Shown], size: int, prompt: str, traits: Traits, rng: random.Random
) -> str | None:
    """Returns the instruction with what the shown pictures teach; None where none of them is a mistake.

    Right judgements are shown, too. `size` is the number of labels, `prompt` what is demanded.
    """
    wrong = [one for one in shown if one.mistake.too_high]
    if not wrong or size < 2:
        return None
    obedience = traits.obedience if _ASKS_FOR_SHARED.search(prompt) else 0.0
    rest, old = own_cases(current)
    weights = _fitted(rest, shown, wrong, size, obedience, traits.prior, rng)
    of_pairs = any(one.mistake.pair for one in shown)
    cases = old if of_pairs else _cases(wrong, shown, old, obedience, rng)
    return _written(rest, cases, weights, _WORD_LIMIT.findall(prompt))


def _written(rest: str, cases: Sequence[Case], weights: Mapping[str, float], limits: Sequence[str]) -> str:
    """The instruction in words; the oldest rules go where it would be longer than the prompt allows."""
    body, kept = vocabulary.without_weights(rest), list(cases)
    stated = vocabulary.write_weights({**vocabulary.own_weights(rest), **weights})
    while True:
        text = vocabulary.joined(body, write_cases(kept), stated)
        if not kept or all(len(_WORD.findall(text)) <= int(limit) for limit in limits):
            return text
        kept.pop()


def _fitted(
    rest: str,
    shown: Sequence[Shown],
    wrong: Sequence[Shown],
    size: int,
    obedience: float,
    prior: float,
    rng: random.Random,
) -> dict[str, float]:
    """New weights of the flaws described: least squares on the loss of levels that people's labels stand for."""
    counts = {flaw: sum(flaw in one.mistake.blamed for one in wrong) for flaw in flaws.FLAWS}
    moved = [f for f, n in counts.items() if n >= _SHARED_WEIGHT or (n and rng.random() >= obedience)]
    if not moved:
        return {}
    stated = vocabulary.read_weights(rest)
    severities = np.array([[one.mistake.levels.get(f, 0) / flaws.LEVELS for f in flaws.FLAWS] for one in shown])
    present = np.array([stated.get(flaw, prior) for flaw in flaws.FLAWS])
    columns = [flaws.FLAWS.index(flaw) for flaw in moved]
    wanted = np.array([_badness(one, size) for one in shown]) - severities @ present
    a = severities[:, columns]
    change = np.linalg.solve(a.T @ a + _PULL * np.eye(len(columns)), a.T @ wanted)
    fit = {flaw: _stepped(present[c] + d) for flaw, c, d in zip(moved, columns, change, strict=True)}
    text = vocabulary.reweighted(rest, fit)
    hits = [abs(_placed(one, size, text, prior) - one.place) <= _NEAR * (size - 1) for one in shown]
    way = _MOST_OF_THE_WAY if sum(hits) >= _GOOD_FIT * len(hits) else _LITTLE_OF_THE_WAY
    return {flaw: _stepped(present[c] + way * d) for flaw, c, d in zip(moved, columns, change, strict=True)}


def _badness(one: Shown, size: int) -> float:
    """What the flaws of a picture should weigh; of a pair those of the first beyond those of the second."""
    goodness = one.place / (size - 1)
    return 0.5 - goodness if one.mistake.pair else 1 - goodness


def _placed(one: Shown, size: int, instruction: str, prior: float) -> int:
    """The place on the scale at which an instruction puts what is shown."""
    if not one.mistake.pair:
        return position(size, one.mistake.levels, instruction, prior)
    better = place_of_pair(weighed(one.mistake.levels, instruction, prior), ties=size > 2)
    return (better + 1) * (size - 1) // 2


def _stepped(weight: float) -> float:
    return min(1.0, max(0.0, round(weight / STEP) * STEP))


def _cases(
    wrong: Sequence[Shown], shown: Sequence[Shown], old: Sequence[Case], obedience: float, rng: random.Random
) -> list[Case]:
    """The rules from now on, the newest first: none that gives a picture of the prompt another label than people."""
    new: list[Case] = []
    for one in wrong:
        case = _case_of(one, shown, rng)
        sharing = [x for x in wrong if _alike(x, one, case)]
        if len(sharing) < _SHARED_CASE and rng.random() < obedience:
            continue
        others = [x for x in shown if not x.mistake.too_high]
        if not any(x.contradicts(case) for x in others) and not any(case.same_conditions(x) for x in new):
            new.append(case)
    kept = [x for x in old if not any(one.contradicts(x) for one in shown)]
    cases = [*new, *(x for x in kept if not any(x.same_conditions(case) for case in new))]
    return cases[: _MOST_CASES_OBEYING if rng.random() < obedience else _MOST_CASES]


def _alike(one: Shown, other: Shown, case: Case) -> bool:
    """Whether a mistake meets the rule for another one and errs in the same direction."""
    same = (one.mistake.too_high > 0) == (other.mistake.too_high > 0)
    return same and case.applies(one.mistake.levels, one.mistake.setting)


def _case_of(one: Shown, shown: Sequence[Shown], rng: random.Random) -> Case:
    """A rule for one picture, with as many conditions as keep it from giving another one of the prompt its label."""
    levels = one.mistake.levels
    worst = sorted(levels, key=lambda flaw: (-levels[flaw], flaw))[:_WORST_FLAWS]
    traits = [*_SCENE, *(trait for trait in _FURTHER if rng.random() < _SAID)]
    case = Case({flaw: levels[flaw] for flaw in worst}, {}, one.label)
    for trait in [*traits, *(t for t in _FURTHER if t not in traits)]:
        enough = trait not in traits and not any(x.contradicts(case) for x in shown)
        if not enough and trait in one.mistake.setting:
            case = replace(case, setting=MappingProxyType({**case.setting, trait: one.mistake.setting[trait]}))
    return case
