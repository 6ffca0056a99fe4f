import io
import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dspy import lm15
from engines import Seen
from processes import ctrl_c
from rich.console import Console
from stores import answers, change
from worlds import LABELS, TRAIN, examples, mind, student, world
from worlds import VALIDATION as WHOLE

from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.runs.compiling import compile_and_measure
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search
from blpo_dspy.workspace import meter
from blpo_dspy.workspace.watch import Watch
from blpo_dspy.workspace.workspace import Workspace

pytestmark = pytest.mark.slow

VALIDATION = WHOLE[::2]
TEST = examples(range(1, 250, 12))
SEARCH = Search(rounds=2, inner_steps=1)


@pytest.mark.parametrize("evidence", ["both", "image"])
def test_the_test_set_is_sealed_until_everything_else_is_done(evidence: str) -> None:
    """No test image is in a request before the search has ended, and none ever in the optimizer LM's prompts."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = compile_and_measure(student(evidence=evidence), sets, Models(lm, lm, lm), SEARCH, watch)
    sealed = {example.image.url.partition(",")[2] for example in TEST}
    touched = [bool(sealed & set(seen.images)) for seen in lm.engine.seen]
    assert any(touched)
    first = touched.index(True)
    assert all(touched[first:])
    assert {field for seen in lm.engine.seen[first:] for field in seen.fields} <= {"label", "description"}
    assert aligned.after.test is not None
    assert aligned.after.test.n == len(TEST)


def test_a_cap_on_calls_holds_over_search_and_test() -> None:
    """Both stay within the cap together; the look at doubtful labels takes nothing of what the test split needs."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    search = Search(rounds=8, max_calls=300, label_errors=len(TRAIN))
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = compile_and_measure(student(), sets, Models(lm, lm, lm), search, watch)
    assert len(lm.engine.seen) <= 300
    assert [(on.test.n, on.test.failed) for on in (aligned.before, aligned.after)] == [(len(TEST), 0)] * 2


@pytest.mark.parametrize(("cap", "each"), [("max_tokens", 15), ("max_usd", 0.5)])
def test_every_cap_holds_over_search_and_test(cap: str, each: float) -> None:
    """No phase has a budget of its own; the search leaves what the test split costs.

    One call at a time: what concurrent calls cost is known once they end.
    """
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    search = Search(rounds=8, **{cap: 300 * each})
    prices = {"scripted/test": (5e4, 0.0)}  # 10 tokens in and 5 out are half a dollar
    with Workspace(prices=prices, num_threads=1), Watch(Console(file=io.StringIO())) as watch:
        aligned = compile_and_measure(student(), sets, Models(lm, lm, lm), search, watch)
    assert len(lm.engine.seen) <= 300
    assert aligned.record.rounds
    assert [(on.test.n, on.test.failed) for on in (aligned.before, aligned.after)] == [(len(TEST), 0)] * 2


def test_a_budget_that_pays_for_no_measurement_is_an_error() -> None:
    """There is no judge that says nothing was changed."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    with (
        Watch(Console(file=io.StringIO())) as watch,
        pytest.raises(BlpoError, match=r"nothing to return: .*max_tokens=1"),
    ):
        compile_and_measure(student(), sets, Models(lm, lm, lm), Search(max_tokens=1), watch)


def _aligned_as_a_server_hangs(answered: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Aligns within eight seconds; the server hangs after so many answers, and where it is shown a test image."""
    monkeypatch.setattr(meter, "GRACE", 0.2)
    sets, over = Sets(TRAIN[::2], VALIDATION[::4], TEST, "three sets"), threading.Event()
    sealed = {example.image.url.partition(",")[2] for example in TEST}

    def hanging(seen: Seen) -> Any:
        if len(lm.engine.seen) > answered or sealed & set(seen.images):
            over.wait(30)
        return mind(seen)

    lm = world(hanging)
    search = Search(rounds=1, inner_steps=0, label_errors=0, max_seconds=8)
    began = time.monotonic()
    try:
        with Watch(Console(file=io.StringIO())) as watch:
            return compile_and_measure(student(), sets, Models(lm, lm, lm), search, watch)
    finally:
        over.set()
        assert time.monotonic() - began < 20


def test_a_server_that_hangs_in_the_search_keeps_no_run_past_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way a little after its time is given up; as nothing was measured, it is an error."""
    with pytest.raises(BlpoError, match="nothing to return: the time of the run was over before the model answered"):
        _aligned_as_a_server_hangs(5, monkeypatch)


def test_a_test_split_that_the_budget_did_not_pay_for_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge, which was validated, is there all the same; after the search, too, calls are given up in time."""
    with pytest.warns(
        UserWarning, match=r"test split was not judged in full: 42 of 42 are missing \(the (budget|time) "
    ):
        aligned = _aligned_as_a_server_hangs(10**9, monkeypatch)
    assert (aligned.before.test, aligned.after.test, aligned.verdicts) == (None, None, ([], []))
    assert aligned.before.val is not None
    assert len(aligned.record.rounds) == 1


@pytest.mark.parametrize("stage", ["training labels", "test after", "from the description alone, before"])
def test_a_server_that_is_gone_after_the_search_costs_no_judge(stage: str) -> None:
    """What could not be measured is missing, and a warning names it; what was measured before is there."""
    gone = threading.Event()

    def failing(seen: Seen) -> Any:
        return lm15.ServerError("down") if gone.is_set() else mind(seen)

    class Stages(Watch):
        def begin(self, what: str, steps: int | None = None) -> None:
            if what == f"judging {stage}":
                gone.set()
            super().begin(what, steps)

    lm = world(failing)
    lm.num_retries = 0
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    search = replace(SEARCH, label_errors=len(TRAIN), fidelity=10)
    with (
        Workspace(max_outage=0, num_threads=4),
        Stages(Console(file=io.StringIO())) as watch,
        pytest.warns(UserWarning, match=rf"judging {stage} failed, so this .* is missing; .*down"),
    ):
        aligned = compile_and_measure(student(), sets, Models(lm, lm, lm), search, watch)
    assert aligned.judge.instruction == aligned.record.returned.judge
    assert aligned.after.val is not None
    assert (aligned.after.test is None) == (stage != "from the description alone, before")
    assert aligned.checks.looked_at == (0 if stage == "training labels" else len(TRAIN))
    json.dumps([aligned.checks.to_dict(), aligned.judge.card], allow_nan=False)


def test_ctrl_c_after_the_search_keeps_what_is_paid_for(tmp_path: Path) -> None:
    """Calls under way are waited for, and their answers are in the store."""
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    sealed = {example.image.url.partition(",")[2] for example in TEST}
    pressed = threading.Event()

    def slow(seen: Seen) -> Any:
        if sealed & set(seen.images):
            if not pressed.is_set():
                pressed.set()
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        return mind(seen)

    lm = world(slow)
    with ctrl_c(), Watch(Console(file=io.StringIO())) as watch, pytest.raises(KeyboardInterrupt):
        compile_and_measure(student(), sets, Models(lm, lm, lm), SEARCH, watch, log_dir=tmp_path)
    assert pressed.is_set()
    assert answers(tmp_path) == len(lm.engine.seen)


def test_the_card_names_no_model_and_counts_no_cache() -> None:
    """What is written into the artifact depends on the seed and the LM's answers alone."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = compile_and_measure(student(), sets, Models(lm, lm, lm), SEARCH, watch)
    text = str(aligned.judge.card)
    assert aligned.judge.card["answers"] == aligned.record.ledger.answered
    assert aligned.judge.card["answers"]["judge"] > len(TRAIN)
    assert "scripted" not in text
    assert "seconds" not in text
    assert aligned.judge.labels == LABELS


@pytest.mark.parametrize("kept", [False, True])
def test_what_the_search_paid_for_is_not_paid_for_again(kept: bool, tmp_path: Path) -> None:
    """Measurements after the search, also in a session of their own, take its answers to equal requests."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION, TEST, "three sets")
    log_dir = tmp_path if kept else None
    with Watch(Console(file=io.StringIO())) as watch:
        aligned = compile_and_measure(student(), sets, Models(lm, lm, lm), SEARCH, watch, log_dir=log_dir)
        paid = Counter((seen.text, *seen.images) for seen in lm.engine.seen)
        assert aligned.checks.looked_at
        assert max(paid.values()) == 1
        if kept:
            measured = "job = (SELECT id FROM jobs WHERE kind = 'measurement')"
            change(tmp_path, f"DELETE FROM answers WHERE {measured}", f"DELETE FROM records WHERE {measured}")
            again = compile_and_measure(student(), sets, Models(lm, lm, lm), SEARCH, watch, log_dir=log_dir)
            assert len(lm.engine.seen) - paid.total() == again.final.total.calls == aligned.final.total.calls


@pytest.mark.filterwarnings("ignore:.*hardly pays")
@pytest.mark.parametrize("caps", [(140, 260), (260, 200), (260, 270)])
def test_another_cap_on_the_same_folder_holds_for_all_of_its_sessions(caps: tuple[int, int], tmp_path: Path) -> None:
    """What the first one paid for counts, also where the second goes another way and has no use for it."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION[::2], TEST[::2], "three sets")
    for cap in caps:
        search = Search(rounds=8, max_calls=cap)
        with Watch(Console(file=io.StringIO())) as watch:
            aligned = compile_and_measure(student(), sets, Models(lm, lm, lm), search, watch, log_dir=tmp_path)
        total = (aligned.record.ledger + aligned.final + aligned.unused).total.calls
        assert total == len(lm.engine.seen) <= max(caps)
    assert aligned.record.validations[0].after_round == 0


@pytest.mark.filterwarnings("ignore:.*hardly pays")
def test_the_same_cap_again_has_a_use_for_everything(tmp_path: Path) -> None:
    """Nothing counts twice, so that a run that was cut short ends as it would have."""
    lm = world()
    sets = Sets(TRAIN, VALIDATION[::2], TEST[::2], "three sets")
    ledgers = []
    for _ in range(2):
        search = Search(rounds=8, max_calls=200, label_errors=0)
        with Watch(Console(file=io.StringIO())) as watch:
            aligned = compile_and_measure(student(), sets, Models(lm, lm, lm), search, watch, log_dir=tmp_path)
        ledgers.append(aligned.record.ledger.total.calls)
        assert aligned.unused.total.calls == 0
    assert ledgers[0] == ledgers[1]
    assert len(lm.engine.seen) <= 200
