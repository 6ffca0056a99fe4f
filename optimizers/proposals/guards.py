"""Guards: reasons to refuse an instruction that a score alone would take."""

from __future__ import annotations

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.errors import BlpoError, check_least
from blpo_dspy.optimizers.bench.records import Validation

# Scripts without a space between words: by their letters how many make a word, roughly.
_UNSPACED = {
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff": 2,  # Han, kana
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff": 4,  # Thai, Lao, Burmese, Khmer
}
_WORDS = re.compile("|".join([*(f"([{letters}])" for letters in _UNSPACED), rf"(?:(?![{''.join(_UNSPACED)}])\w)+"]))
_SMALLEST_PART = 10  # examples; the mean loss of fewer says too little
_MOST_NAMED = 5
# Words that more examples have in common belong to none of them.
_QUOTED = 2


class Measured(Protocol):
    """How a judge does on some examples."""

    @property
    def agreement(self) -> Agreement | None:
        """The agreement with the human labels, None where labels are not from a closed set."""

    @property
    def parts(self) -> Mapping[str, tuple[int, float]]:
        """The examples and the mean loss of each human label and each group."""


@dataclass(frozen=True)
class Guards:
    """What an optimizer refuses; None switches a guard off.

    Copying is refused by default, since it is never wanted: a rule that quotes an example holds for that example. The
    other two are off by default: they overrule the validation score, and whether an even treatment of the labels or
    of each part is worth some of the score is for the user to say. DSPy's own optimizers, which write and pick
    instructions by themselves, take no guards.

    Args:
        copied_words: So many consecutive words of a description, reason or context text that the optimizer LM was
            shown make a judge instruction a copy, unless the instruction it revises has them too, or more than two of
            the examples do, and so do so many of the request itself. In scripts without spaces two to four letters
            count as a word.
        label_shift: The most by which the judge's labels, as shares of the validation set, may be farther from
            people's (in total variation, in [0, 1]; of scores the mean distance between the two when sorted, as a part
            of the range) than the start's are.
        part_loss: The most by which the mean loss, in [0, 1], of any part of the validation set may exceed the
            start's: the examples of one human label (of scores a fifth), or of one group, if they are ten or more. Both
            need an optimizer that picks by validation, `select="best"`. BLPO refuses by both during the search too, as
            measured on the examples that an update is scored on.

    Raises:
        BlpoError: If a value is out of its range.
    """

    copied_words: int | None = 8
    label_shift: float | None = None
    part_loss: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("copied_words", 0), ("label_shift", 0.0), ("part_loss", 0.0)):
            if getattr(self, name) is not None:
                check_least(name, getattr(self, name), least)
        if self.copied_words is not None and self.copied_words < 3:
            raise BlpoError(f"copied_words={self.copied_words} would refuse any sentence; give at least 3, or None")
        for name in ("label_shift", "part_loss"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise BlpoError(f"{name}={value} must be in [0, 1], or None")

    @property
    def validating(self) -> bool:
        """Whether a guard looks at validations."""
        return self.label_shift is not None or self.part_loss is not None

    def copied(self, text: str, shown: Iterable[Sequence[str]], *, current: str) -> str | None:
        """Returns why an instruction counts as a copy of what the optimizer LM was shown, None if it doesn't.

        Args:
            text: The instruction.
            shown: The texts of each example that was shown.
            current: The instruction that it revises.
        """
        if self.copied_words is None:
            return None
        size = self.copied_words
        new = _runs(text, size) - _runs(current, size)
        found = Counter(
            run for example in set(map(tuple, shown)) for run in {run for part in example for run in _runs(part, size)}
        )
        taken = [run for run in new if 0 < found[run] <= _QUOTED]
        if not taken:
            return None
        return f"the instruction quotes an example ({' '.join(min(taken))!r}) instead of stating a rule"

    def repeated(self, text: str, asked: str, *, current: str) -> str | None:
        """Returns why an instruction repeats what the optimizer LM was asked for, None if it doesn't.

        Args:
            text: The instruction.
            asked: The meta-prompt.
            current: The instruction that it revises.
        """
        if self.copied_words is None:
            return None
        taken = (_runs(text, self.copied_words) & _runs(asked, self.copied_words)) - _runs(current, self.copied_words)
        return (
            f"the instruction repeats the request ({' '.join(min(taken))!r}) instead of following it" if taken else None
        )

    def unguarded(self, parts: Iterable[str]) -> str | None:
        """Returns which parts of a validation set `part_loss` can't guard as they are too small, in words, or None.

        Args:
            parts: The names of the parts of each validation example.

        Raises:
            BlpoError: If those are all.
        """
        counts = Counter(parts)
        small = {part: n for part, n in counts.items() if n < _SMALLEST_PART}
        if self.part_loss is None or not small:
            return None
        named = ", ".join(f"{part} ({n})" for part, n in itertools.islice(sorted(small.items()), _MOST_NAMED))
        listed = named + (f" and {len(small) - _MOST_NAMED} more" if len(small) > _MOST_NAMED else "")
        few = f"fewer than {_SMALLEST_PART} of the validation examples that are judged have {listed}"
        if len(small) == len(counts):
            raise BlpoError(
                f"part_loss={self.part_loss} guards nothing, as {few}; give more, raise a cap on calls, which leaves "
                "some of them out, or leave out part_loss=",
                option=("part_loss",),
            )
        return f"part_loss={self.part_loss} doesn't guard every part: {few}"

    def checked(self, validations: Sequence[Validation]) -> tuple[Validation, ...]:
        """Returns the validations, refused ones with the reason; the first, the start, never is."""
        return tuple(
            v if i == 0 else replace(v, refused=v.refused or self.refusal(validations[0], v))
            for i, v in enumerate(validations)
        )

    def refusal(self, start: Measured, later: Measured) -> str:
        """Returns why a judge is refused that was measured as another before it, "" if it isn't."""
        if self.label_shift is not None and start.agreement is not None and later.agreement is not None:
            before, after = label_shift(start.agreement), label_shift(later.agreement)
            if after - before > self.label_shift:
                return f"the judge's labels are {after:.2f} from people's shares, at the start {before:.2f}"
        if self.part_loss is not None:
            for part, (n, loss) in later.parts.items():
                before = start.parts.get(part, (0, loss))[1]
                if n >= _SMALLEST_PART and loss - before > self.part_loss:
                    where = f"on {part} ({n} examples)"
                    return f"the mean distance from the labels (0 to 1) {where} rose from {before:.2f} to {loss:.2f}"
        return ""


def label_shift(agreement: Agreement) -> float:
    """Returns the total variation, in [0, 1], between people's shares of labels and the judge's.

    Of scores it is Wasserstein's distance as a part of the range, invalid answers left out.
    """
    if agreement.labels.kind == "scores":
        return _score_shift(agreement)
    size, n = len(agreement.labels), agreement.n
    people = [sum(row) for row in agreement.confusion] + [0]
    judge = [sum(row[i] for row in agreement.confusion) for i in range(size + 1)]
    return sum(abs(a - b) for a, b in zip(people, judge, strict=True)) / 2 / n if n else 0.0


def _score_shift(agreement: Agreement) -> float:
    from scipy.stats import wasserstein_distance  # noqa: PLC0415 - slow to import

    labels = agreement.labels
    said = [labels.score(label) for _, label in agreement.pairs if label is not None]
    people = [labels.score(label) for label, _ in agreement.pairs]
    return float(wasserstein_distance(people, said)) / labels.span if said else 0.0


def mean_losses(losses: Iterable[tuple[str, float]]) -> Mapping[str, tuple[int, float]]:
    """Returns for each part how many losses it has and their mean."""
    parts: dict[str, list[float]] = {}
    for part, loss in losses:
        parts.setdefault(part, []).append(loss)
    return {part: (len(found), sum(found) / len(found)) for part, found in parts.items()}


def words_in(text: str) -> int:
    """Returns how many words a text has; in scripts without spaces, about as many letters as make them count as one."""
    return round(sum(length for _, length in _words(text)))


def _words(text: str) -> list[tuple[str, float]]:
    """Words, or single letters of scripts without spaces, and which part of a word each is."""
    letters = list(_UNSPACED.values())
    return [
        (word[0], 1 / letters[word.lastindex - 1] if word.lastindex else 1) for word in _WORDS.finditer(text.casefold())
    ]


def _runs(text: str, size: int) -> set[tuple[str, ...]]:
    """All runs of so many words; of scripts without spaces they are letters that count as so many."""
    found = _words(text)
    ends = [0.0, *itertools.accumulate(length for _, length in found)]
    runs = set()
    for start in range(len(found)):
        end = bisect.bisect_left(ends, ends[start] + size)
        if end < len(ends):
            runs.add(tuple(word for word, _ in found[start:end]))
    return runs
