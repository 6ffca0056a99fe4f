"""The progress of a search."""

from __future__ import annotations

import threading
from typing import Any

from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import LMError

from blpo_dspy.optimizers.bench.records import Round, Validation
from blpo_dspy.optimizers.blpo.algorithm import BLPO
from blpo_dspy.optimizers.validation import best
from blpo_dspy.text import as_data
from blpo_dspy.workspace.failures import is_outage
from blpo_dspy.workspace.watch import Watch


class CompileWatch(BaseCallback):
    """Follows a compile: rounds and agreement from the optimizer's hooks, calls from DSPy's callbacks.

    Args:
        watch: Where it shows.
        optimizer: The optimizer whose run is followed; `round` and `validation` are for its hooks.

    Attributes:
        rounds: The most rounds; None if it is the budget that ends them.
    """

    def __init__(self, watch: Watch, optimizer: BLPO) -> None:
        super().__init__()
        self._watch = watch
        self.rounds = optimizer.rounds if optimizer.budget is not None else optimizer.most_rounds
        self._lock = threading.Lock()
        self._round = self._calls = 0
        self._validations: list[Validation] = []
        self._failures: set[type[BaseException | None]] = set()

    def round(self, completed: Round) -> None:
        """Is called after each round."""
        self._round = completed.number + 1
        self._watch.found(completed)
        self._watch.say(round_in_words(completed))
        self._show()

    def validation(self, found: Validation) -> None:
        """Is called with each validation."""
        self._validations.append(found)
        self._watch.found(found)
        self._show()

    def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        """An LM answered or failed. The first failure of a kind is shown, as waiting for a retry looks like a halt."""
        with self._lock:
            self._calls += 1
            new = isinstance(exception, LMError) and is_outage(exception) and type(exception) not in self._failures
            self._failures.add(type(exception))
        if new:
            self._watch.say(f"a call failed and is retried: {one_line(exception)}")
        self._show()

    def _show(self) -> None:
        number = self._round + 1
        here = f"round {number}" if self.rounds is None else f"round {min(number, self.rounds)}/{self.rounds}"
        status = f"{self._calls:,} calls"
        validations = list(self._validations)
        found = [validations[i].agreement for i in (0, best(validations))] if validations else []
        shares = [f"{agreement.accuracy:.0%}" for agreement in found if agreement and agreement.accuracy is not None]
        if shares:
            status += f", agreement {' → '.join(shares)}"
        self._watch.show(here, self._round, status)


def one_line(error: object) -> str:
    """Returns an error's text as a line of at most 160 characters."""
    text = " ".join(as_data(error).split())
    return text if len(text) <= 160 else f"{text[:159]}…"


def round_in_words(completed: Round) -> str:
    """Returns a round in one line."""
    batch = completed.batch
    found = f"round {completed.number + 1}: {batch.mistakes} mistakes among {batch.searched} judged"
    if completed.chosen is None:
        return f"{found}; no update helps, so the instructions stay"
    score = completed.trials[completed.chosen].score or 0.0
    change = "lowers" if score >= 0 else "raises"
    return f"{found}; the best update {change} the loss by {abs(score):.2f}"
