"""What a run will cost, before any LM call: calls by role, tokens, dollars and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dspy

from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.workers import thread_count
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.bench.bench import find_predictors
from blpo_dspy.optimizers.bench.setup import dataset, label_space, program_lms
from blpo_dspy.optimizers.estimates.costs import CallCost, call_costs, shortfall
from blpo_dspy.optimizers.estimates.plan import Pass, Sizes, Span

LATENCY = 2.0
"""Seconds that a call takes unless said otherwise."""

_BY_ROLE = ("calls", "prompt_tokens", "image_tokens", "completion_tokens")
_ASSUMPTIONS = (
    "the calls are bounds of the algorithm for a run in which nothing fails and no answer is known beforehand",
    "half of the rounds work on a minibatch that served before",
    "a token is 2.5 to 6 characters; reasoning that a model keeps to itself is not counted",
    "a description has at most 800 tokens, an instruction as many as are accepted",
)


@dataclass(frozen=True)
class Estimate:
    """What a run comes to: spans with a least, a usual and a highest value.

    Attributes:
        calls: LM calls by role.
        total_calls: All roles together.
        prompt_tokens: By role, images included.
        image_tokens: By role, the part of `prompt_tokens` that are images.
        completion_tokens: By role.
        total_tokens: Prompt and completion tokens of all roles.
        usd: US dollars; None where the price of a model is unknown.
        unpriced: The models without a price.
        seconds: Wall time at `latency` seconds a call and `threads` calls at once.
        latency: See `seconds`.
        threads: See `seconds`.
        costs: What a call comes to, by role.
        warnings: What to change before the run.
        assumptions: What the figures rest on.
    """

    calls: Mapping[str, Span]
    total_calls: Span
    prompt_tokens: Mapping[str, Span]
    image_tokens: Mapping[str, Span]
    completion_tokens: Mapping[str, Span]
    total_tokens: Span
    usd: Span | None
    unpriced: tuple[str, ...]
    seconds: Span
    latency: float
    threads: int
    costs: Mapping[str, CallCost] = field(repr=False)
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = _ASSUMPTIONS

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            **{name: {role: span.to_dict() for role, span in getattr(self, name).items()} for name in _BY_ROLE},
            "total_calls": self.total_calls.to_dict(),
            "total_tokens": self.total_tokens.to_dict(),
            "usd": None if self.usd is None else self.usd.to_dict(),
            "unpriced": list(self.unpriced),
            "seconds": self.seconds.to_dict(),
            "latency": self.latency,
            "threads": self.threads,
            "warnings": list(self.warnings),
            "assumptions": list(self.assumptions),
        }

    def sums(self) -> dict[str, Any]:
        """Returns calls by role, tokens, dollars and time as plain data for JSON."""
        data = self.to_dict()
        return {name: data[name] for name in ("calls", "total_calls", "total_tokens", "usd", "seconds")}

    def __str__(self) -> str:
        return self.beside()

    def beside(self, whole: Estimate | None = None) -> str:
        """Returns the estimate as a table, below it the sums of what this is a part of."""
        rows = [["", "least", "usual", "most"]]
        rows += [[f"{role} calls", *_counts(span)] for role, span in self.calls.items()]
        rows += [["all calls", *_counts(self.total_calls)], ["tokens", *_counts(self.total_tokens)]]
        rows.append(["of them images", *_counts(sum(self.image_tokens.values(), Span()))])
        rows += self._money_and_time()
        if whole is not None:
            sums = [["calls", *_counts(whole.total_calls)], ["tokens", *_counts(whole.total_tokens)]]
            rows += [[f"{name} in all", *values] for name, *values in (*sums, *whole._money_and_time())]
        lines = [f"{name:<18}" + "".join(f"{value:>14}" for value in values) for name, *values in rows]
        if self.usd is None:
            lines.append(f"US dollars: unknown, as nobody knows what {', '.join(self.unpriced)} costs")
        lines.append(f"Wall time is at {self.latency:g} s a call and {self.threads} calls at once.")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])

    def _money_and_time(self) -> list[list[str]]:
        dollars = [] if self.usd is None else [["US dollars", *(f"{amount:,.2f}" for amount in _values(self.usd))]]
        return [*dollars, ["wall time", *map(_duration, _values(self.seconds))]]


def estimate(
    optimizer: JudgeOptimizer,
    student: dspy.Module,
    *,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example] | None = None,
    latency: float = LATENCY,
) -> Estimate:
    """Returns what `optimizer.compile` with these arguments will come to; no LM is called.

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
        raise BlpoError(f"latency={latency!r} is no time that a call takes; give seconds")
    predictors = find_predictors(student, optimizer.verbalizer, optimizer.judge)
    data = dataset(student, trainset, valset, optimizer.label_field)
    label_space(optimizer.labels, student, data.examples, optimizer.label_field, optimizer.metric)
    lms = program_lms(student, predictors, optimizer.task_model, optimizer.verbalizer_model)
    models = {name: lm for name, (lm, _) in lms.items()}
    threads = thread_count(optimizer.num_threads)
    plan = optimizer.plan(Sizes.of(student, data, predictors.verbalizer), threads)
    if plan is None:
        raise BlpoError(f"there is no estimate for {type(optimizer).__name__}; give its run a budget instead")
    costs = call_costs(optimizer, plan, student, predictors.verbalizer, models, data.examples)
    budget = optimizer.budget or Budget()
    missing = shortfall(budget, plan, lambda: costs)
    found = _come_to(plan.calls, plan.depth, costs, latency, threads)
    return replace(_capped(found, budget), warnings=() if missing is None else (missing,))


def _come_to(
    calls: Mapping[str, Span], depth: Span, costs: Mapping[str, CallCost], latency: float, threads: int
) -> Estimate:
    """What calls come to, `depth` of them one after the other."""
    prompts = {role: calls[role] * (cost.text + cost.images) for role, cost in costs.items()}
    answers = {role: calls[role] * cost.answer for role, cost in costs.items()}
    unpriced = {cost.model for role, cost in costs.items() if cost.price is None and calls[role].high}
    dollars = sum((_dollars(cost, prompts[role], answers[role]) for role, cost in costs.items()), Span())
    return Estimate(
        calls=calls,
        total_calls=sum(calls.values(), Span()),
        prompt_tokens=prompts,
        image_tokens={role: calls[role] * cost.images for role, cost in costs.items()},
        completion_tokens=answers,
        total_tokens=sum((*prompts.values(), *answers.values()), Span()),
        usd=None if unpriced else dollars,
        unpriced=tuple(sorted(unpriced)),
        seconds=depth * Span(latency, latency, latency),
        latency=latency,
        threads=threads,
        costs=costs,
    )


def _capped(found: Estimate, budget: Budget) -> Estimate:
    """The estimate under caps; one on tokens, dollars or seconds that may be reached may end the run anywhere."""
    spans = ((found.total_tokens, budget.max_tokens), (found.usd, budget.max_usd), (found.seconds, budget.max_seconds))
    if any(span is not None and cap is not None and span.high > cap for span, cap in spans):
        found = _without_least(found)
    return replace(
        found,
        total_calls=found.total_calls.capped(budget.calls),
        total_tokens=found.total_tokens.capped(budget.max_tokens),
        usd=None if found.usd is None else found.usd.capped(budget.max_usd),
        seconds=found.seconds.capped(budget.max_seconds),
    )


def _without_least(found: Estimate) -> Estimate:
    less: dict[str, Any] = {
        name: {role: span.without_least() for role, span in getattr(found, name).items()} for name in _BY_ROLE
    }
    less |= {name: getattr(found, name).without_least() for name in ("total_calls", "total_tokens", "seconds")}
    return replace(found, **less, usd=None if found.usd is None else found.usd.without_least())


def with_passes(search: Estimate, passes: Sequence[Pass], budget: Budget | None) -> Estimate:
    """Returns what a search comes to with the images that are judged before and after it, under one budget."""
    calls = {role: sum((each.span(role) for each in passes), Span()) for role in search.calls}
    depth = sum((each.depth(search.threads) for each in passes), Span())
    further = _come_to(calls, depth, search.costs, search.latency, search.threads)
    return _capped(sum_of_estimates([search, further]), budget or Budget())


def sum_of_estimates(parts: Sequence[Estimate]) -> Estimate:
    """Returns what runs one after the other come to, at the latency and the threads of the first."""
    known = [part.usd for part in parts if part.usd is not None]
    by_role: dict[str, Any] = {name: _by_role([getattr(part, name) for part in parts]) for name in _BY_ROLE}
    return replace(
        parts[0],
        **by_role,
        total_calls=sum((part.total_calls for part in parts), Span()),
        total_tokens=sum((part.total_tokens for part in parts), Span()),
        usd=sum(known, Span()) if len(known) == len(parts) else None,
        unpriced=tuple(sorted({model for part in parts for model in part.unpriced})),
        seconds=sum((part.seconds for part in parts), Span()),
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )


def _by_role(parts: Sequence[Mapping[str, Span]]) -> dict[str, Span]:
    return {role: sum((part[role] for part in parts), Span()) for role in parts[0]}


def _dollars(cost: CallCost, prompts: Span, answers: Span) -> Span:
    prompt, completion = (amount / 1e6 for amount in cost.price or (0.0, 0.0))
    return prompts * Span(prompt, prompt, prompt) + answers * Span(completion, completion, completion)


def _values(span: Span) -> tuple[float, float, float]:
    return span.low, span.usual, span.high


def _counts(span: Span) -> list[str]:
    return [f"{value:,.0f}" for value in _values(span)]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
