import subprocess
import sys
import threading
import time
from typing import Any

import dspy
import pytest

from blpo_dspy.errors import BlpoError
from blpo_dspy.workspace.workers import Workers


def test_results_come_in_the_order_of_the_items() -> None:
    """Whatever ends first, results follow the items."""
    with Workers(4) as workers:
        assert workers.map(lambda n: (time.sleep(0.02 / n), n)[1], [1, 2, 3, 4]) == [1, 2, 3, 4]


def test_no_more_tasks_run_than_threads() -> None:
    """The bound holds over everything that is submitted."""
    lock, running, most = threading.Lock(), 0, 0

    def task(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    with Workers(3) as workers:
        workers.submit(task, range(10))
        workers.map(task, range(10))
    assert most == 3


def test_tasks_see_the_dspy_context_of_their_submitter() -> None:
    """Settings made with dspy.context reach the threads."""
    with Workers(2) as workers, dspy.context(lm="marker"):
        assert workers.map(lambda _: dspy.settings.lm, range(3)) == ["marker"] * 3


def test_an_error_ends_the_step_and_starts_nothing_more() -> None:
    """The first error is raised as it is; tasks that had not begun never do."""
    begun: list[int] = []

    def task(n: int) -> None:
        begun.append(n)
        if n == 0:
            raise KeyError("first")
        time.sleep(0.05)

    with Workers(1) as workers, pytest.raises(KeyError, match="first"):
        workers.map(task, range(20))
    assert len(begun) < 5


def test_threads_default_to_dspys_setting() -> None:
    """None means dspy.settings.num_threads."""
    with dspy.context(num_threads=5), Workers(None) as workers:
        assert workers.num_threads == 5


@pytest.mark.parametrize("number", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_is_none_is_refused(number: Any) -> None:
    """Before a step would wait for threads that never start."""
    with pytest.raises(BlpoError, match=f"num_threads={number!r} is"):
        Workers(number)


def test_a_task_that_starts_tasks_runs_them_itself() -> None:
    """Nested steps end even where every thread waits for tasks of its own."""
    with Workers(2) as workers:
        assert workers.map(lambda n: sum(workers.map(lambda m: n * m, range(3))), range(6)) == [3 * n for n in range(6)]


def test_draining_drops_what_waits_and_gives_the_rest_some_time() -> None:
    """What has begun may end, what has not never does, and what takes too long is left behind."""
    release, begun = threading.Event(), []

    def task(n: int) -> None:
        begun.append(n)
        release.wait(30)

    with Workers(2) as workers:
        futures = workers.submit(task, range(10))
        while len(begun) < 2:
            time.sleep(0.01)
        assert not workers.drain(0.05)
        assert [future.cancelled() for future in futures] == [False] * 2 + [True] * 8
        release.set()
        assert workers.drain(30)
    assert sorted(begun) == [0, 1]


def test_threads_end_with_their_workers_and_keep_no_interpreter_alive() -> None:
    """Once the workers are closed no thread of theirs is left; while they live they are daemons."""
    with Workers(3) as workers:
        daemons = workers.map(lambda _: threading.current_thread(), range(6))
        assert all(thread.daemon for thread in daemons)
    for thread in daemons:
        thread.join(30)
        assert not thread.is_alive()


# A program that an error ends while another task is under way.
_FAILING = """
import sys, threading, time
from blpo_dspy.workspace import workers
workers.GRACE, workers._UNNOTICED = 0.4, 0.2
begun = threading.Event()

def task(seconds):
    if seconds:
        begun.set()
        time.sleep(seconds)
        print("ended", flush=True)
    else:
        begun.wait()
        raise KeyError("first")

with workers.Workers(2) as threads:
    threads.map(task, [float(sys.argv[1]), 0.0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "ends"), [(0.05, True), (60, False)])
def test_after_an_error_the_interpreter_lets_calls_end_but_not_for_long(seconds: float, ends: bool) -> None:
    """A thread that is stopped in its work can hang or abort the interpreter; one that hangs is reported."""
    done = subprocess.run(
        [sys.executable, "-c", _FAILING, str(seconds)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert "KeyError: 'first'" in done.stderr
    assert (done.stdout == "ended\n") is ends
    assert ("Waiting up to" in done.stderr) is not ends


# A program that Ctrl-C reaches again and again, while it hands out tasks.
_INTERRUPTED = """
import random, signal, threading, time
from blpo_dspy.workspace import workers
signal.signal(signal.SIGINT, signal.default_int_handler)
pauses, caught = random.Random(0), 0

def press(main, seconds):
    time.sleep(seconds)
    signal.pthread_kill(main, signal.SIGINT)

while caught < 150:
    finger = threading.Thread(target=press, args=(threading.get_ident(), pauses.uniform(0, 0.003)))
    try:
        finger.start()
        with workers.Workers(3) as threads:
            while finger.is_alive():
                threads.submit(bool, range(20))
        time.sleep(60)  # until it is pressed
    except KeyboardInterrupt:
        caught += 1
print("ended")
"""


@pytest.mark.slow
def test_ctrl_c_never_leaves_the_threads_locked() -> None:
    """Wherever in the handing out of tasks it is raised."""
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr
