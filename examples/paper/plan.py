"""The estimate of the protocol's calls and cost, before any LM call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dspy

from blpo_dspy import BLPO, Budget, Models
from blpo_dspy.comparison.methods import Method
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.prices import known_price
from blpo_dspy.optimizers.estimate import Estimate, estimate
from blpo_dspy.optimizers.estimates.plan import Span
from paper.methods import Sizes, methods, sweep
from paper.sets import PaperSet


@dataclass(frozen=True)
class Part:
    """A comparison on one dataset: the main table with the ablation, or a sweep.

    Attributes:
        data: The dataset.
        name: "main" or "sweep".
        methods: What is compared.
        max_calls: The cap on each search.
        calls: LM calls of all searches and measurements, over all seeds.
        tokens: Their tokens.
        usd: Their price; None where nobody knows it.
        unpriced: The models without a price.
    """

    data: PaperSet
    name: str
    methods: Mapping[str, Method]
    max_calls: int
    calls: Span
    tokens: Span
    usd: Span | None
    unpriced: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choices:
    """What a user chose.

    Attributes:
        models: The models by role.
        sizes: The paper's, or those of the smoke run.
        methods: Names of methods; all of them if None.
        seeds: One run of every method for each.
        sweeps: Whether Fig. 4 is run too.
        max_calls: The cap on the LM calls of each search; the most that BLPO may make if None.
        max_usd: The cap on the dollars of each search.
        threads: LM calls under way at once.
    """

    models: Models
    sizes: Sizes
    methods: Sequence[str] | None = None
    seeds: Sequence[int] = (0,)
    sweeps: bool = False
    max_calls: int | None = None
    max_usd: float | None = None
    threads: int | None = field(default=None)

    def __post_init__(self) -> None:
        if not self.seeds:
            raise BlpoError("no seeds; give at least one")


def plan(data: PaperSet, chosen: Choices) -> list[Part]:
    """Returns the comparisons of one dataset, each with a bound on its cost."""
    parts = [_part(data, "main", methods(chosen.sizes, chosen.methods), chosen)]
    if chosen.sweeps:
        parts.append(_part(data, "sweep", sweep(chosen.sizes), chosen))
    return parts


def _part(data: PaperSet, name: str, compared: Mapping[str, Method], chosen: Choices) -> Part:
    """The bound for BLPO is the algorithm's own; a baseline runs until the same cap and is taken to cost as much."""
    blpo = methods(chosen.sizes, ["blpo"])
    most = {key: _estimated(data, m, chosen) for key, m in {**blpo, **compared}.items() if m.make == BLPO.paper}
    cap = chosen.max_calls or math.ceil(max(found.total_calls.high for found in most.values()))
    calls, tokens, usd = Span(), Span(), Span()
    unpriced: set[str] = set()
    for key, method in compared.items():
        found = most.get(key, most["blpo"])
        unpriced |= set(found.unpriced)
        if method.make is not None:
            own = key in most
            calls += _bound(found.total_calls, own, cap)
            tokens += _bound(found.total_tokens, own)
            usd += _bound(found.usd or Span(), own, chosen.max_usd)
    measured = (len(data.train) + len(data.test)) * len(compared)
    calls += Span(measured, measured, measured)
    tokens = [most["blpo"].prompt_tokens["judge"], most["blpo"].completion_tokens["judge"]]
    share = measured / max(1.0, most["blpo"].calls["judge"].high)
    for amount, price in zip(tokens, known_price(chosen.models.judge, {}) or (0.0, 0.0), strict=True):
        tokens += amount * Span(0, share, share)
        usd += amount * Span(0, share * price / 1e6, share * price / 1e6)
    times = Span(*[len(chosen.seeds)] * 3)
    known = None if unpriced else usd * times
    return Part(data, name, compared, cap, calls * times, tokens * times, known, tuple(sorted(unpriced)))


def _estimated(data: PaperSet, method: Method, chosen: Choices) -> Estimate:
    optimizer = BLPO.paper(
        prompt_model=chosen.models.optimizer,
        task_model=chosen.models.judge,
        verbalizer_model=chosen.models.verbalizer,
        num_threads=chosen.threads,
        budget=Budget(max_calls=chosen.max_calls, max_usd=chosen.max_usd),
        **method.options,
    )
    with dspy.context(lm=chosen.models.judge):
        return estimate(optimizer, data.student, trainset=data.train)


def _bound(span: Span, own: bool, cap: float | None = None) -> Span:
    """The span of a method, or of a baseline that spends all it may."""
    return (span if own else Span(span.low, span.high, span.high)).capped(cap)


def described(parts: Sequence[Part], chosen: Choices) -> str:
    """Returns the plan as a Markdown table, and what it rests on."""
    lines = ["| dataset | part | images | searches | calls each | all calls | tokens, millions | US dollars |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for part in parts:
        searches = len(chosen.seeds) * sum(method.make is not None for method in part.methods.values())
        images = f"{len(part.data.train)} + {len(part.data.test)}"
        cells = [part.data.name, part.name, images, str(searches), f"≤ {part.max_calls:,}", _range(part.calls)]
        cells += [
            _range(part.tokens * Span(1e-6, 1e-6, 1e-6), 1),
            "unknown" if part.usd is None else _range(part.usd, 2),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    total = sum((part.calls for part in parts), Span())
    unpriced = sorted({model for part in parts for model in part.unpriced})
    usd = "unknown, as nobody knows what " + ", ".join(unpriced) + " costs"
    if not unpriced:
        usd = _range(sum((part.usd for part in parts if part.usd is not None), Span()), 2)
    lines += [
        "",
        f"In all {_range(total)} LM calls (usual – most); US dollars: {usd}.",
        "A baseline runs until it has made as many calls as BLPO may make, and is taken to cost as much. What several "
        "searches ask alike is paid for once, which the figures leave out; reasoning tokens are not in them either.",
    ]
    return "\n".join(lines)


def _range(span: Span, digits: int = 0) -> str:
    return f"{span.usual:,.{digits}f} – {span.high:,.{digits}f}"
