"""The progress of a comparison."""

from __future__ import annotations

from threading import Lock

from blpo_dspy.agreement.figures import main_figure, main_words
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.report.numbers import figure
from blpo_dspy.workspace.watch import Watch


class ComparisonProgress:
    """The live line: which method runs, its calls that count against the cap, and how many runs are done."""

    def __init__(self, watch: Watch, runs: int, cap: int) -> None:
        self._watch, self._runs, self._cap = watch, runs, cap
        self._lock = Lock()
        self._done = self._calls = 0
        self._now = "starting"
        watch.begin("starting", runs)

    def start(self, method: str, seed: int) -> None:
        """A run begins."""
        with self._lock:
            self._now, self._calls = f"{method}, seed {seed}", 0
        self._show()

    def row(self, row: ComparisonRow) -> None:
        """A run is done."""
        with self._lock:
            self._done += 1
        self._watch.found(row)
        self._watch.say(f"{row.method}, seed {row.seed}: {_in_words(row)}")
        self._show()

    def calls(self, calls: int) -> None:
        """A run has made so many calls."""
        with self._lock:
            self._calls = calls
        self._show()

    def _show(self) -> None:
        with self._lock:
            what, done = self._now, self._done
            status = f"{self._done}/{self._runs} runs, {self._calls:,} of {self._cap:,} calls"
        self._watch.show(what, done, status)


def _in_words(row: ComparisonRow) -> str:
    if row.error:
        return f"failed: {row.error}"
    assert row.test is not None
    labels = LabelSpace.from_dict(row.test["labels"])
    agreement = f"test {main_words(labels)} {figure(row.test[main_figure(labels)])}"
    return f"{agreement}, {row.spent:,} calls, {row.lm_seconds:,.0f} LM seconds"
