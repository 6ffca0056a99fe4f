"""What people and the judge choose from: a closed set of labels, or a range of scores."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from blpo_dspy.data.labels.normalize import Label, as_text, labels_by_name, normal
from blpo_dspy.data.labels.parsing import Choices, parse_answer
from blpo_dspy.data.labels.scores import ScoreRange, quantile_bins
from blpo_dspy.errors import BlpoError, brief, check_kind

MAX_LABELS = 1024
"""The most labels that a space may have: a prompt names all of them, and an answer is searched for each."""

Orders = Literal["both", "one"]
"""Whether a judge of pairs is asked about a pair twice, the images changing places, or once, as they are given."""

Method = Literal["votes", "logprobs", "views"]
"""How a judge's confidence in its label is found; see `blpo_dspy.programs.confidence.Confidence`."""

# The most labels that an error lists, and the longest cell for which it suggests a label.
_LISTED, _LONGEST_SLIP = 50, 200
# Control characters, line and paragraph separators: a prompt states all labels in one line.
_BREAKS = {"Cc", "Zl", "Zp"}


@dataclass(frozen=True, init=False)
class LabelSpace:
    """A closed set of labels, nominal or ordinal, or a range of scores.

    `LabelSpace("Safe", "Unsafe")` is nominal: labels are equal or not. `LabelSpace.ordinal(1, 5)` is a scale of whole
    numbers, and `LabelSpace("poor", "fair", "good", ordered=True)` one of named levels, lowest first: a prediction can
    be near the human label or far from it. Of `LabelSpace.scores(0, 100)` any number in the range is a label, decimals
    included; `labels` is empty then. `LabelSpace.pairwise("A", "B", tie="tie")` compares two images.

    Args:
        *labels: 2 to 1024 (`MAX_LABELS`) different labels (text or whole numbers), lowest level first if they are
            ordered.
        ordered: Whether the order of the labels means something.

    Raises:
        BlpoError: If there are fewer than two labels or more than `MAX_LABELS`, an empty one, one with a line break or
            control character, or two that differ only in case or white space.
    """

    labels: tuple[Label, ...]
    ordered: bool
    score_range: ScoreRange | None = None
    paired: bool = False

    def __init__(self, *labels: Label, ordered: bool = False) -> None:
        object.__setattr__(self, "labels", tuple(x.strip() if isinstance(x, str) else x for x in labels))
        object.__setattr__(self, "ordered", ordered)
        self._check()

    def _check(self) -> None:
        _check_count(len(self.labels))
        for label in self.labels:
            if isinstance(label, bool) or not isinstance(label, (str, int)):
                raise BlpoError(
                    f"label {brief(repr(label))} is neither text nor a whole number; write it as text, e.g. "
                    f"{brief(repr(str(label)))}"
                )
            if label == "":
                raise BlpoError(f"empty label in {brief(list(self.labels))}; remove it or give it a name")
            if any(unicodedata.category(character) in _BREAKS for character in str(label)):
                raise BlpoError(f"label {brief(repr(label))} has a line break or control character in it; remove that")
        names = [normal(str(label)) for label in self.labels]
        times = Counter(names)
        twice = sorted({brief(x) for x, name in zip(self.labels, names, strict=True) if times[name] > 1})
        if twice:
            raise BlpoError(f"duplicate labels {twice}: labels must differ in more than case or white space")
        if len(self.labels) < 2:
            raise BlpoError(f"a judge needs at least two labels to choose from, got {list(self.labels)!r}")

    @classmethod
    def ordinal(cls, low: int, high: int) -> LabelSpace:
        """Returns the scale of whole numbers from `low` to `high`, both included.

        Raises:
            BlpoError: If `low` is not below `high`, one is not a whole number, or there are over `MAX_LABELS` levels.
        """
        for name, end in (("low", low), ("high", high)):
            check_kind(name, end, int, "whole number", "LabelSpace.ordinal(1, 5)")
        if not low < high:
            raise BlpoError(f"a scale goes from a lower to a higher whole number, got {low!r} to {high!r}")
        _check_count(high - low + 1)
        return cls(*range(low, high + 1), ordered=True)

    @classmethod
    def scores(
        cls, low: float, high: float, step: float | None = None, *, tolerance: float | None = None
    ) -> LabelSpace:
        """Returns the scores from `low` to `high`, both included.

        Args:
            low: The lowest score.
            high: The highest score.
            step: How far neighbouring scores are apart; any decimal is a score if None.
            tolerance: How far, in points, an answer may be off and still count as right: it is not a mistake for the
                search to correct, though its loss is. A tenth of the range if None.

        Raises:
            BlpoError: If one of them is not a number, `low` is not below `high`, the step does not divide the range, or
                the tolerance is negative or as wide as the range.
        """
        return cls._of_range(ScoreRange.of(low, high, step, tolerance))

    @classmethod
    def _of_range(cls, score_range: ScoreRange) -> LabelSpace:
        space = object.__new__(cls)
        for name, value in (("labels", ()), ("ordered", True), ("score_range", score_range)):
            object.__setattr__(space, name, value)
        return space

    @classmethod
    def pairwise(cls, first: Label = "A", second: Label = "B", *, tie: Label | None = None) -> LabelSpace:
        """Returns the labels of a judge that compares two images.

        Args:
            first: The label for the first image input of the judge.
            second: The label for the second.
            tie: The label for neither; None where one of the two must be chosen.

        Raises:
            BlpoError: As `LabelSpace`.
        """
        space = cls(first, second, *(() if tie is None else (tie,)))
        object.__setattr__(space, "paired", True)
        return space

    @property
    def kind(self) -> Literal["nominal", "ordinal", "scores"]:
        """What labels are to each other: names (those of pairs, too), levels, or numbers."""
        if self.score_range is not None:
            return "scores"
        return "ordinal" if self.ordered else "nominal"

    @property
    def span(self) -> float:
        """The distance that the full loss stands for: in levels of ordinal labels, in points of scores, else 1."""
        if self.score_range is not None:
            return self.score_range.span
        return len(self.labels) - 1 if self.ordered else 1

    @property
    def unit(self) -> str:
        """What distances are counted in."""
        return "points" if self.score_range is not None else "levels"

    def __contains__(self, label: object) -> bool:
        return label in (self.labels if self.score_range is None else self.score_range)

    @property
    def tie(self) -> Label | None:
        """The label of a pair for neither image, None if there is none."""
        return self.labels[2] if self.paired and len(self) > 2 else None

    def mirror(self, label: Label) -> Label:
        """Returns the label of a pair whose images have changed places: a tie stays one.

        Raises:
            BlpoError: If the labels are not those of pairs, or the label is not one of them.
        """
        if not self.paired:
            raise BlpoError(f"the labels {self._listed()} do not compare two images; see LabelSpace.pairwise")
        return self.labels[(1, 0, 2)[self.index(label)]]

    def __len__(self) -> int:
        return len(self.labels)

    def __bool__(self) -> bool:
        return True  # also of scores, which are not listed

    @property
    def names(self) -> tuple[str, ...]:
        """The labels as text, in order."""
        return tuple(str(label) for label in self.labels)

    @property
    def numeric(self) -> bool:
        """Whether every label is a number."""
        return all(isinstance(label, int) for label in self.labels)

    def index(self, label: Label) -> int:
        """Returns the position of a label of this space, 0 for the first (lowest).

        Raises:
            BlpoError: If the label is not in the space.
        """
        try:
            return self.labels.index(label)
        except ValueError:
            raise BlpoError(f"{brief(repr(label))} is not one of the labels {self._listed()}") from None

    def loss(self, label: Label, predicted: Label | None) -> float:
        """Returns ℓ(ŷ, y) in [0, 1] (paper, eq. 2).

        0 or 1 for nominal labels, |i − j| / (n − 1) for ordinal ones, |y − ŷ| / (high − low) for scores, and 1 if
        there is no valid answer.

        Raises:
            BlpoError: If one of the two is not in the space.
        """
        if predicted is None:
            return 1.0
        if self.score_range is not None:
            return abs(self.score(label) - self.score(predicted)) / self.span
        i, j = self.index(label), self.index(predicted)
        return abs(i - j) / (len(self) - 1) if self.ordered else float(i != j)

    def score(self, label: Label) -> float:
        """Returns a label of a range of scores as a number.

        Raises:
            BlpoError: If it is not in the range.
        """
        if isinstance(label, str) or label not in self:
            raise BlpoError(f"{brief(repr(label))} is not {self.describe()}")
        return label

    @property
    def tolerated(self) -> float:
        """The largest loss of an answer that counts as right: 0 but for scores, of which it is above 0."""
        return 0.0 if self.score_range is None else self.score_range.tolerated

    def right(self, label: Label, predicted: Label | None) -> bool:
        """Returns whether a prediction counts as right: it is the human label, or a score within the tolerance."""
        if predicted is None or self.score_range is None:
            return predicted == label
        return self.score_range.right(self.score(label), self.score(predicted))

    def direction(self, label: Label, predicted: Label | None) -> str:
        """Returns how a prediction misses the human label, in words ("judge 2 too high"); "" if it doesn't."""
        if predicted is None:
            return "judge gave no valid label"
        if self.score_range is not None:
            return self.score_range.direction(self.score(label), self.score(predicted))
        if predicted == label:
            return ""
        if not self.ordered:
            return f"judge said {predicted}, people said {label}"
        steps = self.index(predicted) - self.index(label)
        unit = "" if self._is_scale() else (" level" if abs(steps) == 1 else " levels")
        return f"judge {abs(steps)}{unit} too {'high' if steps > 0 else 'low'}"

    def strata(self, labels: Sequence[Label], *, least: int = 1) -> tuple[tuple[Label, ...], list[Label]]:
        """Returns the groups that labels fall into: each label is one; of scores, bins that hold equally many.

        Args:
            labels: Labels of this space.
            least: About how many scores a bin has at least.

        Returns:
            The names of the groups, lowest first, and for each of the labels that of its group.
        """
        if self.score_range is None:
            return self.labels, list(labels)
        names, groups = quantile_bins([self.score(label) for label in labels], least)
        return names, list(groups)

    def _is_scale(self) -> bool:
        if self.score_range is not None:
            return False
        first = self.labels[0]
        return self.ordered and isinstance(first, int) and self.labels == tuple(range(first, first + len(self)))

    def describe(self) -> str:
        """Returns the labels in words, as a prompt or an error message states them."""
        if self.score_range is not None:
            return self.score_range.describe()
        if self._is_scale():
            return f"a whole number from {self.labels[0]} to {self.labels[-1]}"
        if self.paired:
            chosen = ("the first image", "the second image", "neither")
            return ", ".join(f"{name} ({what})" for name, what in zip(self.names, chosen, strict=False))
        listed = ", ".join(self.names)
        return f"{listed} (lowest to highest)" if self.ordered else listed

    def _listed(self) -> str:
        """The closed set in words, cut short if it has many labels."""
        if self._is_scale() or len(self) <= _LISTED:
            return self.describe()
        return f"{', '.join(self.names[:_LISTED])} and {len(self) - _LISTED} more"

    def coerce(self, value: object) -> Label:
        """Returns the label that a cell of a dataset stands for; stricter than `parse`.

        Raises:
            BlpoError: If the value is not one of the labels (case and white space aside).
        """
        if self.score_range is not None:
            return self.score_range.coerce(value)
        text = normal(as_text(value))
        if self.numeric:
            text = re.sub(r"\.0+$", "", text)  # a column of whole numbers with gaps is stored as 4.0
        label = labels_by_name(self.labels).get(text)
        if label is None:
            slip = text if len(text) <= _LONGEST_SLIP else ""
            near = difflib.get_close_matches(slip, labels_by_name(self.labels), n=1, cutoff=0.82)
            meant = f"; did you mean {str(labels_by_name(self.labels)[near[0]])!r}?" if near else ""
            raise BlpoError(f"unknown label {brief(repr(value))}; the labels are {self._listed()}{meant}")
        return label

    def parse(self, answer: object) -> Label | None:
        """Returns the label that a judge's answer states, or None if it states none or more than one.

        Tolerates case, punctuation, markdown, quotes, decorative emoji, a lead-in ("Rating: 4", "The image is safe"),
        a scale ("4/5", "4 of 5"), a JSON object with the label under such a name, a reason or clause after the label,
        and reasoning before a label on a line of its own. An answer that names two labels, denies or retracts one
        ("not safe"), or is off the scale is invalid; nothing is guessed. Other labels may be mentioned only if the
        label has a line of its own, and numbers on a scale if they count things ("2 dogs") or the label is "4/5".
        Scores are read likewise, with their decimals ("73.5", "Score: 73.5/100").
        """
        return parse_answer(self.score_range or Choices(self.labels, self.ordered), answer)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON; `from_dict` reads it back."""
        if self.score_range is not None:
            return self.score_range.to_dict()
        return {"kind": "pairwise" if self.paired else self.kind, "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelSpace:
        """Returns the label space that `to_dict` wrote.

        Raises:
            BlpoError: If the data is not of that form.
        """
        check_kind("labels", data, Mapping, "dictionary", "what LabelSpace.to_dict returns")
        kind, labels = data.get("kind"), data.get("labels")
        if kind == "scores":
            return cls._of_range(ScoreRange.from_dict(data))
        kinds = ("nominal", "ordinal", "pairwise")
        if kind not in kinds or not isinstance(labels, Sequence) or isinstance(labels, str):
            raise BlpoError(
                f"not a label space: {brief(dict(data))}; expected {{'kind': {' | '.join(map(repr, kinds))}, 'labels': "
                "[…]}, or {'kind': 'scores', 'low': …, 'high': …, 'step': …, 'tolerance': …}"
            )
        if kind != "pairwise":
            return cls(*labels, ordered=kind == "ordinal")
        if not 2 <= len(labels) <= 3:
            raise BlpoError(f"labels of pairs are two, or three with a tie, got {brief(list(labels))}")
        return cls.pairwise(*labels[:2], tie=labels[2] if len(labels) > 2 else None)

    def __str__(self) -> str:
        return self.describe()


def _check_count(count: int) -> None:
    if count > MAX_LABELS:
        raise BlpoError(
            f"{count:,} labels are more than the limit of {MAX_LABELS:,}, as a judge reads all of them in each prompt; "
            "use fewer, broader labels or a coarser scale"
        )


def check_space(labels: object) -> None:
    """Checks that labels are a label space, not a list, say."""
    given = labels if isinstance(labels, (list, tuple, set)) else ("Safe", "Unsafe")
    written = f"LabelSpace({', '.join(map(repr, given))})"
    check_kind(
        "labels",
        labels,
        LabelSpace,
        "label space",
        f"{written}, or LabelSpace.ordinal(1, 5) for a scale, LabelSpace.scores(0, 100) for scores",
    )
