"""Tests of the file that a run can be continued from."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from blpo_dspy.calls.journal import FILE_NAME, Journal
from blpo_dspy.calls.journal_file import JournalError
from engines import Seen, scripted_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import ctrl_c
from worlds import TRAIN, VALIDATION, mind, student, world

from blpo_dspy.calls.answers import Answer
from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.failures import RunStoppedError
from blpo_dspy.calls.ledger import Ledger, Usage
from blpo_dspy.calls.meter import Meter
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.bench import run


def _answer(**parts: Any) -> str:
    """A line with an answer, or with something else instead of parts of it."""
    line = {"kind": "answer", "key": "k", "role": "judge", "outputs": ["x"], "finish_reason": None, "usage": {}}
    return json.dumps({**line, **parts})


ANSWERS = st.builds(
    Answer,
    st.tuples(st.text() | st.dictionaries(st.sampled_from(["text", "reasoning_content"]), st.text())),
    st.sampled_from([None, "stop", "length"]),
    st.builds(Usage, calls=st.just(1), prompt_tokens=st.integers(0, 9999), usd=st.floats(0, 9)),
)


@contextmanager
def opened(folder: Path, **fingerprint: Any) -> Iterator[Journal]:
    """Opens a journal and closes it."""
    journal = Journal(folder, fingerprint)
    try:
        yield journal
    finally:
        journal.close()


@pytest.mark.slow
@settings(max_examples=40)
@given(answers=st.lists(ANSWERS, max_size=5), cut=st.floats(0, 1))
def test_what_was_written_is_read_again_up_to_a_cut_anywhere(
    tmp_path_factory: pytest.TempPathFactory, answers: list[Answer], cut: float
) -> None:
    """Any text comes back as it was; a journal cut at any byte holds a prefix of it, and says what it dropped."""
    folder = tmp_path_factory.mktemp("journal")
    with opened(folder, seed=1) as journal:
        for number, answer in enumerate(answers):
            journal.put(str(number), "judge", answer)
    data = (folder / FILE_NAME).read_bytes()
    kept = data[: round(cut * len(data))]
    (folder / FILE_NAME).write_bytes(kept)
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        with opened(folder, seed=1) as journal:
            whole = max(0, kept.count(b"\n") - 1)
            for number, answer in enumerate(answers):
                assert journal.get(str(number)) == ((answer, answer.usage) if number < whole else None)
            journal.put("new", "judge", Answer(("x",)))
    assert [str(notice.message).partition(": ")[2][:26] for notice in noticed] == ["dropped an incomplete last"] * (
        bool(kept) and not kept.endswith(b"\n")
    )
    with opened(folder, seed=1) as journal:
        assert journal.get("new") is not None


@pytest.mark.slow
@settings(max_examples=30)
@given(st.data())
def test_a_journal_changed_anywhere_is_never_continued_as_something_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A byte overwritten with NUL, as a crashed file system leaves it, is refused with its line."""
    folder = tmp_path_factory.mktemp("journal")
    with opened(folder, seed=1) as journal:
        for number in range(4):
            journal.put(str(number), "judge", Answer((f"answer {number}",)))
    path = folder / FILE_NAME
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 2))
    line = raw[:place].count(b"\n") + 1
    raw[place] = 0
    path.write_bytes(raw)
    with pytest.raises(JournalError, match=rf"line {line} is damaged|line {line - 1} is damaged"):
        Journal(folder, {"seed": 1})
    assert path.read_bytes() == raw


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1, 2]", "not a JSON object"),
        ('{"kind": "answer", "key": "k"}', "outputs"),
        (_answer(usage={"ants": 1}), "ants"),
        (_answer(usage={"calls": "x"}), "calls: 'x'"),
        (_answer(usage={"calls": True}), "calls: True"),
        (_answer(usage={"calls": -100_000}), "usage.calls: -100000"),
        (_answer(usage={"calls": 1.5}), "calls: 1.5"),
        (_answer(usage={"seconds": float("nan")}), "usage.seconds: nan"),
        (_answer(usage=[]), "usage"),
        (_answer(outputs=[]), "outputs"),
        (_answer(outputs=[5]), "outputs"),
        (_answer(outputs="text"), "outputs"),
        (_answer(outputs=[{"text": 5}]), "outputs"),
        (_answer(finish_reason=3), "finish_reason"),
        (_answer(key=3), "key"),
        (_answer(role="nobody"), "role: 'nobody'"),
        (_answer(kind="reply"), "unknown kind 'reply'"),
        (json.dumps({"kind": "failed", "role": "judge", "usage": {"calls": -1}}), "usage.calls: -1"),
        (json.dumps({"kind": "record", "type": "round", "number": "1", "data": {}}), "number: '1'"),
        ('{"no": "kind"}', "kind"),
    ],
)
def test_a_line_of_another_shape_is_damage(tmp_path: Path, line: str, reason: str) -> None:
    """JSON that says nothing a journal says is named by its line."""
    with opened(tmp_path, seed=1):
        pass
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(JournalError, match=f"line 2 is damaged .*{reason}"):
        Journal(tmp_path, {"seed": 1})


def test_another_fingerprint_is_refused_naming_all_that_differs(tmp_path: Path) -> None:
    """Each difference has its place, both values, and what to do."""
    with opened(tmp_path, data={"train": "abc"}, options={"seed": 1, "rounds": 2}) as journal:
        journal.put("k", "judge", Answer(("x",), None, Usage(calls=1)))
    with pytest.raises(JournalError) as caught:
        Journal(tmp_path, {"data": {"train": "abd"}, "options": {"seed": 1, "rounds": 3, "merge": True}})
    text = str(caught.value)
    for difference in ("data.train: 'abc' there, 'abd' now", "options.rounds: 2 there, 3 now", "options.merge: None"):
        assert difference in text
    assert "options.seed" not in text
    assert "choose another folder" in text


def test_a_run_that_kept_nothing_gives_way_to_another(tmp_path: Path) -> None:
    """As after a wrong model name; what the other one keeps is then its own."""
    with opened(tmp_path, model="wrong"):
        pass
    with opened(tmp_path, model="right") as journal:
        journal.put("k", "judge", Answer(("x",), None, Usage(calls=1)))
    with pytest.raises(JournalError, match="model: 'right' there, 'wrong' now"):
        Journal(tmp_path, {"model": "wrong"})
    with opened(tmp_path, model="right") as again:
        assert again.knows("k")


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    """Another program's file of the same name, or a later version's, is not written to."""
    for content in ('{"kind": "run", "format_version": 99, "fingerprint": {}}\n', "{}\n"):
        (tmp_path / FILE_NAME).write_text(content)
        with pytest.raises(JournalError, match="not a journal that this version can continue"):
            Journal(tmp_path, {})
        assert (tmp_path / FILE_NAME).read_text() == content


@pytest.mark.slow
def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    """The second is refused; once the first has ended it may continue."""
    with opened(tmp_path, seed=1):
        with pytest.raises(JournalError, match="another run is writing it"):
            Journal(tmp_path, {"seed": 1})
        code = f"from blpo_dspy.calls.journal import Journal; Journal({str(tmp_path)!r}, {{'seed': 1}})"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another run is writing it" in other.stderr
    with opened(tmp_path, seed=1):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.slow
def test_the_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    """The lock file that it leaves keeps nobody out, and the next run removes it."""
    code = (
        "import os, signal; from blpo_dspy.calls.journal import Journal; "
        f"journal = Journal({str(tmp_path)!r}, {{'seed': 1}}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with opened(tmp_path, seed=1):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.slow
def test_of_many_runs_that_start_at_once_one_at_a_time_writes(tmp_path: Path) -> None:
    """A lock file that is removed while another run opens it does not let two runs in."""
    inside, most, refused = [], [], []

    def start(number: int) -> None:
        for _ in range(20):
            try:
                with opened(tmp_path, seed=1):
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.remove(number)
            except JournalError as error:
                refused.append(str(error))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(8)))
    assert max(most) == 1
    assert all("another run is writing it" in text for text in refused)


def test_threads_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Every answer is on disk when its writer continues, in whole lines."""
    counted = []

    def write(number: int) -> None:
        journal.put(str(number), "judge", Answer((f"answer {number}",)))
        counted.append(f'"key": "{number}"'.encode() in path.read_bytes())

    with opened(tmp_path, seed=1) as journal, ThreadPoolExecutor(16) as pool:
        path = journal.path
        list(pool.map(write, range(200)))
    assert all(counted)
    assert len(counted) == 200
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(int(line["key"]) for line in lines[1:]) == list(range(200))


def test_a_full_disk_ends_the_run_with_a_journal_that_can_be_continued(tmp_path: Path) -> None:
    """After a line that could not be written whole nothing more is written; the rest is as good as ever."""
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path, seed=1) as journal:
        journal.put("1", "judge", Answer(("one",)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 20, previous[1]))
        try:
            with pytest.raises(JournalError, match=r"cannot be written .*make room"):
                journal.put("2", "judge", Answer(("two",)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        with pytest.raises(JournalError, match="cannot be written"):
            journal.put("3", "judge", Answer(("three",)))
        assert journal.get("2") is None
    with pytest.warns(UserWarning, match="incomplete last line"):
        journal = Journal(tmp_path, {"seed": 1})
    assert journal.get("1")[0].outputs == ("one",)
    assert (journal.get("2"), journal.get("3")) == (None, None)
    journal.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file instead of the folder."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(JournalError, match=r"taken.*cannot be written .*choose another folder"):
        Journal(tmp_path / "taken", {})


def test_what_comes_after_the_end_is_refused(tmp_path: Path) -> None:
    """A call that was abandoned cannot write into another session's journal."""
    with opened(tmp_path, seed=1) as journal:
        pass
    with pytest.raises(JournalError, match="has ended"):
        journal.put("late", "judge", Answer(("x",)))


def test_failed_attempts_of_earlier_sessions_stay_in_the_ledger(tmp_path: Path) -> None:
    """What was sent counts against the cap, whichever session sent it and whatever came of it."""
    errors = [dspy.lm15.RateLimitError("slow down", retry_after=0)] * 2
    lm = scripted_lm(lambda seen: errors.pop() if errors else "hi")
    with opened(tmp_path, seed=1) as journal:
        first = Meter(num_threads=1, store=journal)
        first.wrap(lm, "judge")("a")
    with opened(tmp_path, seed=1) as journal:
        second = Meter(num_threads=1, store=journal)
        assert second.ledger.total.calls == 0, "they count where the answer after them is taken up"
        second.wrap(lm, "judge")("a")
    assert len(lm.engine.seen) == 3
    for meter in (first, second):
        assert replace(meter.ledger["judge"], seconds=0.0) == Usage(
            calls=3, retries=2, failed=2, prompt_tokens=10, completion_tokens=5, unpriced=1
        )
    assert second.ledger["judge"].seconds == pytest.approx(first.ledger["judge"].seconds)


def test_failed_attempts_at_a_request_without_an_answer_count_from_the_start(tmp_path: Path) -> None:
    """And so do those of a journal that doesn't say which request they were."""
    with opened(tmp_path, seed=1) as journal:
        journal.put_failed("k1", "judge", Usage(calls=1, failed=1))
        journal.put_failed("k2", "judge", Usage(calls=1, failed=1))
        journal.put("k2", "judge", Answer(("x",), None, Usage(calls=1)))
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write(json.dumps({"kind": "failed", "role": "optimizer", "usage": {"calls": 2, "failed": 2}}) + "\n")
    with opened(tmp_path, seed=1) as again:
        assert again.failed() == {"judge": Usage(calls=1, failed=1), "optimizer": Usage(calls=2, failed=2)}
        assert again.get("k2") == (Answer(("x",), None, Usage(calls=1)), Usage(calls=2, failed=1))
        assert again.get("k2") == (Answer(("x",), None, Usage(calls=1)), Usage(cached=1))


def test_a_search_whose_calls_failed_now_and_then_goes_the_same_way_again(tmp_path: Path) -> None:
    """Under its cap, from its journal alone."""
    calls = itertools.count()

    def flaky(seen: Seen) -> Any:
        return dspy.lm15.RateLimitError("slow down", retry_after=0) if next(calls) % 6 == 3 else mind(seen)

    found, asked = [], []
    for script in (flaky, mind):
        lm = world(script)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            judge = compiled(lm, tmp_path, budget=Budget(max_calls=60, keep_calls=10), num_threads=1)
        found.append(judge.detailed_results)
        asked.append(len(lm.engine.seen))
    first, second = found
    assert first.ledger.total.failed > 5
    assert first.capped
    assert (first.rounds, first.returned, first.stop_reason) == (second.rounds, second.returned, second.stop_reason)
    assert asked == [first.ledger.total.calls, 0] == [second.ledger.total.calls, 0]


def test_answers_of_earlier_sessions_count_against_the_cap(tmp_path: Path) -> None:
    """A run that is started again and again never spends more than its cap in all."""

    def admit(ledger: Ledger) -> None:
        if ledger.total.calls >= 3:
            raise RunStoppedError("cap")

    lm = scripted_lm(lambda seen: "hi")
    for _ in range(3):
        with opened(tmp_path, seed=1) as journal:
            judge = Meter(num_threads=1, store=journal, admit=admit).wrap(lm, "judge")
            for text in "abc":
                judge(text)
            with pytest.raises(RunStoppedError):
                judge("d")
    assert len(lm.engine.seen) == 3


def compiled(lm: dspy.LM, folder: Path | None, **options: Any) -> dspy.Module:
    """Compiles a small run."""
    options = {"rounds": 2, "inner_steps": 1, "batch_size": 4, "minibatch_size": 8, "num_threads": 4, **options}
    made = BLPO(prompt_model=lm, task_model=lm, log_dir=folder, **options)
    return made.compile(student(), trainset=TRAIN[::3], valset=VALIDATION[::3])


@pytest.mark.slow
def test_a_warm_cache_of_dspys_mixes_with_a_journal(tmp_path: Path) -> None:
    """Whatever DSPy remembers of an earlier run costs nothing, is journaled, and costs nothing again."""
    lm = world(name="scripted/cached", cache=True)
    compiled(lm, None, rounds=1)
    warm = len(lm.engine.seen)
    first = compiled(lm, tmp_path)
    sent = len(lm.engine.seen) - warm
    assert first.detailed_results.ledger.total.calls == sent
    assert first.detailed_results.ledger.total.cached >= warm
    dspy.configure_cache(enable_disk_cache=False)
    again = compiled(lm, tmp_path)
    assert len(lm.engine.seen) == warm + sent
    for role, usage in first.detailed_results.ledger.roles.items():
        assert replace(again.detailed_results.ledger[role], seconds=usage.seconds) == usage
    assert again.detailed_results.rounds == first.detailed_results.rounds


@pytest.mark.slow
def test_a_lost_journal_is_still_cheap_with_dspys_cache(tmp_path: Path) -> None:
    """Half a journal and a warm cache: nothing is sent twice."""
    lm = world(name="scripted/cached", cache=True)
    first = compiled(lm, tmp_path)
    path = tmp_path / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))
    sent = len(lm.engine.seen)
    again = compiled(lm, tmp_path)
    assert len(lm.engine.seen) == sent
    assert again.detailed_results.returned == first.detailed_results.returned


@pytest.mark.slow
def test_a_cap_can_be_raised_to_go_on(tmp_path: Path) -> None:
    """The budget is not part of what makes a run the same run."""
    lm = world()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = compiled(lm, tmp_path, budget=Budget(max_calls=30))
    spent = len(lm.engine.seen)
    assert "budget" in short.detailed_results.stop_reason
    long = compiled(lm, tmp_path)
    whole = compiled(world(), None)
    assert long.detailed_results.rounds == whole.detailed_results.rounds
    assert len(lm.engine.seen) < spent + whole.detailed_results.ledger.total.calls


@pytest.mark.slow
def test_ctrl_c_keeps_the_answers_that_are_under_way(tmp_path: Path) -> None:
    """An interrupted run sends nothing new, waits for what it has paid for, and later resumes with the rest."""
    pressed = threading.Event()

    def press(_: object) -> None:
        pressed.set()
        raise KeyboardInterrupt

    def slow(seen: Seen) -> Any:
        if pressed.is_set():
            time.sleep(0.05)
        return mind(seen)

    lm = world(slow)
    with pytest.raises(KeyboardInterrupt):
        compiled(lm, tmp_path, on_round=press)
    paid = [json.loads(line) for line in (tmp_path / FILE_NAME).read_text().splitlines()]
    sent = len(lm.engine.seen)
    assert sum(line["kind"] == "answer" for line in paid) == sent
    pressed.clear()
    again, whole = compiled(lm, tmp_path), compiled(world(), None)
    assert again.detailed_results.rounds == whole.detailed_results.rounds
    assert len(lm.engine.seen) == whole.detailed_results.ledger.total.calls


@pytest.mark.slow
@pytest.mark.parametrize(("grace", "presses"), [(0.2, 1), (60.0, 2)])
def test_ctrl_c_abandons_a_call_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grace: float, presses: int
) -> None:
    """A call that doesn't end keeps neither the run nor the interpreter from ending, nor the journal locked.

    What is under way is waited for, until time is up or Ctrl-C is pressed again.
    """
    monkeypatch.setattr(run, "GRACE", grace)
    hangs, over = threading.Event(), threading.Event()

    def hanging(seen: Seen) -> Any:
        if seen.fields == ["description"]:
            hangs.set()
            over.wait(300)
        return mind(seen)

    def press() -> None:
        hangs.wait(300)
        for _ in range(presses):
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

    lm = world(hanging)
    presser = threading.Thread(target=press)
    presser.start()
    with ctrl_c(), pytest.raises(KeyboardInterrupt):
        compiled(lm, tmp_path)
    presser.join()
    over.set()
    assert compiled(lm, tmp_path).detailed_results.rounds
