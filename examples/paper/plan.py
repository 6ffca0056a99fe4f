"""The estimate of the protocol's calls and cost, before any LM call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import dspy

from blpo_dspy import BLPO, Budget, Models
from blpo_dspy.comparison.methods import Method
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers.estimate import Estimate, estimate
from paper.methods import Sizes, methods, sweep
from paper.sets import PaperSet

Ends: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A comparison on one dataset: the main table with the ablation, or a sweep.

    Attributes:
        data: The dataset.
        name: "main" or "sweep".
        methods: What is compared.
        max_calls: The cap on each search.
        calls: LM calls of all searches and measurements, over all seeds: the usual number and the most.
        tokens: Their tokens.
        usd: Their price; None where nobody knows it.
        unpriced: The models without a price.
    """

    data: PaperSet
    name: str
    methods: Mapping[str, Method]
    max_calls: int
    calls: Ends
    tokens: Ends
    usd: Ends | None
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
    cap = chosen.max_calls or math.ceil(max(_ends(found, "calls")[1] for found in most.values()))
    measured = (len(data.train) + len(data.test)) * len(compared)
    judge = most["blpo"].costs[0]["judge"], most["blpo"].costs[1]["judge"]
    figures = {
        "calls": (measured, measured),
        "tokens": (measured * judge[0].tokens, measured * judge[1].tokens),
        "usd": (measured * judge[0].usd, measured * judge[1].usd),
    }
    unpriced: set[str] = set()
    for key, method in compared.items():
        found = most.get(key, most["blpo"])
        unpriced |= set(found.unpriced)
        if method.make is None:
            continue
        for figure, (usual, high) in figures.items():
            own = _ends(found, figure)
            bound = min(own[1], cap) if figure == "calls" else own[1]
            # A baseline spends all it may.
            figures[figure] = (usual + (min(own[0], bound) if key in most else bound), high + bound)
    calls, tokens, usd = ((len(chosen.seeds) * usual, len(chosen.seeds) * high) for usual, high in figures.values())
    return Part(data, name, compared, cap, calls, tokens, None if unpriced else usd, tuple(sorted(unpriced)))


def _ends(found: Estimate, figure: str) -> Ends:
    """The usual and the highest value of a total, 0 where it is unknown."""
    ends = found.totals()[figure]
    return (0, 0) if ends is None else (ends["usual"], ends["most"])


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


def described(parts: Sequence[Part], chosen: Choices) -> str:
    """Returns the plan as a Markdown table, and what it rests on."""
    lines = ["| dataset | part | images | searches | calls each | all calls | tokens, millions | US dollars |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for part in parts:
        searches = len(chosen.seeds) * sum(method.make is not None for method in part.methods.values())
        images = f"{len(part.data.train)} + {len(part.data.test)}"
        cells = [part.data.name, part.name, images, str(searches), f"≤ {part.max_calls:,}", _range([part.calls])]
        usd = "unknown" if part.usd is None else _range([part.usd], 2)
        cells += [_range([part.tokens], 1, 1e-6), usd]
        lines.append("| " + " | ".join(cells) + " |")
    unpriced = sorted({model for part in parts for model in part.unpriced})
    usd = "unknown, as nobody knows what " + ", ".join(unpriced) + " costs"
    if not unpriced:
        usd = _range([part.usd for part in parts if part.usd is not None], 2)
    lines += [
        "",
        f"In all {_range([part.calls for part in parts])} LM calls (usual – most); US dollars: {usd}.",
        "A baseline runs until it has made as many calls as BLPO may make, and is taken to cost as much. What several "
        "searches ask alike is paid for once, which the figures leave out; reasoning tokens are not in them either.",
    ]
    return "\n".join(lines)


def _range(parts: Sequence[Ends], digits: int = 0, unit: float = 1) -> str:
    return " – ".join(f"{unit * sum(values):,.{digits}f}" for values in zip(*parts, strict=True))
