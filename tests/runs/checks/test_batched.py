"""What is measured after a search by way of a batch endpoint: the same as by plain calls, each request paid once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from photographs import photographs, student
from workspaces import shared

from blpo_dspy import align
from blpo_dspy.embedded.server.batches import BatchOptions
from blpo_dspy.embedded.server.faults import Faults
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.runs.align import Alignment

pytestmark = pytest.mark.slow

PRICES = {"openai/embedded": (1.0, 2.0)}


def aligned(base: str, folder: Path, **options: Any) -> Alignment:
    """A short search, and what is measured after it."""
    sets = {name.removesuffix("set"): examples for name, examples in photographs().items()}
    models = Models.named("openai/embedded", api_base=base, api_key="k", cache=False)
    small = {
        "rounds": 1,
        "inner_steps": 0,
        "seed": 2,
        "label_errors": 4,
        "num_threads": 4,
        "progress": False,
        "prices": PRICES,
    }
    return shared(align, student(evidence="image"), **sets, models=models, run_dir=folder, **{**small, **options})


def answered(log: Path) -> Counter[tuple[str, str]]:
    """How often each request was answered, with the way it came by."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return Counter(
        (line["method"], line["request"]) for line in lines if "chat" in line["path"] and line["status"] == 200
    )


def ledger_of(folder: Path) -> dict[str, Any]:
    """What was spent after the search, by role."""
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())["ledger"]["measure"]
    return found


def test_test_split_and_label_errors_are_those_of_plain_calls_at_half_the_price(tmp_path: Path) -> None:
    """With rows that fail and a batch that expires; plain calls afterwards have nothing to pay."""
    plain_log, log = tmp_path / "plain.log", tmp_path / "batched.log"
    with start_server(Options(log=plain_log)) as base:
        plain = aligned(base, tmp_path / "plain")
    faulty = Options(log=log, faults=Faults(prow=0.05), batches=BatchOptions(expiring=1))
    with start_server(faulty) as base:
        batched = aligned(base, tmp_path / "batched", batch_api=True)
        before = log.read_text()
        again = aligned(base, tmp_path / "batched")
        assert log.read_text() == before
    assert batched.judge.instruction == plain.judge.instruction == again.judge.instruction
    assert batched.before == plain.before
    assert batched.after == plain.after
    assert batched.label_errors == plain.label_errors
    found = answered(log)
    assert {request for _, request in found} == {request for _, request in answered(plain_log)}
    assert set(found.values()) == {1}
    assert 10 < sum(way == "BATCH" for way, _ in found) < len(found)
    usd = [sum(role["usd"] for role in ledger_of(tmp_path / name).values()) for name in ("plain", "batched")]
    assert usd[1] == pytest.approx(usd[0] / 2)


def test_what_cannot_go_through_batches_is_refused_before_the_search(tmp_path: Path) -> None:
    """A run without a folder, caps that do not hold, a model without an endpoint."""
    with start_server(Options(log=tmp_path / "log")) as base:
        for folder, options, reason in (
            (None, {}, "needs run_dir="),
            (tmp_path / "run", {"max_tokens": 10**6}, "max_tokens=1000000 can't be kept with batch_api=True"),
        ):
            with pytest.raises(BlpoError, match=reason):
                aligned(base, folder, batch_api=True, **options)  # type: ignore[arg-type]
        assert not (tmp_path / "log").exists()
    with pytest.raises(BlpoError, match="answers in this process, has no batch endpoint"):
        shared(
            align,
            student(),
            train=photographs()["trainset"],
            models=replace(Models.named("embedded")),
            run_dir=tmp_path / "embedded",
            batch_api=True,
        )


def test_a_cap_on_calls_holds_over_search_and_batches(tmp_path: Path) -> None:
    """The test split is judged as far as it goes."""
    log = tmp_path / "log"
    with start_server(Options(log=log)) as base:
        done = aligned(base, tmp_path / "run", batch_api=True, max_calls=150)
    assert answered(log).total() <= 150
    assert done.after.test is not None
