"""Tests of what the measurements beside a search are said to cost."""

from __future__ import annotations

import io
from typing import Any

import dspy
import pytest
from engines import Seen
from rich.console import Console
from worlds import TRAIN, VALIDATION, brightness, examples, mind, student, world

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, rated_pairs
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.estimate import estimate
from blpo_dspy.programs import VisualJudge
from blpo_dspy.runs.checks.costs import costs_after
from blpo_dspy.runs.compiling import compile_and_measure, make_optimizer
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.record import result
from blpo_dspy.workspace.ledger import ROLES
from blpo_dspy.workspace.watch import Watch
from blpo_dspy.workspace.workspace import Workspace

pytestmark = pytest.mark.slow

SETS = Sets(TRAIN[::3], VALIDATION[::4], examples(range(1, 250, 24)), "three sets")


def seeing(seen: Seen) -> Any:
    """Describes the brightness whatever it is asked for."""
    return {"description": f"brightness {brightness(seen)}"} if seen.fields == ["description"] else mind(seen)


@pytest.mark.filterwarnings("ignore:.*hardly pays")
@pytest.mark.parametrize("evidence", ["both", "image", "description"])
@pytest.mark.parametrize(
    "options", [{}, {"paper": True}, {"fidelity": 6, "label_errors": 8}, {"max_calls": 60}, {"max_calls": 180}]
)
def test_all_calls_of_a_run_lie_within_the_estimate_in_all(evidence: str, options: dict[str, Any]) -> None:
    """By role and in total, those after the search included."""
    lm = world(seeing)
    models, start = Models(lm, lm, lm), student(evidence=evidence)
    search = Search(**{"rounds": 2, "inner_steps": 1, **options})
    costs = costs_after(start, SETS, search)
    found = estimate(make_optimizer(models, search, costs.reserved), start, trainset=SETS.train, valset=SETS.val)
    whole = found.plus(costs.calls, search.budget())
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = compile_and_measure(start, SETS, models, search, watch)
    made = aligned.record.ledger + aligned.final
    for role in ROLES:
        assert made[role].calls <= whole.most[role].calls, role
    assert made.total.calls == len(lm.engine.seen) <= whole.totals()["calls"]["most"]


def test_a_search_that_validates_nothing_has_its_validation_split_judged_and_counted() -> None:
    """As in the paper's settings; a cap on calls leaves it out."""
    start = student(evidence="both")
    plain, paper, capped = (
        costs_after(start, SETS, Search(**options))
        for options in ({}, {"paper": True}, {"paper": True, "max_calls": 999})
    )
    assert (plain.val, paper.val, capped.val) == (0, 2 * len(SETS.val) * 2, 0)
    assert paper.calls.total() == paper.val + (paper.test or 0) + paper.label_errors


def test_tokens_and_dollars_and_time_in_all_follow_the_calls() -> None:
    """Further calls add their cost."""
    lm = world()
    search = Search(rounds=2)
    start = student(evidence="both")
    optimizer = make_optimizer(Models(lm, lm, lm), search, 0)
    with Workspace(prices={"scripted/test": (1.0, 2.0)}):
        found = estimate(optimizer, start, trainset=SETS.train, valset=SETS.val)
    costs = costs_after(start, SETS, search)
    once = found.plus(costs.calls, None)
    twice = once.plus(costs.calls, None)
    for figure in ("calls", "tokens", "usd", "seconds"):
        search_only, one, two = (part.totals()[figure]["most"] for part in (found, once, twice))
        assert one > search_only
        assert two - one == pytest.approx(one - search_only)
    table = found.table(once)
    assert f"{once.totals()['calls']['most']:,}" in next(
        line for line in table.splitlines() if line.startswith("calls in all")
    )


@pytest.mark.parametrize("evidence", ["both", "image"])
def test_pairs_are_counted_and_judged_in_both_orders_after_the_search(evidence: Any) -> None:
    """Twice the calls, which the estimate holds; the record states how often the order decided, before and after."""
    labels, names = LabelSpace.pairwise("A", "B", tie="tie"), ("left", "right")
    drawn = rated_pairs(RATERS["colour"], train=16, val=10, test=12, labels=labels)
    made = {
        part: [
            dspy.Example(
                left=dspy.Image(p.left), right=dspy.Image(p.right), label=p.label, id=f"{part}{i}"
            ).with_inputs(*names)
            for i, p in enumerate(getattr(drawn, part))
        ]
        for part in ("train", "val", "test")
    }
    sets = Sets(made["train"], made["val"], made["test"], "pairs")
    start = VisualJudge(labels, instruction="Which photograph is better?", images=names, evidence=evidence)
    lm = embedded_lm(0, cache=False)
    models, search = Models(lm, lm, lm), Search(rounds=1, inner_steps=1, fidelity=4, label_errors=5)
    costs = costs_after(start, sets, search)
    assert costs.test == 2 * 2 * 12 * start.calls_per_image
    found = estimate(make_optimizer(models, search, costs.reserved), start, trainset=sets.train, valset=sets.val)
    with Watch(Console(file=io.StringIO()), shown=False) as watch:
        aligned = compile_and_measure(start, sets, models, search, watch)
    made_calls, whole = aligned.record.ledger + aligned.final, found.plus(costs.calls, search.budget())
    for role in ROLES:
        assert made_calls[role].calls <= whole.most[role].calls, role
    written = result(aligned, sets, {})
    for when, agreement in (("before", aligned.before), ("after", aligned.after)):
        assert agreement.test is not None
        assert agreement.test.flips is not None
        assert agreement.test.flips.pairs == 12
        assert written[when]["test"]["flip_rate"] == agreement.test.flip_rate
    assert aligned.judge.card["data"]["train"]["swapped"] in range(6, 11)
    assert "swapped" not in aligned.judge.card["data"]["test"]
