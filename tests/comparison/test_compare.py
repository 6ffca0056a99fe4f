"""Every optimizer on the same data at the same spend: the cap, the rows, what goes wrong, and going on after a kill."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError, LMInvalidRequestError, LMServerError, LMTimeoutError
from engines import Seen, scripted_lm
from photographs import (
    FIVE,
    ROLES,
    TASK,
    Recording,
    RecordingEngine,
    digest,
    images_of,
    photographs,
    recorded_models,
    student,
)
from stores import records
from workspaces import shared

from blpo_dspy.comparison.compare import Comparison, compare, load_comparison
from blpo_dspy.comparison.figures import remarks
from blpo_dspy.comparison.methods import METHODS, Method
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.bench.records import BLPOResult
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.workspace.store import StoreError

pytestmark = pytest.mark.slow

CAP = 60


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, dict[str, Recording], Path]:
    """All methods under one cap, with the requests of each on record."""
    recordings: dict[str, Recording] = {}
    whole = Recording()

    def start(method: str, seed: int) -> None:
        recordings[method] = Recording(list(whole.seen))

    def row(row: ComparisonRow) -> None:
        before = len(recordings[row.method].seen)
        recordings[row.method] = Recording(whole.seen[before:])

    out = tmp_path_factory.mktemp("compare")
    comparison = run(out, models=recorded_models(whole), on_start=start, on_row=row)
    return comparison, recordings, out


def run(
    out: Path, *, optimizers: str | dict[str, Method] | None = None, models: Models | None = None, **options: Any
) -> Comparison:
    """Compares on the small sets of photographs."""
    given: dict[str, Any] = {"max_calls": CAP, "num_threads": 2, **photographs(), **options}
    student_ = given.pop("student", None) or student()
    return shared(
        compare, student_, models=models or recorded_models(Recording()), optimizers=optimizers, out=out, **given
    )


def test_every_method_has_a_row_with_its_figures(everything: Any) -> None:
    """Agreement on both sets, interval, paired difference, calls, tokens, instructions; no method fails."""
    comparison, _, _ = everything
    assert [row.method for row in comparison.rows] == list(METHODS)
    assert not [row.error for row in comparison.rows if row.error]
    for row in comparison.rows:
        assert row.val is not None
        assert row.test is not None
        assert (row.val["n"], row.test["n"], len(row.predicted)) == (5, 10, 10)
        assert {"low", "high"} <= set(row.test["intervals"]["macro_f1"])
        assert 0 <= row.score <= 1
        assert set(row.instructions) == {"judge", "verbalizer"}
        if row.method != "none":
            assert {"p_value", "differences"} <= set(row.paired)
            assert row.tokens > 0
            assert row.stop_reason


def test_no_method_spends_more_than_the_cap(everything: Any) -> None:
    """Exactly: an answer taken from another method's counts like a call, and so does every role."""
    comparison, recordings, _ = everything
    for row in comparison.rows[1:]:
        assert 0 < row.spent <= CAP, row.method
        assert row.spent == sum(row.calls[role] for role in ("judge", "verbalizer", "optimizer"))
        final = 2 * (5 + 10)
        assert len(recordings[row.method].seen) <= row.spent + final, row.method


def test_calls_and_images_of_the_optimizer_are_those_that_it_was_sent(everything: Any) -> None:
    """Each of its requests reached the engine, but for those that an earlier method made alike."""
    comparison, recordings, _ = everything
    for row in comparison.rows[1:]:
        sent = recordings[row.method].of("optimizer")
        assert len(sent) <= row.calls["optimizer"], row.method
        assert sum(len(seen.images) for seen in sent) <= row.images, row.method
    assert {row.method for row in comparison.rows if row.images} >= {"apo-images", "gepa"}
    assert not [row.method for row in comparison.rows if row.images and row.method.startswith(("blpo", "fixed"))]


def test_no_request_holds_more_images_than_its_method_says(everything: Any) -> None:
    """In any role."""
    _, recordings, _ = everything
    for method, recording in recordings.items():
        assert all(len(seen.images) <= METHODS[method].images for _, seen in recording.seen), method


def test_no_test_image_is_in_any_prompt_before_the_final_measurement(everything: Any) -> None:
    """Once the first is seen nothing else follows, but demonstrations beside one; the optimizer sees none."""
    _, recordings, _ = everything
    sealed, train = images_of(photographs()["testset"]), images_of(photographs()["trainset"])
    known = train | images_of(photographs()["valset"])
    for method, recording in recordings.items():
        shown = [(role, {digest(image) for image in seen.images}) for role, seen in recording.seen]
        assert all(images <= sealed | known for _, images in shown)
        first = next((i for i, (_, images) in enumerate(shown) if images & sealed), len(shown))
        for role, images in shown[first:]:
            assert role != "optimizer", method
            assert images - sealed <= (train if method == "miprov2-demos" else set()), method
            if role == "verbalizer" or images:
                assert len(images & sealed) == 1, method


def test_no_image_is_ever_written_out_as_text(everything: Any) -> None:
    """In no prompt of any method, DSPy's own included."""
    _, recordings, _ = everything
    pieces = {example.image.url.partition("base64,")[2][200:260] for example in photographs()["trainset"]}
    for method, recording in recordings.items():
        for _, seen in recording.seen:
            assert not any(piece in seen.text for piece in pieces), method


def test_a_curve_leads_from_the_start_to_what_was_returned(everything: Any) -> None:
    """From the validation score of the start at no calls, never down on the way, never beyond what was spent."""
    comparison, _, _ = everything
    start = comparison.rows[0].score
    for row in comparison.rows[1:]:
        assert row.curve[0] == [0.0, start]
        assert row.curve[-1] == [row.spent, row.score]
        spent, scores = zip(*row.curve[:-1], strict=True)
        assert sorted(spent) == list(spent)
        assert spent[-1] <= row.spent
        assert sorted(scores) == list(scores)
    assert len(next(row for row in comparison.rows if row.method == "blpo").curve) == 2, "a score on a part of the set"


def test_results_and_store_hold_the_rows(everything: Any) -> None:
    """The store one record per run, results.json all of them, without images."""
    comparison, _, out = everything
    assert load_comparison(out).to_dict() == json.loads(json.dumps(comparison.to_dict()))
    assert {kind for kind, _, _ in records(out)} == {*METHODS}
    assert photographs()["trainset"][0].image.url[100:200] not in (out / "results.json").read_text()


def test_equal_comparisons_have_equal_rows(tmp_path: Path) -> None:
    """Same data, models and seeds: the same figures and instructions, but for the time they took."""
    first, second = (run(tmp_path / name, optimizers="fixed,copro,gepa", num_threads=1, max_calls=51) for name in "ab")
    for a, b in zip(first.rows, second.rows, strict=True):
        assert (a.instructions, a.predicted, a.calls, a.curve) == (b.instructions, b.predicted, b.calls, b.curve)


# Returns another instruction than the start's, whatever it is worth.
ONE_UPDATE = {
    "updated": Method(
        "one update",
        BLPO,
        {"rounds": 1, "inner_steps": 0, "inner_loop": "all_steps", "select": "last"},
    )
}


class Failing(RecordingEngine):
    """Fails for some images under any instruction but the first."""

    def __init__(self, role: str, recording: Recording, bad: set[str], error: Callable[[], Exception]) -> None:
        super().__init__(role, recording)
        self.bad, self._error, self.failed = bad, error, 0

    def complete(self, request: dspy.lm15.Request) -> dspy.lm15.Response:
        """Answers one request, or fails."""
        seen = Seen(request)
        if "label" in seen.fields and seen.instruction != TASK and {digest(i) for i in seen.images} & self.bad:
            self.failed += 1
            raise self._error()
        return super().complete(request)


def failing_models(bad: set[str], error: Callable[[], Exception]) -> Models:
    """Returns three LMs of one name that fail at once."""
    engines = [Failing(role, Recording(), bad, error) for role in ROLES]
    return Models(*(dspy.LM("embedded/recorded", engine=one, cache=False, num_retries=0) for one in engines))


def some_test_images(count: int) -> tuple[list[int], set[str]]:
    """Returns the positions and hashes of test images that neither stand at the beginning nor side by side."""
    places = list(range(4, 10, 2))[:count]
    return places, {one for i in places for one in images_of([photographs()["testset"][i]])}


def test_a_failed_call_is_no_wrong_answer(tmp_path: Path) -> None:
    """The comparison is of the images that both answered; the others are counted, told of, and final if refused."""
    places, bad = some_test_images(3)
    models = failing_models(bad, lambda: LMInvalidRequestError("content policy", status=400))
    comparison = run(tmp_path, optimizers=ONE_UPDATE, models=models)
    updated = comparison.rows[1]
    assert updated.instructions["judge"] != TASK
    assert (updated.failed, updated.test["n"], updated.test["failed"], updated.outages) == (places, 7, 3, 0)
    assert updated.paired["n"] == 7
    truth = [e.label for i, e in enumerate(photographs()["testset"]) if i not in places]
    answered = [label for i, label in enumerate(updated.predicted) if i not in places]
    losses = [FIVE.loss(*pair) for pair in zip(truth, answered, strict=True)]
    assert updated.paired["differences"]["mean_loss"]["after"] == pytest.approx(sum(losses) / 7)
    assert remarks(comparison)[-1] == "updated, seed 0: 3 calls of the final measurements failed"
    asked = models.judge.engine.failed
    again = run(tmp_path, optimizers=ONE_UPDATE, models=models)
    assert json.dumps(again.to_dict()) == json.dumps(comparison.to_dict())
    assert models.judge.engine.failed == asked


def test_the_score_is_over_the_validation_images_that_were_answered(tmp_path: Path) -> None:
    """A failed call there is no loss of 1 either."""
    bad = images_of(photographs()["valset"][:1])
    models = failing_models(bad, lambda: LMInvalidRequestError("content policy", status=400))
    updated = run(tmp_path, optimizers=ONE_UPDATE, models=models).rows[1]
    assert (updated.val["n"], updated.val["failed"]) == (4, 1)
    assert updated.score == pytest.approx(1 - updated.val["mae"] / 4)


def test_what_an_outage_left_unmeasured_is_asked_again(tmp_path: Path) -> None:
    """By the same call, which pays for nothing but that, and puts it into the row."""
    places, bad = some_test_images(2)
    models = failing_models(bad, lambda: LMTimeoutError("no answer"))
    first = run(tmp_path, optimizers=ONE_UPDATE, models=models)
    assert (first.rows[1].failed, first.rows[1].outages) == (places, 2)
    assert "repeat the command" in remarks(first)[-1]
    recording = Recording()
    again = run(tmp_path, optimizers=ONE_UPDATE, models=recorded_models(recording)).rows[1]
    assert (again.failed, again.outages, again.test["n"]) == ([], 0, 10)
    assert (again.instructions, again.calls) == (first.rows[1].instructions, first.rows[1].calls)
    assert {digest(image) for _, seen in recording.seen for image in seen.images} == bad
    assert run(tmp_path, optimizers=ONE_UPDATE).rows[1] == again


def test_the_seconds_of_a_row_are_those_of_its_answers(tmp_path: Path) -> None:
    """The same for a method whose answers another one paid for, and after a break."""
    twins = {"blpo": METHODS["blpo"], "twin": METHODS["blpo"]}
    options = {**photographs(), "max_calls": 60, "num_threads": 2, "out": tmp_path}
    done = shared(compare, student(), models=recorded_models(Recording()), optimizers=twins, **options)
    none, blpo, twin = done.rows
    assert none.lm_seconds == 0 < blpo.lm_seconds
    assert twin.lm_seconds == pytest.approx(blpo.lm_seconds)
    third = {**twins, "third": METHODS["blpo"]}
    assert shared(compare, student(), models=recorded_models(Recording()), optimizers=third, **options).rows[
        3
    ].lm_seconds == pytest.approx(blpo.lm_seconds)


def test_the_calls_that_are_told_of_are_those_that_count(tmp_path: Path) -> None:
    """Answers that another method paid for included, the final measurement not; so they end with what was spent."""
    told: dict[str, list[int]] = {}

    def tell(calls: int) -> None:
        told[list(told)[-1]].append(calls)

    rows = run(
        tmp_path,
        optimizers="fixed,opro",
        on_start=lambda method, seed: told.setdefault(method, []),
        on_calls=tell,
    ).rows
    assert told["none"] == []
    for row in rows[1:]:
        assert told[row.method] == list(range(1, row.spent + 1))
        assert row.spent <= CAP


def test_dollars_cap_a_search_too(tmp_path: Path) -> None:
    """By given prices; whether a cap ended a search is in its row."""
    prices = {"embedded/recorded": (1.0, 1.0)}
    whole, capped = (
        run(tmp_path / str(usd), optimizers="fixed", max_usd=usd, prices=prices, max_calls=80).rows[1]
        for usd in (10.0, 0.01)
    )
    assert capped.tokens < 10_000 < whole.tokens
    updated = run(tmp_path / "updated", optimizers=ONE_UPDATE).rows[1]
    assert (whole.capped, capped.capped, updated.capped) == (True, True, False)


def test_the_student_is_left_as_it_was(tmp_path: Path) -> None:
    """Instructions, demonstrations and LMs, whatever method ran."""
    judge = student()
    before = judge.dump_state()
    run(tmp_path, optimizers="fixed-task-aware,miprov2-demos,gepa", student=judge)
    assert judge.dump_state() == before
    assert all(predictor.lm is None for predictor in judge.predictors())


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """DSPy's optimizers print, log and draw bars; a caller's standard output stays clean."""
    run(tmp_path, optimizers="copro,miprov2,gepa,simba")
    assert capfd.readouterr() == ("", "")


class Fails(BLPO):
    """A method that fails in its search until it is mended."""

    mended: ClassVar[bool] = False

    def _search(self, run: Run) -> BLPOResult:
        if not self.mended:
            raise KeyError("no such prompt")
        return super()._search(run)


def test_a_method_that_fails_says_why_in_its_row_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises; a repeated call tries it again."""
    methods = {"fails": Method("fails", Fails), "copro": METHODS["copro"]}
    none, fails, copro = run(tmp_path, optimizers=methods).rows
    assert (none.error, copro.error) == ("", "")
    assert copro.spent > 0
    assert (fails.error, fails.test) == ("KeyError: 'no such prompt'", None)
    monkeypatch.setattr(Fails, "mended", True)
    again = run(tmp_path, optimizers=methods)
    assert not any(row.error for row in again.rows)
    assert again.rows[2] == load_comparison(tmp_path).rows[2]


@pytest.mark.parametrize("optimizers", ["fixed", "gepa", "copro", "miprov2", "opro"])
def test_a_model_that_cannot_be_used_ends_the_comparison_with_one_message(tmp_path: Path, optimizers: str) -> None:
    """A refused key is no method's fault; it is asked once and what was finished is kept."""
    refused = scripted_lm(lambda seen: LMAuthError("no such key", status=401))
    good = recorded_models(Recording())
    models = Models(good.judge, good.verbalizer, refused)
    with pytest.raises(ModelError, match="no such key"):
        run(tmp_path, optimizers=optimizers, models=models, num_threads=1, max_calls=150)
    assert len(refused.engine.seen) == 1
    assert [row.method for row in load_comparison(tmp_path).rows] == ["none"]


def test_a_folder_with_another_comparison_is_refused(tmp_path: Path) -> None:
    """Naming what differs; methods and seeds may differ."""
    run(tmp_path, optimizers="none")
    assert len(run(tmp_path, optimizers="none", seeds=(0, 1)).rows) == 2
    with pytest.raises(StoreError, match="max_calls: 60 there, 51 now"):
        run(tmp_path, optimizers="none", max_calls=51)
    reasoned = [example.copy(reason="too dark") for example in photographs()["trainset"]]
    with pytest.raises(StoreError, match="reasons"):
        run(tmp_path, optimizers="none", trainset=reasoned)
    with pytest.raises(StoreError, match=r"student\.judge"):
        run(tmp_path, optimizers="none", student=student(instruction="Rate it."))


def test_seeds_sample_apart(tmp_path: Path) -> None:
    """Though answers are shared, a second seed is more than a copy, even of a method without a seed of its own."""
    proposals = Recording()
    rows = run(tmp_path, optimizers="copro", seeds=(0, 1), models=recorded_models(proposals)).rows
    assert [(row.method, row.seed) for row in rows] == [("none", 0), ("copro", 0), ("none", 1), ("copro", 1)]
    assert {None, 1} <= {seen.request.config.seed for seen in proposals.of("optimizer")}


def test_results_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """No file, no JSON, no comparison."""
    for content in (None, "{", '{"rows": [{"what": 1}], "about": {}}'):
        if content is not None:
            (tmp_path / "results.json").write_text(content)
        with pytest.raises(BlpoError, match="not the results of a comparison"):
            load_comparison(tmp_path)


def test_compare_is_public() -> None:
    """Under one name that stays the function, whatever is imported."""
    import blpo_dspy
    import blpo_dspy.comparison.tables

    assert blpo_dspy.compare is compare


class Down(RecordingEngine):
    """A server that answers with 503 between two of its requests."""

    def __init__(self, role: str, recording: Recording, first: int, last: float) -> None:
        super().__init__(role, recording)
        self.count, self.first, self.last = itertools.count(1), first, last

    def complete(self, request: dspy.lm15.Request) -> dspy.lm15.Response:
        """Answers one request, or fails."""
        if self.first <= next(self.count) <= self.last:
            raise LMServerError("503 Service Unavailable")
        return super().complete(request)


def down(first: int, last: float = math.inf) -> Models:
    """Three LMs on one server that is down between two of its requests."""
    engine = Down("judge", Recording(), first, last)
    return Models(*(dspy.LM("embedded/recorded", engine=engine, cache=False, num_retries=0) for _ in ROLES))


def told(comparison: Comparison) -> str:
    """What the rows hold, without the seconds."""
    return json.dumps([asdict(replace(row, lm_seconds=0.0)) for row in comparison.rows])


def test_a_server_that_is_down_from_the_start_leaves_no_row(tmp_path: Path) -> None:
    """One message, and the same folder is of use later."""
    with pytest.raises(ModelError, match="failed for every one of the first 4 images: 503"):
        run(tmp_path, optimizers="blpo,opro", models=down(1))
    assert not (tmp_path / "results.json").exists()
    assert not any(row.error or row.lost for row in run(tmp_path, optimizers="blpo,opro").rows)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A comparison whose server is never down."""
    return run(tmp_path_factory.mktemp("whole"), optimizers="blpo,opro", models=down(10**9))


@pytest.mark.parametrize("first", [25, 33, 36])
def test_a_search_that_an_outage_used_up_is_no_result(first: int, undisturbed: Comparison, tmp_path: Path) -> None:
    """Failed calls count against the cap, which may end it early: it is said, and repeated, the row is as ever."""
    hit = run(tmp_path / "hit", optimizers="blpo,opro", models=down(first))
    assert all(row.error or row.outages or row.cut_short for row in hit.rows[1:])
    assert sum(f"{row.method}, seed 0" in line for row in hit.rows[1:] for line in remarks(hit)) >= 2
    again = run(tmp_path / "hit", optimizers="blpo,opro", models=down(10**9))
    assert told(again) == told(undisturbed)


def test_a_search_that_lost_some_calls_says_how_many(tmp_path: Path) -> None:
    """They are part of what it spent."""
    hit = run(tmp_path, optimizers="blpo", models=down(33, 36))
    assert (hit.rows[1].error, hit.rows[1].lost) == ("", 4)
    assert f"blpo, seed 0: 4 of {hit.rows[1].spent} calls of the search failed" in remarks(hit)[-1]
    assert told(load_comparison(tmp_path)) == told(hit)


SCRIPT = """
import hashlib, os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
import dspy, sklearn.metrics
from photographs import ROLES, RecordingEngine, Recording, photographs, student
from workspaces import shared
from blpo_dspy import Models, compare

class Paid(RecordingEngine):
    def complete(self, request):
        line = hashlib.sha256(repr(request).encode()).hexdigest() + chr(10)
        os.write(paid, line.encode())
        time.sleep(0.01)
        count()
        return super().complete(request)

def say(*event):
    global left
    print(*event, flush=True)
    if killed and event[:2] == killed[:2]:
        left = killed[2]
        count()

def count():
    global left
    with lock:
        if left is not None:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

left, lock = None, threading.Lock()
sets = photographs()
for out, killed in {runs!r}:
    print("run", flush=True)
    process = os.fork()  # so that the library is imported and the photographs are made once
    if not process:
        paid = os.open(out + ".paid", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        lms = [dspy.LM("embedded/paid", engine=Paid(role, Recording()), cache=False) for role in ROLES]
        shared(
            compare, student(), **sets, models=Models(*lms), max_calls=50, optimizers="fixed,copro", out=out,
            num_threads=1, on_start=lambda method, seed: say("start", method),
            on_row=lambda row: say("row", row.method, row.error),
        )
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


def _run_script(runs: list[tuple[str, tuple[str, str, int] | None]]) -> list[list[str]]:
    """Runs comparisons in processes of their own, which die so many requests after an event; returns their output."""
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), runs=runs)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    return [events.splitlines() for events in done.stdout.split("run\n")[1:]]


def test_a_comparison_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path: Path) -> None:
    """With kill -9 in the measurement of the start, in both searches and between: the same rows, none paid twice."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    kills = [("start", "none", 9), ("start", "fixed", 20), ("row", "fixed", 0), ("start", "copro", 30)]
    *killed, events, _ = _run_script([*((str(out), kill) for kill in kills), (str(out), None), (str(whole), None)])
    assert [lines[-1] for lines in killed] == [f"ended {-signal.SIGKILL}"] * len(kills)
    assert [event for event in events if event.startswith("start")] == ["start copro"], "finished runs aren't repeated"
    assert [event for event in events if event.startswith("row")] == ["row none ", "row fixed ", "row copro "]
    assert told(load_comparison(out)) == told(load_comparison(whole))
    requests = Counter(Path(f"{out}.paid").read_text().splitlines())
    assert set(requests) == set(Path(f"{whole}.paid").read_text().splitlines())
    assert sum(requests.values()) - len(requests) <= len(kills), "at most what was under way at each kill"
