"""What a calibration found: the promise, the tests of the thresholds, and what the judges cost."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blpo_dspy.agreement.guarantee import POWER, SettingTest, labels_needed, lower_bound
from blpo_dspy.agreement.intervals import Interval, proportion_interval
from blpo_dspy.errors import BlpoError, counted
from blpo_dspy.notebook import html_table, one_line
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.ledger import Ledger

_WIDTH = 100


@dataclass(frozen=True)
class Alone:
    """A judge, or the calibrated cascade, on the calibration images.

    Attributes:
        name: What it is.
        labelled: How many images it labels.
        agreeing: How many of these labels agree with people's.
        n: How many images it was asked about, or that reach the cascade.
        calls: LM calls an image.
        usd: Dollars an image, at the measured prices; 0 where a cache gave all answers, None where they are not known.
        cached: How many answers came from DSPy's cache or an earlier session.
    """

    name: str
    labelled: int
    agreeing: int
    n: int
    calls: float
    usd: float | None
    cached: int = 0

    @property
    def agreement(self) -> float | None:
        """The share of its labels that agree, None if it gives none."""
        return self.agreeing / self.labelled if self.labelled else None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "name": self.name,
            "n": self.n,
            "labelled": self.labelled,
            "agreement": self.agreement,
            "calls_per_image": self.calls,
            "usd_per_image": self.usd,
            "cached": self.cached,
        }


@dataclass(frozen=True, repr=False)
class Calibrated:
    """What a calibration found.

    Attributes:
        agreement: The level to keep.
        risk: The probability with which it may fail.
        within: How many levels of an ordinal scale apart labels still agree.
        n: Labelled images that all judges answered.
        failed: Images left out, as a call failed.
        settings: The thresholds that were tested, in order: one for each judge of a cascade.
        tests: Their tests.
        chosen: The place of the one that was chosen: of those that passed one that labels the most images and, of
            these, asks the fewest judges; None if none passed.
        judges: Each judge alone, with every label that it gives; after them a calibrated cascade.
        ledger: The LM calls by role.
    """

    agreement: float
    risk: float
    within: int
    n: int
    failed: int
    settings: tuple[tuple[float, ...], ...]
    tests: tuple[SettingTest, ...]
    chosen: int | None
    judges: tuple[Alone, ...]
    ledger: Ledger
    _judge: VisualJudge | None = field(compare=False)

    @property
    def judge(self) -> VisualJudge:
        """The calibrated judge.

        Raises:
            BlpoError: If no threshold qualifies.
        """
        if self._judge is None:
            raise BlpoError(self.verdict())
        return self._judge

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The threshold of each judge; None if none qualifies."""
        return None if self.chosen is None else self.settings[self.chosen]

    @property
    def coverage(self) -> float:
        """The share of images that is labelled automatically; 0 if no threshold qualifies."""
        return 0.0 if self.chosen is None else self.tests[self.chosen].selected / self.n

    @property
    def coverage_interval(self) -> Interval | None:
        """Its 95 % Clopper-Pearson interval; None if no threshold qualifies."""
        return (
            None if self.chosen is None else proportion_interval(self.tests[self.chosen].selected, self.n, exact=True)
        )

    @property
    def labels_needed(self) -> int | None:
        """About how many labelled images would suffice, with probability 0.8; None if one qualifies or none would."""
        return None if self.chosen is not None else labels_needed(self.tests, self.n, self.agreement)

    def verdict(self) -> str:
        """Returns in words what is promised, or why nothing is."""
        agree = "agree with people's" + (f" to within {self.within} on the scale" if self.within else "")
        promise = f"with probability {1 - self.risk:g}, at least {self.agreement:.0%} of its labels {agree}"
        if self.chosen is None:
            return f"no threshold qualifies to promise that, {promise}: {self._why_not()}"
        test, interval, thresholds = self.tests[self.chosen], self.coverage_interval, self.thresholds
        assert interval is not None
        assert thresholds is not None
        at = ", then ".join(f"{threshold:g}" for threshold in thresholds)
        return (
            f"{promise} (here {test.agreeing} of {test.selected}); it labels {self.coverage:.0%} of the images "
            f"({interval.low:.0%} to {interval.high:.0%}), those of a confidence of at least {at}, and escalates the "
            "others"
        )

    def _why_not(self) -> str:
        most = max(test.selected for test in self.tests)
        if not most:
            return f"on none of the {self.n} images the judge gave a label that could be accepted"
        needed = self.labels_needed
        if needed is None:
            shares = [test.agreement for test in self.tests if test.risk and test.agreement is not None]
            if not shares:
                return "no image has the confidence with which the tests start; use another confidence, or fewer votes"
            best = max(shares)
            return (
                f"at none that was tested is the agreement on these {counted(self.n, 'image')} clearly above that "
                f"(at best {best:.0%}), so that more labels like these would not help; use a lower level, a "
                "better judge or another confidence"
            )
        return (
            f"there are too few images ({self.n:,}). If agreement and confidence are as on these, about "
            f"{max(needed, self.n + 1):,} labelled images would suffice in {POWER:.0%} of cases"
        )

    def summary(self) -> str:
        """Returns what was found in a few lines: the promise, and the agreement at each threshold."""
        verdict = self.verdict()
        lines = textwrap.wrap(verdict[:1].upper() + verdict[1:], _WIDTH)
        if self.failed:
            lines += textwrap.wrap(f"{counted(self.failed, 'image')} left out, as a call failed", _WIDTH)
        return "\n".join([*lines, "", *_aligned(self.table()), "", *_aligned(self.comparison())])

    def table(self) -> list[list[str]]:
        """Returns the tests as a table, the header first."""
        rows = [["confidence", "labelled", "agreeing", "agreement", "at least", "p-value", "risk", ""]]
        for place, (setting, test) in enumerate(zip(self.settings, self.tests, strict=True)):
            mark = "chosen" if place == self.chosen else "passed" if test.passed else "" if test.risk else "not tested"
            rows.append(
                [
                    " then ".join(f"≥ {threshold:g}" for threshold in setting),
                    str(test.selected),
                    str(test.agreeing),
                    _percent(test.agreement),
                    _percent(_bound(test)),
                    f"{test.p_value:.2g}" if test.risk else "–",
                    f"{test.risk:.2g}" if test.risk else "–",
                    mark,
                ]
            )
        return rows

    def comparison(self) -> list[list[str]]:
        """Returns each judge alone, and the calibrated one, as a table, the header first."""
        rows = [["judge", "labelled", "agreement", "calls an image", "cost an image"]]
        for each in self.judges:
            usd = "unknown" if each.usd is None else f"${each.usd:.3g}"
            if each.cached:
                usd += f" ({each.cached:,} answers from a cache)"
            labelled = _percent(each.labelled / each.n if each.n else None)
            rows.append([each.name, labelled, _percent(each.agreement), f"{each.calls:.1f}", usd])
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        interval = self.coverage_interval
        return {
            "agreement": self.agreement,
            "risk": self.risk,
            "within": self.within,
            "n": self.n,
            "failed": self.failed,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "coverage": self.coverage,
            "coverage_interval": None if interval is None else [interval.low, interval.high],
            "labels_needed": self.labels_needed,
            "tests": [
                {
                    "thresholds": list(setting),
                    "selected": test.selected,
                    "agreeing": test.agreeing,
                    "agreement_at_least": _bound(test),
                    "p_value": test.p_value,
                    "risk": test.risk,
                    "passed": test.passed,
                }
                for setting, test in zip(self.settings, self.tests, strict=True)
            ],
            "judges": [each.to_dict() for each in self.judges],
            "calls": self.ledger.calls(),
        }

    def __repr__(self) -> str:
        return one_line(self, self.verdict())

    def _repr_html_(self) -> str:
        return html_table(self.table()) + html_table(self.comparison())


def _bound(test: SettingTest) -> float | None:
    return lower_bound(test) if test.selected and test.risk else None


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
