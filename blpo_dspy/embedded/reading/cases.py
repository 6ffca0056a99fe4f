"""Rules for cases: an instruction may say which label a certain kind of picture gets, whatever its flaws weigh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from blpo_dspy.embedded.reading import vocabulary
from blpo_dspy.embedded.sight.settings import VALUES, Setting, read_setting

_DEGREES = ("no", "slight", "moderate", "severe")


@dataclass(frozen=True)
class Case:
    """A rule: the label of pictures with flaws of these levels, give or take one, and these traits of the setting."""

    levels: Mapping[str, int]
    setting: Setting
    label: str

    @property
    def conditions(self) -> int:
        """How many conditions there are: of two rules that apply, the one with more decides."""
        return len(self.levels) + len(self.setting)

    def applies(self, levels: Mapping[str, int], setting: Setting) -> bool:
        """Whether a picture meets all conditions."""
        close = all(flaw in levels and abs(levels[flaw] - level) <= 1 for flaw, level in self.levels.items())
        return close and all(setting.get(trait) == value for trait, value in self.setting.items())

    def same_conditions(self, other: Case) -> bool:
        """Whether another rule is for the same pictures."""
        return dict(self.levels) == dict(other.levels) and dict(self.setting) == dict(other.setting)


@lru_cache(maxsize=1024)
def read_cases(text: str) -> tuple[Case, ...]:
    """Returns the rules that an instruction states, in its order."""
    found = (vocabulary.CASE.match(sentence.strip()) for sentence in vocabulary.sentences(text))
    cases = [
        Case(vocabulary.read_levels(match["conditions"]), read_setting(match["conditions"]), match["label"])
        for match in found
        if match
    ]
    return tuple(case for case in cases if case.conditions)


def write_cases(cases: Iterable[Case]) -> str:
    """Returns one sentence per rule, in this order; `read_cases` reads them back."""
    return " ".join(f"If {', '.join(_conditions(case))}: the label is {case.label}." for case in cases)


def _conditions(case: Case) -> list[str]:
    flaws = [f"{_DEGREES[level]} {flaw}" for flaw, level in case.levels.items()]
    return flaws + [case.setting[trait] for trait in VALUES if trait in case.setting]


def deciding(cases: Sequence[Case], levels: Mapping[str, int], setting: Setting) -> Case | None:
    """Returns the rule for a picture: the one with the most conditions, of equals the first; None if none applies."""
    applying = [case for case in cases if case.applies(levels, setting)]
    return max(applying, key=lambda case: case.conditions, default=None)


def own_cases(text: str) -> tuple[str, tuple[Case, ...]]:
    """Returns a text without the rules that `write_cases` wrote, otherwise as it is, and these rules."""
    kept: list[str] = []
    own: list[Case] = []
    for sentence in vocabulary.sentences(text):
        cases = read_cases(sentence)
        if cases and write_cases(cases) == sentence.strip():
            own += cases
        else:
            kept.append(sentence)
    return "".join(kept).strip(), tuple(own)
