"""Raters: people's taste as a mapping from flaw to weight, which a judge has to discover."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded.reading.vocabulary import listed, ranked, reweighted
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.errors import BlpoError

SCORE_LEVELS = 4
"""A range of scores is as wide as so many levels."""


def worst_to_best(labels: LabelSpace) -> tuple[Label, ...]:
    """Returns the labels from worst to best: as they stand if ordered, else by their words."""
    return labels.labels if labels.ordered else ranked([x for x in labels.labels if not isinstance(x, float)])


@dataclass(frozen=True)
class Rater:
    """A taste: how much each flaw takes off the rating.

    On n labels from worst to best the rating is the top less (n − 1) · min(1, Σ weight · severity), plus seeded noise,
    rounded to a label. Scores are the same as a part of their range, a quarter of which is a level. Two nominal labels
    such as keep/reject are the case n = 2: a threshold at a weighted severity of one half.

    Args:
        weights: Flaw name → weight in [0, 1]; a missing flaw weighs nothing.
        noise: Standard deviation of the noise, in levels.
        label_noise: Share of the labels that end up a level off what the rater means: slips, of which no picture tells.

    Raises:
        BlpoError: If a flaw is unknown, a weight or the share is outside [0, 1], or the noise is negative.
    """

    weights: Mapping[str, float]
    noise: float = 0.15
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            f"unknown flaw {name!r} (known: {', '.join(flaws.FLAWS)})"
            for name in self.weights
            if name not in flaws.FLAWS
        ] + [
            f"the weight of {name!r} is {weight!r}, not a number from 0 to 1"
            for name, weight in self.weights.items()
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= 1
        ]
        if isinstance(self.noise, bool) or not isinstance(self.noise, (int, float)) or not 0 <= self.noise <= 2:
            problems.append(f"the noise is {self.noise!r}, not a number of levels from 0 to 2")
        share = self.label_noise
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            problems.append(f"the label noise is {share!r}, not a share from 0 to 1")
        if problems:
            raise BlpoError(f"not a rater: {'; '.join(problems)}")
        object.__setattr__(self, "weights", MappingProxyType({k: float(v) for k, v in self.weights.items()}))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Rater, (dict(self.weights), self.noise, self.label_noise))

    @classmethod
    def from_file(cls, path: str | Path) -> Rater:
        """Returns the rater of a JSON file: `{"blur": 0.9, …}`, or `{"weights": {…}, "noise": 0.1, "label_noise": 0}`.

        Raises:
            BlpoError: If the file cannot be read or is not a rater; the message names the file.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise BlpoError(f"{path}: cannot read a rater: {error}") from error
        if isinstance(data, dict) and "weights" not in data:
            data = {"weights": data}
        known = {"weights", "noise", "label_noise"}
        if not isinstance(data, dict) or not isinstance(data["weights"], dict) or set(data) - known:
            raise BlpoError(f'{path}: not a rater; write {{"blur": 0.9, "noise": 0.3}} with weights from 0 to 1')
        try:
            return cls(**data)
        except BlpoError as error:
            raise BlpoError(f"{path}: {error}") from error

    def rate(self, levels: Mapping[str, int], labels: LabelSpace, rng: random.Random) -> Label:
        """Returns the label of a photograph that has flaws of these levels; the noise is drawn from `rng`."""
        if labels.score_range is not None:
            noise = rng.gauss(0.0, self.noise) / SCORE_LEVELS
            return labels.score_range.at(1 - min(1.0, flaws.severity_sum(levels, self.weights)) + noise)
        scale = worst_to_best(labels)
        top = len(scale) - 1
        rating = top - top * min(1.0, flaws.severity_sum(levels, self.weights)) + rng.gauss(0.0, self.noise)
        return scale[min(top, max(0, round(rating)))]

    def given(self, label: Label, labels: LabelSpace, rng: random.Random) -> Label:
        """Returns the label that is written down where the rater means `label`: with `label_noise` one level off."""
        slips, up = rng.random() < self.label_noise, rng.random() < 0.5
        if labels.score_range is not None:
            part = labels.score_range.part(labels.score(label))
            level = (1 if part < 1 / SCORE_LEVELS or (up and part <= 1 - 1 / SCORE_LEVELS) else -1) / SCORE_LEVELS
            return labels.score_range.at(part + level) if slips else label
        scale = worst_to_best(labels)
        place = scale.index(label)
        if not slips or len(scale) == 1:
            return label
        return scale[place + 1] if place == 0 or (up and place < len(scale) - 1) else scale[place - 1]


RATERS: Mapping[str, Rater] = MappingProxyType(
    {
        "sharp": Rater({"blur": 0.9, "noise": 0.3, "blocking": 0.75, "low contrast": 0.6}),
        "colour": Rater({"colour cast": 0.9, "oversaturation": 0.75, "blocking": 0.5, "underexposure": 0.25}),
        "exposure": Rater({"overexposure": 0.9, "underexposure": 0.8, "low contrast": 0.6, "noise": 0.2}),
        "harsh": Rater({"blur": 0.8, "noise": 0.75, "blocking": 0.9, "overexposure": 0.6, "colour cast": 0.7}),
        "grain-hater": Rater({"noise": 0.95, "blocking": 0.7, "blur": 0.25, "underexposure": 0.5, "colour cast": 0.1}),
    }
)
"""Tastes for demonstrations and benchmarks, by name."""


def ceiling_instruction(rater: Rater, task: str) -> str:
    """Returns the task with the rater's weights, those of 0 included, in words that the engine knows.

    It says how good a judge could be. A judge with it scores far above one with the bare task, for raters with two
    weights of at least 0.6 who can fill every level: of 130 random ones (`examples/benchmarks/headroom.py`) by at least
    0.40 macro-F1 on 100 photographs where the judge reads image and description, and 0.45 where it reads the
    description; where it reads the image alone, by 0.32 for one of them and at least 0.43 for all others.
    """
    return reweighted(task, {flaw: rater.weights.get(flaw, 0.0) for flaw in flaws.FLAWS})


def ceiling_verbalizer_instruction(rater: Rater) -> str:
    """Returns a report instruction that asks for the flaws that weigh."""
    named = [flaw for flaw in flaws.FLAWS if rater.weights.get(flaw)] or list(flaws.FLAWS)
    return f"Look for {listed(named)}. For each of them say whether it is absent, slight, moderate or severe."
