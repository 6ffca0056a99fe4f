"""Jobs in a store: what a later session takes from it, and which ledger it counts in."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from blpo_dspy.workspace.answers import Answer
from blpo_dspy.workspace.batch_record import BatchRecord
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.job import Job, differences
from blpo_dspy.workspace.ledger import Usage
from blpo_dspy.workspace.store import StoreError


def answer(text: str = "hi", **usage: Any) -> Answer:
    """An answer that was paid for."""
    return Answer((text,), "stop", Usage(**{"calls": 1, "prompt_tokens": 10, "usd": 0.5, **usage}), "served")


def job(folder: Path, **options: Any) -> Any:
    """A job of the folder, closed at the end of the block."""
    return closing(Job.in_folder(folder, "search", options.pop("fingerprint", {"seed": 0}), **options))


def test_a_later_session_takes_every_answer_and_counts_it_once(tmp_path: Path) -> None:
    """As it was given, with what failed before it; in the session that paid, a second use is free."""
    with job(tmp_path) as first:
        first.put_failed("k", "judge", Usage(calls=1, failed=1))
        first.put("k", "judge", answer("half a pair \ud83d", retries=1))
        assert first.get("k") == (answer("half a pair \ud83d", retries=1), Usage(cached=1))
    with job(tmp_path) as later:
        found, usage = later.get("k")
        assert (found, usage.calls, usage.failed) == (answer("half a pair \ud83d", retries=1), 2, 1)
        assert later.get("k")[1] == Usage(cached=1)
        assert later.failed() == {}
        assert later.get("other") is None
        assert (later.knows("k"), later.knows("other")) == (True, False)


@pytest.mark.parametrize(("counting", "calls"), [("own", 0), ("none", 0), ("all", 1)])
def test_an_answer_of_another_job_counts_where_it_is_to(counting: str, calls: int, tmp_path: Path) -> None:
    """Nowhere but in a comparison, whose methods must not profit from each other."""
    with job(tmp_path) as first:
        first.put("k", "judge", answer())
        said: list[int] = []
        other = first.another("run", name="a", counting=counting, on_calls=said.append)
        assert other.get("k")[1].calls == calls
        assert other.get("k")[1] == Usage(cached=1)
        assert said == [1] * calls


def test_a_memory_of_its_own_knows_no_other_answers(tmp_path: Path) -> None:
    """Where the same is asked again on purpose."""
    with job(tmp_path) as first, job(tmp_path, name="again", memory="again") as again:
        first.put("k", "judge", answer("one"))
        assert again.get("k") is None
        again.put("k", "judge", answer("two"))
        assert (first.get("k")[0].text, again.get("k")[0].text) == ("one", "two")


def test_what_another_budget_leaves_unused_counts(tmp_path: Path) -> None:
    """Under the budget that it began with a job will take everything up; under another one it may not."""
    with job(tmp_path) as first:
        first.spend_under(Budget(max_calls=9))
        first.put("k", "judge", answer())
    for calls, unused in ((9, 0), (7, 1)):
        with job(tmp_path) as later:
            later.spend_under(Budget(max_calls=calls))
            assert later.unused().total.calls == unused
            later.get("k")
            assert later.unused().total.calls == 0


def test_records_and_what_was_spent_are_found_again(tmp_path: Path) -> None:
    """A record is the last that was written under its number, its names in order."""
    with job(tmp_path) as first:
        for score in (1, 2):
            first.record("round", 0, {"score": score, "a": None})
        first.put("k", "judge", answer(), "openai/x")
        first.put_failed("j", "optimizer", Usage(calls=1, failed=1), "openai/y")
    with job(tmp_path) as later:
        assert list(later.recorded("round", 0).items()) == [("score", 2), ("a", None)]
        assert later.recorded("round", 1) is None
        spent = later.spent()
        assert (spent["judge"].usd, spent["optimizer"].failed, spent.total.calls) == (0.5, 1, 2)
        assert later.failed()["optimizer"] == Usage(calls=1, failed=1)


def test_another_run_is_refused_by_what_differs_unless_nothing_was_kept(tmp_path: Path) -> None:
    """As when a model could not be used."""
    for seed in (0, 1):
        with job(tmp_path, fingerprint={"options": {"seed": seed}}):
            pass
    with job(tmp_path, fingerprint={"options": {"seed": 1}}) as kept:
        kept.put("k", "judge", answer())
    with pytest.raises(
        StoreError, match=r"another run, which differs in options\.seed: 1 there, 2 now; choose another"
    ):
        Job.in_folder(tmp_path, "search", {"options": {"seed": 2}})


def test_the_journal_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    """It is not continued, and nothing is written."""
    (tmp_path / "journal.jsonl").write_text("{}\n")
    with pytest.raises(StoreError, match=r"journal\.jsonl: was written by an earlier version"):
        Job.in_folder(tmp_path, "search", {})
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]


def test_a_batch_is_known_until_it_is_closed(tmp_path: Path) -> None:
    """With all that was said of it."""
    record = BatchRecord.new("judge", {"k": 1}, ("k",), {"temperature": 0, "engine": object()})
    with job(tmp_path) as first:
        for step in (record, record.step(file="f"), record.step(file="f", batch="b")):
            first.put_batch(step)
    with job(tmp_path) as later:
        (found,) = later.batches.values()
        assert found == record.step(file="f", batch="b")
        assert found.options == {"temperature": 0}
        later.put_batch(found.step(closed=True))
        assert later.batches == {}


def test_differences_name_the_places() -> None:
    """Of nested data, one line each."""
    assert differences({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}}) == [
        "a.c: 2 there, 3 now",
        "d: [1] there, None now",
    ]
