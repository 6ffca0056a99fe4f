"""The job of a table of predictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from blpo_dspy.errors import BlpoError
from blpo_dspy.predictions.job import PredictionJob, is_known, opened_job
from blpo_dspy.workspace.answers import Answer
from blpo_dspy.workspace.ledger import Usage

RUN = {"judge": "a", "models": {"judge": "x"}}


def row(error: str | None = None) -> dict[str, object]:
    """What is noted of a row."""
    texts = dict.fromkeys(("description", "reasoning", "answer"))
    return {"label": "Safe", "invalid": False, **texts, "error": error}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output with two answers, a failure and three rows."""
    job = opened_job(tmp_path / "o.csv", RUN)
    job.put("k1", "verbalizer", Answer(("ein Bild mit \ud800 und ß",), "stop", Usage(calls=1, usd=0.5)))
    job.put("k2", "judge", Answer(("Safe",), None, Usage(calls=2, retries=1)))
    job.put_failed("k2", "judge", Usage(calls=1, failed=1))
    for key, found in (("a", row()), ("c", row("no such file")), ("b", row())):
        job.put_row(key, found)
    job.close()
    return tmp_path / "o.csv"


def check(job: PredictionJob) -> None:
    """Checks that a job knows the answers, at no cost, and the usage."""
    answer, usage = job.get("k1") or (None, None)
    assert answer is not None
    assert (answer.outputs, answer.usage.usd, usage) == (("ein Bild mit \ud800 und ß",), 0.5, Usage(cached=1))
    assert job.get("k3") is None
    spent = job.spent()
    assert (spent["judge"].calls, spent["judge"].failed, spent.total.usd) == (3, 1, 0.5)


def test_what_was_written_is_known_again(out: Path) -> None:
    """Answers for nothing, rows, and the usage of earlier sessions; rows with an error are to be tried again."""
    assert (is_known(out), is_known(out.with_name("p.csv"))) == (True, False)
    job = opened_job(out, RUN)
    check(job)
    assert job.earlier.total.calls == 4
    assert (job.row("b"), job.row("c"), job.row("x")) == (row(), row("no such file"), None)
    assert job.done == {"a", "b"}
    job.put_row("c", row())
    assert (job.done, job.row("c")) == ({"a", "b", "c"}, row())
    job.close()


def test_what_another_process_was_answered_counts_as_if_it_had_been_here(out: Path) -> None:
    """Answers and failures."""
    there, here = opened_job(out, RUN), opened_job(out.parent / "else" / "o.csv", RUN)
    here.take(*there.paid())
    check(here)
    assert here.spent() == there.spent()
    assert [found[0] for found in here.answers(["k2", "k3"])] == ["k2"]
    there.close()
    here.close()


def test_the_output_of_another_run_is_refused_and_stays_as_it_is(out: Path) -> None:
    """What differs is named; an output beside it is another one."""
    with pytest.raises(BlpoError, match=r"another run, which differs in models.judge: 'x' there, 'y' now; name anoth"):
        opened_job(out, {**RUN, "models": {"judge": "y"}})
    opened_job(out.with_name("p.csv"), {**RUN, "judge": "b"}).close()
    job = opened_job(out, RUN)
    assert job.done == {"a", "b"}
    job.close()


@pytest.mark.parametrize("suffix", [".journal.jsonl", ".shards"])
def test_what_an_earlier_version_began_is_refused(suffix: str, tmp_path: Path) -> None:
    """Whose answers would be paid for again."""
    (tmp_path / f"o.csv{suffix}").write_text("")
    with pytest.raises(BlpoError, match=rf"o\.csv{suffix}: was written by an earlier version .*name another output"):
        opened_job(tmp_path / "o.csv", RUN)
    opened_job(tmp_path / "p.csv", RUN).close()
