"""The cost of a run, before any LM call: calls by role, tokens, dollars and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy

from blpo_dspy.errors import BlpoError
from blpo_dspy.models.prices import known_price
from blpo_dspy.notebook import html_table
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.bench.bench import find_predictors
from blpo_dspy.optimizers.bench.setup import dataset, label_space, program_lms
from blpo_dspy.optimizers.estimates.costs import call_costs, shortfall, times
from blpo_dspy.programs.costs import MOST, USUAL
from blpo_dspy.programs.visual_judge import single
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.ledger import Ledger, Usage
from blpo_dspy.workspace.workers import thread_count
from blpo_dspy.workspace.workspace import current_workspace

LATENCY = 2.0
"""Seconds that a call takes unless stated otherwise."""

_ASSUMPTIONS = (
    "no call fails, and no answer is known beforehand; half of the rounds usually reuse a minibatch",
    "a token is 4 characters, at least 2.5; reasoning that a model keeps to itself is not counted",
    "a description has at most 800 tokens, an instruction as many as are accepted",
    "judge and verbalizer calls run in parallel, optimizer calls one after the other",
)


@dataclass(frozen=True, repr=False)
class Estimate:
    """The cost of a run.

    Attributes:
        usual: Calls, tokens and dollars of a usual run by role.
        most: Their upper bounds by role.
        costs: The usage of a usual and of the largest call by role.
        unpriced: The models without a price.
        budget: The caps; no total is above them.
        latency: Seconds that a call takes.
        threads: Calls at once.
        warnings: What to change before the run.
    """

    usual: Ledger
    most: Ledger
    costs: tuple[Mapping[str, Usage], Mapping[str, Usage]]
    unpriced: tuple[str, ...]
    budget: Budget
    latency: float
    threads: int
    warnings: tuple[str, ...] = ()

    def totals(self) -> dict[str, dict[str, float] | None]:
        """Returns the usual and the highest calls, tokens, usd (None if unknown) and seconds of all roles."""
        usual, most = (self._total(ledger) for ledger in (self.usual, self.most))
        found = {name: {"usual": value, "most": most[name]} for name, value in usual.items()}
        return {name: None if name == "usd" and self.unpriced else ends for name, ends in found.items()}

    def _total(self, ledger: Ledger) -> dict[str, float]:
        total, budget = ledger.total, self.budget
        # After each optimizer call verbalizer and judge start again, and the last calls of both leave threads idle.
        seconds = self.latency * (total.calls / self.threads + 3 * ledger["optimizer"].calls)
        known = {"calls": total.calls, "tokens": total.tokens, "usd": total.usd, "seconds": seconds}
        caps = (budget.calls, budget.max_tokens, budget.max_usd, budget.max_seconds)
        pairs = zip(known.items(), caps, strict=True)
        return {name: value if cap is None else min(value, cap) for (name, value), cap in pairs}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        by_role = {
            role: {
                name: {"usual": getattr(usage, name), "most": getattr(self.most[role], name)}
                for name in ("calls", "prompt_tokens", "image_tokens", "completion_tokens")
            }
            for role, usage in self.usual.roles.items()
        }
        about = {"unpriced": list(self.unpriced), "latency": self.latency, "threads": self.threads}
        warned = {"warnings": list(self.warnings), "assumptions": list(_ASSUMPTIONS)}
        return {"roles": by_role, **self.totals(), **about, **warned}

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        calls = self.totals()["calls"] or {}
        return f"Estimate({calls['usual']:,.0f} calls, at most {calls['most']:,.0f})"

    def _repr_html_(self) -> str:
        rows = [
            [name, *(f"{value:,.2f}" if name == "usd" else f"{value:,.0f}" for value in ends.values())]
            for name, ends in self.totals().items()
            if ends is not None
        ]
        return html_table([["", "usual", "at most"], *rows])

    def table(self, whole: Estimate | None = None) -> str:
        """Returns the estimate as a table, followed by the totals of the whole that it is a part of."""
        rows = {f"{role} calls": (usage.calls, self.most[role].calls) for role, usage in self.usual.roles.items()}
        rows["image tokens"] = (self.usual.total.image_tokens, self.most.total.image_tokens)
        lines = [f"{'':<18}{'usual':>14}{'most':>14}"]
        lines += [f"{name:<18}{usual:>14,}{most:>14,}" for name, (usual, most) in rows.items()]
        for found, suffix in ((self, ""), (whole, " in all")):
            ends = {} if found is None else found.totals()
            lines += [_row(name, suffix, pair) for name, pair in ends.items() if pair is not None]
        if self.unpriced:
            lines.append(f"US dollars: unknown, as there is no known price of {', '.join(self.unpriced)}")
        lines.append(f"Wall time is at {self.latency:g} s a call and {self.threads} calls at once.")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])

    def plus(self, calls: Mapping[str, int], budget: Budget | None) -> Estimate:
        """Returns the estimate with further calls by role before or after the run, all under one budget."""
        usual, most = (Ledger(times(calls, costs)) for costs in self.costs)
        return replace(self, usual=self.usual + usual, most=self.most + most, budget=budget or Budget())


def estimate(
    optimizer: JudgeOptimizer,
    student: dspy.Module,
    *,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example] | None = None,
    latency: float = LATENCY,
) -> Estimate:
    """Returns the cost of `optimizer.compile` with these arguments; no LM is called.

    Args:
        optimizer: As it would be compiled with: its options, models, prices, threads and budget count.
        student: The program.
        trainset: Labelled examples.
        valset: Labelled examples.
        latency: Seconds that an LM call takes.

    Raises:
        BlpoError: If the arguments don't fit together (as `compile` would say), or there is no estimate for the
            optimizer.
    """
    if not latency > 0:
        raise BlpoError(f"latency={latency!r} is not a valid time for a call; give seconds")
    student = single(student)
    predictors = find_predictors(student, optimizer.verbalizer, optimizer.judge)
    data = dataset(student, trainset, valset, optimizer.label_field)
    label_space(optimizer.labels, student, data.examples, optimizer.label_field, optimizer.metric)
    lms = program_lms(student, predictors, optimizer.task_model, optimizer.verbalizer_model)
    models = {name: lm for name, (lm, _) in lms.items()}
    plan = optimizer.plan(student, data, predictors.verbalizer)
    if plan is None:
        raise BlpoError(f"there is no estimate for {type(optimizer).__name__}; give its run a budget instead")
    usual, most = (
        call_costs(optimizer, plan, student, predictors.verbalizer, models, data.examples, assumed)
        for assumed in (USUAL, MOST)
    )
    budget = optimizer.budget or Budget()
    warning = shortfall(budget, plan, usual)
    asked = [*models.values(), optimizer.prompt_model]
    return Estimate(
        usual=Ledger(times(plan.usual, usual)),
        most=Ledger(times(plan.most, most)),
        costs=(usual, most),
        unpriced=tuple(sorted({lm.model for lm in asked if known_price(lm, current_workspace().prices) is None})),
        budget=budget,
        latency=latency,
        threads=thread_count(optimizer.num_threads),
        warnings=() if warning is None else (warning,),
    )


def sum_of_estimates(parts: Sequence[Estimate]) -> Estimate:
    """Returns the cost of runs one after the other, all with the same kinds of caps."""
    first, *others = parts
    caps: dict[str, Any] = {name: sum(part.budget.caps()[name] for part in parts) for name in first.budget.caps()}
    return replace(
        first,
        usual=sum((part.usual for part in others), first.usual),
        most=sum((part.most for part in others), first.most),
        budget=Budget(**caps, keep_calls=sum(part.budget.keep_calls for part in parts)),
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )


def _row(name: str, suffix: str, ends: Mapping[str, float]) -> str:
    title = {"usd": "US dollars", "seconds": "wall time"}.get(name, name) + suffix
    shown = [_duration(v) if name == "seconds" else f"{v:,.{2 * (name == 'usd')}f}" for v in ends.values()]
    return f"{title:<18}" + "".join(f"{value:>14}" for value in shown)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
