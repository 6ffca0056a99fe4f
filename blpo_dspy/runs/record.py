"""The record of a run: the judge's card and result.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dspy

from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.agreement.people import ceiling_of
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.notebook import html_table, one_line
from blpo_dspy.optimizers.bench.cards import described, sets_of, versions
from blpo_dspy.optimizers.bench.records import BLPOResult
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.checks.after import Checks
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.workspace.ledger import Ledger


@dataclass(frozen=True, repr=False)
class SplitAgreement:
    """Agreement of one judge with the labels; None for a set that it was not measured on."""

    val: Agreement | None = None
    test: Agreement | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {name: None if a is None else a.to_dict() for name, a in (("val", self.val), ("test", self.test))}

    def __repr__(self) -> str:
        head, *rows = figure_rows({"val": self.val, "test": self.test})
        sets = (f"{row[0]}: {', '.join(map(' '.join, zip(head[1:], row[1:], strict=True)))}" for row in rows)
        return one_line(self, "; ".join(sets))

    def _repr_html_(self) -> str:
        return html_table(figure_rows({"val": self.val, "test": self.test}))


def figure_rows(found: Mapping[str, Agreement | None]) -> list[list[str]]:
    """Returns figures by name as the cells of a table, its header first; a row without any is left out."""
    rows = {name: agreement.shown() for name, agreement in found.items() if agreement is not None}
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    return [["", *columns], *([name, *(cells.get(column, "") for column in columns)] for name, cells in rows.items())]


@dataclass(frozen=True)
class Aligned:
    """A compiled judge with everything that was measured about it.

    Attributes:
        start: The judge before compiling.
        judge: The compiled one.
        record: What the optimizer recorded.
        before: Agreement of the start.
        after: Agreement of the compiled judge.
        verdicts: What the start and the compiled judge said about each test example, in order; empty where the test
            split was not judged.
        ceiling: Agreement of a judge whose instruction states the truth, where the truth is known.
        final: The LM calls of the measurements after compiling.
        seconds: Wall time.
        checks: The further checks.
        beforehand: The LM calls before the search.
        unused: Those that earlier sessions under another budget paid for and this one did not need.
        validated: Validation examples with what the compiled judge said about each.
    """

    start: VisualJudge
    judge: VisualJudge
    record: BLPOResult
    before: SplitAgreement
    after: SplitAgreement
    verdicts: tuple[Sequence[Verdict], Sequence[Verdict]]
    ceiling: Agreement | None
    final: Ledger
    seconds: float
    checks: Checks = field(default_factory=Checks)
    beforehand: Ledger = field(default_factory=lambda: Ledger({}))
    unused: Ledger = field(default_factory=lambda: Ledger({}))
    validated: Sequence[tuple[dspy.Example, Verdict]] = ()

    def calls(self) -> dict[str, int]:
        """Returns all LM calls by role, before and after the search too, and under "cached" the unpaid answers."""
        return (self.beforehand + self.record.ledger + self.final).calls()


def card(aligned: Aligned, sets: Sets) -> dict[str, Any]:
    """Returns the judge's card with what was measured after compiling, which depends on seed and answers alone, too."""
    return {
        **aligned.judge.card,
        "data": {
            name: {**described(examples), **_swapped(aligned.judge.card, name)}
            for name, examples in sets.named().items()
        },
        "agreement": {"before": aligned.before.to_dict(), "after": aligned.after.to_dict()},
        "sealed_test": None if sets.seal is None else sets.seal.card(judged=aligned.after.test is not None),
    }


def _swapped(compiled: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How many pairs of a set the search has shown in the other order."""
    found = sets_of(compiled).get(name, {})
    return {"swapped": found["swapped"]} if "swapped" in found else {}


def result(aligned: Aligned, sets: Sets, models: Mapping[str, str]) -> dict[str, Any]:
    """Returns the content of result.json: the whole run in plain data, without a pixel or an address."""
    record = aligned.record
    return {
        "before": aligned.before.to_dict(),
        "after": aligned.after.to_dict(),
        "ceiling": None if aligned.ceiling is None else {"test": aligned.ceiling.to_dict()},
        "humans": _humans(aligned, sets),
        "sealed_test": None if sets.seal is None else sets.seal.to_dict(judged=aligned.after.test is not None),
        **aligned.checks.to_dict(),
        "calls": aligned.calls(),
        "seconds": round(aligned.seconds, 2),
        "stop_reason": record.stop_reason,
        "seed": record.options["seed"],
        "start": asdict(record.start),
        "compiled": asdict(record.returned),
        "labels": aligned.judge.labels.to_dict(),
        "evidence": aligned.judge.evidence,
        "reasoning": aligned.judge.reasoning,
        "images": list(aligned.judge.images),
        "context": list(aligned.judge.context),
        "reasons": aligned.judge.card["reasons"],
        "models": dict(models),
        "options": dict(record.options),
        "data": {
            "how": sets.how,
            **{
                name: {**described(examples), "ids": [example.id for example in examples]}
                for name, examples in sets.named().items()
            },
        },
        "ledger": {
            "beforehand": aligned.beforehand.to_dict(),
            "compile": record.ledger.to_dict(),
            "measure": aligned.final.to_dict(),
            "unused": aligned.unused.to_dict(),
        },
        "versions": versions(),
        "validations": [validation.to_dict() for validation in record.validations],
        "rounds": [{**completed.to_dict(), "end": asdict(completed.end)} for completed in record.rounds],
    }


def _humans(aligned: Aligned, sets: Sets) -> dict[str, Any] | None:
    """How far people agree with each other, and the judge with them, on the test set; None with one label per image.

    Without a test set it is how far people agree on the others.
    """
    if sets.people is None:
        return None
    examples = sets.test or [*sets.train, *sets.val]
    before, after = (said or None for said in aligned.verdicts)
    seed = aligned.record.options["seed"]
    return sets.people.to_dict(ceiling_of(aligned.judge.labels, examples, before, after, seed=seed))
