"""What is recorded of one method with one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blpo_dspy.agreement.verdicts import Verdict


@dataclass(frozen=True)
class ComparisonRow:
    """One method with one seed.

    Attributes:
        method: Its name.
        seed: Its seed.
        val: Agreement on the validation set, as data, with its "invalid" answers and "failed" calls; None if the method
            failed.
        test: Agreement on the sealed test set likewise, with "intervals" by figure.
        paired: The paired comparison with no optimization on the test images that both answered; None for that row
            itself.
        calls: LM calls by role that count against the cap.
        images: Images sent to the optimizer LM.
        tokens: Prompt and completion tokens.
        lm_seconds: Seconds until the answers of the search, those of parallel calls added up, whichever run paid
            for them.
        stop_reason: Why it ended.
        capped: Whether the cap ended it, rather than the method itself.
        lost: Calls of the search that failed; they count against the cap.
        instructions: Judge and verbalizer instruction at the end.
        score: 1 − mean loss on the validation set of what the method returned, over the images that it answered.
        curve: (LM calls spent, best score so far), from the start to what was returned; between the two stand the
            programs that the method itself scored on the whole validation set.
        predicted: The test labels, None for an invalid answer and where the call failed.
        failed: The positions among them where it did.
        outages: Images of both sets that were left without an answer by what may pass, such as a time-out: they are
            judged again when the comparison is resumed.
        error: What went wrong, "" if nothing did.
    """

    method: str
    seed: int
    val: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    paired: Mapping[str, Any] | None = None
    calls: Mapping[str, int] | None = None
    images: int = 0
    tokens: int = 0
    lm_seconds: float = 0.0
    stop_reason: str = ""
    capped: bool = False
    lost: int = 0
    instructions: Mapping[str, str] | None = None
    score: float | None = None
    curve: Sequence[Sequence[float]] = ()
    predicted: Sequence[Any] = ()
    failed: Sequence[int] = ()
    outages: int = 0
    error: str = ""

    @property
    def spent(self) -> int:
        """Judge, verbalizer and optimizer calls together."""
        return sum(count for role, count in (self.calls or {}).items() if role != "cached")

    @property
    def cut_short(self) -> bool:
        """Whether the cap ended a search of which calls failed: without these it would have gone further."""
        return self.capped and self.lost > 0

    @property
    def verdicts(self) -> list[Verdict]:
        """What is known of the verdicts on the test images."""
        failed = set(self.failed)
        return [Verdict(label, failure="failed" if i in failed else "") for i, label in enumerate(self.predicted)]
