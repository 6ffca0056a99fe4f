"""The journal of a table of predictions."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from blpo_dspy.predictions.journal import PredictionJournal
from hypothesis import given, settings
from hypothesis import strategies as st

from blpo_dspy.calls.answers import Answer
from blpo_dspy.calls.batch_record import BatchRecord
from blpo_dspy.calls.ledger import Usage
from blpo_dspy.errors import BlpoError

RUN = {"judge": "a", "models": {"judge": "x"}}


def row(error: str | None = None) -> dict[str, object]:
    """What is noted of a row."""
    texts = dict.fromkeys(("description", "reasoning", "answer"))
    return {"label": "Safe", "invalid": False, **texts, "error": error}


def written(path: Path) -> bytes:
    """Writes a journal with two answers, a failure and three rows, and returns its bytes."""
    journal = PredictionJournal(path, RUN)
    journal.put("k1", "verbalizer", Answer(("ein Bild mit \ud800 und ß",), "stop", Usage(calls=1, usd=0.5)))
    journal.put("k2", "judge", Answer(("Safe",), None, Usage(calls=2, retries=1)))
    journal.put_failed("k2", "judge", Usage(calls=1, failed=1))
    journal.put_row("a", row())
    journal.put_row("c", row("no such file"))
    journal.put_row("b", row())
    journal.close()
    return path.read_bytes()


def test_what_was_written_is_known_again(tmp_path: Path) -> None:
    """Answers for nothing, rows, and the usage of earlier sessions; rows with an error are to be tried again."""
    written(tmp_path / "j")
    journal = PredictionJournal(tmp_path / "j", RUN)
    answer, usage = journal.get("k1") or (None, None)
    assert answer is not None
    assert (answer.outputs, answer.usage.usd, usage) == (("ein Bild mit \ud800 und ß",), 0.5, Usage(cached=1))
    assert journal.get("k3") is None
    assert (journal.row("b"), journal.row("c"), journal.row("x")) == (row(), row("no such file"), None)
    assert journal.done == {"a", "b"}
    assert (journal.earlier["judge"].calls, journal.earlier["judge"].failed) == (3, 1)
    assert journal.earlier.total.usd == 0.5
    journal.put_row("c", row())
    assert (journal.done, journal.row("c")) == ({"a", "b", "c"}, row())
    journal.close()


@pytest.mark.slow
@settings(max_examples=60)
@given(data=st.data())
def test_a_journal_cut_at_any_byte_can_be_continued(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With the whole lines before the cut, and new ones after them."""
    path = tmp_path_factory.mktemp("cut") / "j"
    whole = written(path)
    size = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:size])
    kept = whole[:size].count(b"\n")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*dropped an incomplete last line")
        journal = PredictionJournal(path, RUN)
    assert [journal.row(key) is not None for key in "acb"] == [kept > 4, kept > 5, kept > 6]
    journal.put_row("x", row())
    journal.close()
    again = PredictionJournal(path, RUN)
    assert again.row("x") == row()
    again.close()
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_the_journal_of_another_run_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    """What differs is named."""
    before = written(tmp_path / "j")
    with pytest.raises(BlpoError, match=r"another run, which differs in:\n  - models.judge: 'x' there, 'y' now"):
        PredictionJournal(tmp_path / "j", {**RUN, "models": {"judge": "y"}})
    assert (tmp_path / "j").read_bytes() == before


@pytest.mark.parametrize(
    "text", [b"a picture\n", b'{"kind": "else"}\n', b"[1]\n", b'{"kind": "run", "format_version": 9}\n']
)
def test_a_file_that_is_no_journal_is_refused_and_stays_as_it_is(text: bytes, tmp_path: Path) -> None:
    """Whatever it holds."""
    (tmp_path / "j").write_bytes(text)
    with pytest.raises(BlpoError):
        PredictionJournal(tmp_path / "j", RUN)
    assert (tmp_path / "j").read_bytes() == text


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    """By its line."""
    lines = written(tmp_path / "j").splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join([*lines[:2], lines[2][:9] + b"\n", *lines[3:]]))
    with pytest.raises(BlpoError, match="line 3 is damaged"):
        PredictionJournal(tmp_path / "j", RUN)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (1, "outputs", [5]),
        (1, "outputs", []),
        (1, "usage", {"calls": -100_000}),
        (1, "usage", {"calls": "x"}),
        (1, "role", 5),
        (2, "key", None),
        (3, "usage", {"calls": -1}),
        (4, "data", {"error": None}),
        (4, "data", {**row(), "invalid": "no"}),
        (4, "data", {**row(), "label": ["Safe"]}),
        (4, "kind", "rows"),
    ],
)
def test_json_of_the_wrong_types_is_damage(line: int, name: str, value: object, tmp_path: Path) -> None:
    """It is named by its line as the file is opened, and the file stays as it is."""
    lines = written(tmp_path / "j").splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), name: value}).encode()
    (tmp_path / "j").write_bytes(b"\n".join([*lines, b""]))
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(BlpoError, match=f"line {line + 1} is damaged"):
        PredictionJournal(tmp_path / "j", RUN)
    assert (tmp_path / "j").read_bytes() == before


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    """The second one, until the first has ended."""
    first = PredictionJournal(tmp_path / "j", RUN)
    with pytest.raises(BlpoError, match="another run is writing it"):
        PredictionJournal(tmp_path / "j", RUN)
    first.close()
    PredictionJournal(tmp_path / "j", RUN).close()
    with pytest.raises(BlpoError, match="has ended"):
        first.put_row("a", row())
    with pytest.raises(BlpoError, match="name another output"):
        PredictionJournal(tmp_path, RUN)


def test_a_batch_is_known_again_wherever_its_submission_was_cut_short(tmp_path: Path) -> None:
    """With its requests, until it is closed."""
    record = BatchRecord.new("judge", {"k1": 1, "k2": 2}, ("k2",), {"logprobs": True, "response_format": dict})
    for step in ({"file": "file_1"}, {"batch": "batch_1"}):
        journal = PredictionJournal(tmp_path / "j", RUN)
        journal.put_batch(record)
        journal.close()
        journal = PredictionJournal(tmp_path / "j", RUN)
        assert journal.batches == {record.name: record}
        journal.put_batch(record.step(**step))
        record = journal.batches[record.name]
        journal.close()
    assert (record.file, record.batch, record.images) == ("file_1", "batch_1", {"k1": 1, "k2": 2})
    assert (record.repeated, record.options) == (("k2",), {"logprobs": True})
    journal = PredictionJournal(tmp_path / "j", RUN)
    journal.put_batch(record.step(closed=True))
    assert not journal.batches
    journal.close()
    journal = PredictionJournal(tmp_path / "j", RUN)
    assert not journal.batches
    journal.close()


@pytest.mark.parametrize("change", [{"images": {"k": -1}}, {"images": []}, {"role": "x"}, {"closed": 1}, {"file": 3}])
def test_a_damaged_line_about_a_batch_is_named(change: dict[str, object], tmp_path: Path) -> None:
    """Nothing is submitted on its word."""
    journal = PredictionJournal(tmp_path / "j", RUN)
    journal.close()
    line = {**BatchRecord.new("judge", {"k": 1}, (), {}).line(), **change}
    with (tmp_path / "j").open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(BlpoError, match="line 2 is damaged"):
        PredictionJournal(tmp_path / "j", RUN)
