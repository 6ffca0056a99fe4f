"""Tests of what a run is said to cost beforehand."""

from __future__ import annotations

import re
import warnings
from typing import Any

import dspy
import pytest
from engines import Seen
from judges import SAFETY, picture
from worlds import TRAIN, VALIDATION, brightness, examples, mind, student, world

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs.dataset import rated_photographs
from blpo_dspy.data.sources.photographs.raters import RATERS
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.models.image_tokens import image_tokens
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.baselines.opro import OPRO
from blpo_dspy.optimizers.estimate import Estimate, estimate
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.ledger import ROLES, Ledger
from blpo_dspy.workspace.workspace import Workspace

pytestmark = pytest.mark.slow

VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "paper": {"paper": True},
    "no inner loop": {"inner_steps": 0},
    "fixed": {"verbalizer_search": "fixed"},
    "judge instruction": {"verbalizer_search": "judge", "inner_loop": "all_steps"},
    "all examples": {"minibatch_size": None, "shown_right": 0},
    "no choice": {"select": "last", "minibatch_size": 5, "batch_size": 3},
}


def seeing(seen: Seen) -> Any:
    """Describes the brightness whatever it is asked for."""
    return {"description": f"brightness {brightness(seen)}"} if seen.fields == ["description"] else mind(seen)


def optimizer(lm: dspy.LM, *, paper: bool = False, **options: Any) -> BLPO:
    """Returns a small BLPO."""
    options = {"rounds": 2, "inner_steps": 2, "num_threads": 4, **options}
    return (BLPO.paper if paper else BLPO)(prompt_model=lm, task_model=lm, **options)


def within(estimated: Estimate, ledger: Ledger) -> None:
    """Checks that no figure of a run is above its bound, nor the usual one."""
    for role in ROLES:
        assert ledger[role].calls <= estimated.most[role].calls, role
        assert estimated.usual[role].calls <= estimated.most[role].calls, role
    totals = estimated.totals()
    assert ledger.total.calls <= totals["calls"]["most"]
    assert ledger.total.tokens <= totals["tokens"]["most"]


RUNS = [(variant, evidence, VALIDATION[::4]) for variant in VARIANTS for evidence in ("image", "both", "description")]
RUNS += [("defaults", "both", None), ("paper", "image", None), ("fixed", "description", None)]


@pytest.mark.parametrize(("variant", "evidence", "valset"), RUNS)
def test_completed_runs_lie_within_their_estimate(variant: str, evidence: str, valset: Any) -> None:
    """Calls of every role and in total, for every way of searching and every kind of evidence."""
    lm = world(seeing)
    start = student(evidence=evidence)
    compile_ = optimizer(lm, **VARIANTS[variant])
    estimated = estimate(compile_, start, trainset=TRAIN[::3], valset=valset)
    assert lm.engine.seen == []
    program = compile_.compile(start, trainset=TRAIN[::3], valset=valset)
    within(estimated, program.detailed_results.ledger)


CAPS = [7, 20, 35, 60, 90, 130, 180, 260]


@pytest.mark.filterwarnings("ignore:.*hardly pays")
@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize(
    ("variant", "evidence", "valset"),
    [
        ("defaults", "both", VALIDATION[::4]),
        ("defaults", "description", None),
        ("paper", "image", VALIDATION[::4]),
        ("all examples", "image", VALIDATION[::4]),
        ("no choice", "both", None),
    ],
)
def test_capped_runs_lie_within_their_estimate(cap: int, variant: str, evidence: str, valset: Any) -> None:
    """Wherever the cap ends them, before the first search and in the first validation too."""
    lm = world(seeing)
    start = student(evidence=evidence)
    compile_ = optimizer(lm, **VARIANTS[variant], budget=Budget(max_calls=cap))
    estimated = estimate(compile_, start, trainset=TRAIN[::3], valset=valset)
    within(estimated, compile_.compile(start, trainset=TRAIN[::3], valset=valset).detailed_results.ledger)


def test_unusable_proposals_reach_the_most_requests_to_the_optimizer() -> None:
    """Every proposal asked for twice: the upper bound of the optimizer's calls."""

    def mumbling(seen: Seen) -> Any:
        if seen.fields[0].endswith("instruction"):
            return {seen.fields[0]: "Bright is above 20"}
        return mind(seen)

    lm = world(mumbling)
    compile_ = optimizer(lm, inner_steps=0, rounds=1)
    estimated = estimate(compile_, student(), trainset=TRAIN, valset=VALIDATION)
    ledger = compile_.compile(student(), trainset=TRAIN, valset=VALIDATION).detailed_results.ledger
    assert ledger["optimizer"].calls == estimated.most["optimizer"].calls == 2


@pytest.mark.parametrize("evidence", ["image", "both"])
def test_runs_of_the_offline_engine_lie_within_their_estimate(evidence: Any) -> None:
    """Calls, tokens with those of the images, and dollars (it costs nothing)."""
    splits = rated_photographs(RATERS["sharp"], train=24, val=12, test=0)
    train, val = (
        [dspy.Example(image=p.image, label=p.label).with_inputs("image") for p in part]
        for part in (splits.train, splits.val)
    )
    lm = embedded_lm()
    start = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate the technical quality.", evidence=evidence)
    compile_ = optimizer(lm)
    estimated = estimate(compile_, start, trainset=train, valset=val)
    ledger = compile_.compile(start, trainset=train, valset=val).detailed_results.ledger
    within(estimated, ledger)
    for role in ROLES:
        usage = ledger[role]
        assert usage.prompt_tokens <= estimated.most[role].prompt_tokens
        assert usage.completion_tokens <= estimated.most[role].completion_tokens
    assert estimated.usual["judge"].image_tokens == 85 * estimated.usual["judge"].calls
    assert (estimated.totals()["usd"]["most"], ledger.total.usd, ledger.total.unpriced) == (0.0, 0.0, 0)


def test_dollars_come_from_tables_or_from_the_user_and_are_else_unknown() -> None:
    """gpt-4o-mini has a table price, another price wins over it, and no price is not zero."""
    known = optimizer(dspy.LM("openai/gpt-4o-mini"))
    by_table = estimate(known, student(), trainset=TRAIN, valset=VALIDATION)
    with Workspace(prices={"openai/gpt-4o-mini": (1.5, 6.0)}):
        by_user = estimate(known, student(), trainset=TRAIN, valset=VALIDATION)
    table, own = by_table.totals()["usd"], by_user.totals()["usd"]
    assert 0 < table["usual"] < table["most"]
    assert own["usual"] == pytest.approx(10 * table["usual"])
    most = by_table.most.total
    assert table["most"] == pytest.approx(most.prompt_tokens * 0.15e-6 + most.completion_tokens * 0.6e-6)
    unknown = estimate(optimizer(world()), student(), trainset=TRAIN, valset=VALIDATION)
    assert (unknown.totals()["usd"], unknown.unpriced) == (None, ("scripted/test",))
    assert unknown.to_dict()["usd"] is None
    assert "unknown, as there is no known price of scripted/test" in str(unknown)
    with pytest.raises(BlpoError, match=r"the price of 'x' is \(1, 'a'\)"):
        Workspace(prices={"x": (1, "a")})  # type: ignore[dict-item]


def test_the_text_shows_what_the_data_holds() -> None:
    """A table for people, plain data for programs."""
    estimated = estimate(optimizer(embedded_lm()), student(), trainset=TRAIN, valset=VALIDATION, latency=1.5)
    shown = str(estimated)
    for words in (
        "judge calls",
        "verbalizer calls",
        "optimizer calls",
        "US dollars",
        "1.5 s a call and 4 calls at once",
    ):
        assert words in shown
    data = estimated.to_dict()
    judge, most = data["roles"]["judge"], estimated.most["judge"]
    assert [judge[name]["most"] for name in judge] == [getattr(most, name) for name in judge]
    assert data["seconds"] == estimated.totals()["seconds"]
    assert f"{data['calls']['most']:,}" in next(line for line in shown.splitlines() if line.startswith("calls "))


def test_wall_time_follows_latency_and_threads() -> None:
    """Twice the latency takes twice as long; more threads are faster, but steps still follow one another."""

    def seconds(threads: int, latency: float) -> float:
        made = optimizer(world(), num_threads=threads)
        found = estimate(made, student(), trainset=TRAIN, valset=VALIDATION, latency=latency).totals()["seconds"]
        assert found["usual"] <= found["most"]
        return float(found["usual"])

    assert seconds(4, 2.0) == pytest.approx(2 * seconds(4, 1.0))
    assert seconds(1, 1.0) > 3 * seconds(8, 1.0) > 3 * seconds(10**6, 1.0) > 30


def test_a_cap_bounds_the_estimate() -> None:
    """No figure is above the cap on it."""
    budget = Budget(max_calls=100, max_tokens=5000, max_usd=0.01, max_seconds=60)
    made = optimizer(dspy.LM("openai/gpt-4o"), budget=budget)
    estimated = estimate(made, student(), trainset=TRAIN, valset=VALIDATION)
    most = {name: ends["most"] for name, ends in estimated.totals().items()}
    assert most == {"calls": 100, "tokens": 5000, "usd": 0.01, "seconds": 60}


@pytest.mark.parametrize(
    ("budget", "named"),
    [
        (Budget(max_calls=60), r"max_calls=60 hardly pays for a round, which takes about \d+ calls"),
        (Budget(max_calls=130), r"max_calls=130 hardly pays for more than one round: two take about \d+ calls, one"),
        (Budget(max_calls=180, keep_calls=50), r"max_calls=180 hardly pays for more than one .*, and 50 are kept"),
        (Budget(max_tokens=9000), r"max_tokens=9000 hardly pays for a round, which takes about [\d,]+ tokens"),
        (Budget(max_usd=0.001), r"max_usd=0\.001 hardly pays for a round, which takes about [\d.]+ dollars"),
    ],
)
def test_a_cap_that_hardly_pays_for_two_rounds_is_named_up_front(budget: Budget, named: str) -> None:
    """The estimate, a warning before the first call and the result all say it, with what the cap pays for."""
    lm = world()
    made = optimizer(lm, budget=budget)
    with Workspace(prices={"scripted/test": (1.0, 1.0)}):
        assert re.search(named, estimate(made, student(), trainset=TRAIN, valset=VALIDATION).warnings[0])
        assert lm.engine.seen == []
        with pytest.warns(UserWarning, match=named):
            program = made.compile(student(), trainset=TRAIN, valset=VALIDATION)
    assert re.search(named, program.detailed_results.warnings[0])


def test_a_cap_that_pays_for_two_rounds_as_a_rule_gives_no_warning() -> None:
    """480 calls for 30 images to learn from and 18 to validate, with 120 kept for a test: not the worst case."""
    photographs = examples(range(0, 240, 5))
    sets = {"trainset": photographs[:30], "valset": photographs[30:]}
    made = optimizer(world(), budget=Budget(max_calls=480, keep_calls=120))
    assert estimate(made, student(evidence="both"), **sets).warnings == ()
    short = optimizer(world(), budget=Budget(max_calls=280, keep_calls=120))
    (told,) = estimate(short, student(evidence="both"), **sets).warnings
    two, one = map(int, re.findall(r"about (\d+)", told))
    assert one <= 280 - 120 < two <= 480 - 120


def test_a_cap_that_pays_gives_no_warning() -> None:
    """Nothing is said where there is nothing to say."""
    made = optimizer(world(), budget=Budget(max_calls=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        program = made.compile(student(), trainset=TRAIN, valset=VALIDATION)
    assert program.detailed_results.warnings == ()


def test_a_cap_in_dollars_without_prices_is_refused_before_the_first_call() -> None:
    """A cap that can't be kept would lose money."""
    lm = world()
    made = optimizer(lm, budget=Budget(max_usd=1.0))
    with pytest.raises(BlpoError, match=r"max_usd=1\.0 can't be kept, as the price of scripted/test is not known"):
        made.compile(student(), trainset=TRAIN, valset=VALIDATION)
    assert lm.engine.seen == []


def test_what_compile_would_refuse_is_refused() -> None:
    """Bad data, a latency that is none, and an optimizer without an estimate."""
    lm = world()
    with pytest.raises(DataError, match="not in the label space"):
        estimate(optimizer(lm), student(), trainset=[*TRAIN, TRAIN[0].copy(label="dim")])
    with pytest.raises(BlpoError, match="latency=0"):
        estimate(optimizer(lm), student(), trainset=TRAIN, latency=0)
    other: JudgeOptimizer = OPRO(prompt_model=lm, task_model=lm)
    with pytest.raises(BlpoError, match="no estimate for OPRO"):
        estimate(other, student(), trainset=TRAIN)


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("openai/gpt-4o", (1024, 1024), 765),
        ("openai/gpt-4o-2024-08-06", (2048, 4096), 1105),
        ("openai/gpt-4o-mini", (512, 512), 8500),
        ("openai/gpt-4.1-mini", (1024, 1024), 1659),
        ("anthropic/claude-sonnet-4-5", (1000, 1000), 1334),
        ("bedrock/anthropic.claude-3-haiku", (3000, 3000), 1600),
        ("gemini/gemini-2.5-flash", (300, 300), 258),
        ("gemini/gemini-2.5-flash", (1024, 1024), 1032),
    ],
)
def test_images_cost_the_documented_tokens(model: str, size: tuple[int, int], tokens: int) -> None:
    """The examples of the providers' own pages."""
    counted = image_tokens(model, *size)
    assert (counted.low, counted.high) == (tokens, tokens)


def test_an_unknown_model_gets_a_range() -> None:
    """Encoders of local models range from a fixed grid to a token for each patch."""
    counted = image_tokens("ollama_chat/llava", 1024, 1024)
    assert counted.low < 1369 <= counted.high


def test_every_image_of_a_row_counts() -> None:
    """Those of a list too, in the judge's calls as in the verbalizer's."""
    image = dspy.Image(picture())
    rows = [
        dspy.Example(left=image, views=[image, image], label=label).with_inputs("left", "views")
        for label in ("Safe", "Unsafe") * 3
    ]
    lm = embedded_lm()
    start = VisualJudge(SAFETY, instruction="Judge.", images=["left", "views: list[dspy.Image]"])
    usual = estimate(BLPO(prompt_model=lm, task_model=lm), start, trainset=rows, valset=rows).usual
    for role in ("judge", "verbalizer"):
        assert usual[role].image_tokens == 3 * 85 * usual[role].calls
    assert usual["optimizer"].image_tokens == 0
