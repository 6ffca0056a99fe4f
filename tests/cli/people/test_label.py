"""`blpo label`: the command that serves the page, killed and resumed."""

from __future__ import annotations

import csv
import os
import random
import re
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from engines import ScriptedServer, completion
from label_pages import answer, photos, served
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.examples import load_examples
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs import VisualJudge

KILLS = int(os.environ.get("BLPO_TEST_KILLS", "6"))  # each takes most of a second of processor time
WORDS = ("photos", "--scale", "1-5", "--out", "labels.csv")


def blpo(*arguments: object) -> tuple[int, str]:
    """Exit code and message of a command."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return done.exit_code, done.stderr


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of labels."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label_on(url: str, labels: list[str], confirmed: dict[int, str]) -> None:
    """Labels by HTTP until the server is gone, and notes what it confirmed."""
    origin = {"Origin": "http://" + urlsplit(url).netloc}
    with httpx.Client(base_url=url, headers=origin, timeout=20, verify=False) as client:
        try:
            view = client.get("state").json()
            while view["item"] is not None and view["item"]["answer"] is None:
                label = labels[len(confirmed) % len(labels)]
                reply = client.post("act", json=answer(view, label))
                assert reply.status_code == 200, reply.text
                confirmed[view["item"]["position"]] = label
                view = reply.json()
        except httpx.TransportError:
            return


@pytest.mark.slow
@pytest.mark.wheel
def test_it_serves_until_it_is_stopped_and_names_the_next_command(tmp_path: Path) -> None:
    """Ctrl-C ends it; what it printed has a token in the address."""
    photos(tmp_path / "photos")
    with served(tmp_path, "label", *WORDS, "--task", "How good?") as page:
        assert httpx.get(page.url).status_code == 200
        assert httpx.get(page.url.rsplit("/", 2)[0] + "/").status_code == 401
        assert httpx.get(page.url + "static/label.js").status_code == 200
        confirmed: dict[int, str] = {}
        label_on(page.url, ["4"], confirmed)
        code, said = page.stop(signal.SIGINT)
        assert code in (0, 130, -signal.SIGINT)
    assert "blpo compile labels.csv --scale 1-5 --task 'How good?' --reason-column reason --out judge.json" in said
    assert len(load_examples(tmp_path / "labels.csv", labels=LabelSpace.ordinal(1, 5))) == len(confirmed) == 6


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_no_confirmed_label_and_writes_none_twice(tmp_path: Path) -> None:
    """A script labels; at each moment the table is whole, and holds what was confirmed."""
    photos(tmp_path / "photos", 1000)
    draw = random.Random("kill:0")
    confirmed: dict[int, str] = {}
    for _ in range(KILLS):
        with served(tmp_path, "label", *WORDS) as page:
            labeller = threading.Thread(target=label_on, args=(page.url, ["1", "2", "3", "4", "5"], confirmed))
            labeller.start()
            wanted, until = len(confirmed) + draw.randint(0, 4), time.monotonic() + 20
            while len(confirmed) < wanted and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.03))
            page.stop(signal.SIGKILL)
        labeller.join(30)
        written = rows(tmp_path / "labels.csv")
        found = {row["image"]: row["label"] for row in written}
        assert len(found) == len(written)
        assert {f"photos/{place:03}.png": label for place, label in confirmed.items()}.items() <= found.items()
    assert len(confirmed) > KILLS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos", "--out", "labels.csv"], "the labels are missing"),
        (["photos", "--scale", "1-5", "--out", "labels.txt"], "should end in .csv"),
        (["none", "--scale", "1-5", "--out", "labels.csv"], "none: no folder or table"),
        (["photos", "--scale", "1-5", "--out", "labels.csv", "--rater", "a/b"], "is not a name"),
        (["photos", "--scale", "1-5", "--out", "labels.csv", "--next", "alphabetic"], "write --next random"),
        (["table.csv", "--scale", "1-5", "--out", "table.csv"], "--out is the TABLE itself"),
        (["photos", "--pairs", "A,B", "--out", "labels.csv"], "name two with --images …, such as left and right"),
        (["photos", "--scale", "1-5", "--out", "table.csv"], "was not written by `blpo label`"),
    ],
)
def test_what_cannot_be_served_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    """In one message, and a table that is there stays."""
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", 1)
    (tmp_path / "table.csv").write_text("image,label\nphotos/000.png,3\n")
    code, said = blpo("label", *words)
    assert (code, message in said) == (2, True), said
    assert (tmp_path / "table.csv").read_text() == "image,label\nphotos/000.png,3\n"


def test_a_token_of_ones_own_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is all that keeps others out."""
    photos(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    for token in ("short", "with/slash-and-more-of-it"):
        monkeypatch.setenv("BLPO_TOKEN", token)
        code, said = blpo("label", *WORDS)
        assert (code, "set it to at least 16 letters" in said) == (2, True)


def test_a_port_that_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one message that says what to do."""
    photos(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = blpo("label", *WORDS, "--port", taken.getsockname()[1])
    assert (code, "choose another --port" in said) == (2, True)


@pytest.mark.slow
def test_a_judge_is_asked_up_to_a_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it costs is said before and after; a repeated command asks nothing, and the page labels all images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    photos(tmp_path / "photos", 6)
    judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate this photograph.", evidence="image")
    judge.save(tmp_path / "judge.json")
    words = [*WORDS, "--next", "judge.json", "--model", "openai/gpt-4o-mini", "--max-calls", "2", "--no-cache"]
    said = completion("[[ ## label ## ]]\n4\n\n[[ ## completed ## ]]")
    with ScriptedServer(lambda body: (200, said, {})) as server:
        words += ["--api-base", server.url]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            command = ["label", *words, "--port", str(taken.getsockname()[1])]
            first, again = (CliRunner().invoke(app, command, catch_exceptions=False) for _ in range(2))
        assert re.search(r"Note: 6 images: about \$0\.\d", first.stderr)
        stopped = "2 of 6 images until a cap was reached (a higher one judges more), 0 invalid, 0 errors"
        assert f"{stopped}; 2 calls, 2 in all; $0.0004" in first.stdout
        assert "4 of 6 images have no verdict and are drawn by chance alone" in first.stderr
        assert "6 images: 2 known from earlier runs, 4 to judge" in again.stderr
        assert f"{stopped}; 0 calls, 2 in all; $0.0004" in again.stdout
        with served(tmp_path, "label", *words) as page:
            confirmed: dict[int, str] = {}
            label_on(page.url, ["4"], confirmed)
        assert (len(confirmed), len(server.bodies)) == (6, 2)


@pytest.mark.slow
def test_what_has_a_label_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note says how many; with a label on all, nothing is asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    photos(tmp_path, 3)
    VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate it.", evidence="image").save(tmp_path / "judge.json")
    said = completion("[[ ## label ## ]]\n4\n\n[[ ## completed ## ]]")
    with (
        ScriptedServer(lambda body: (200, said, {})) as server,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        words = ["--scale", "1-5", "--next", "judge.json", "--model", "openai/gpt-4o-mini", "--api-base", server.url]
        words += ["--no-cache", "--port", str(taken.getsockname()[1])]
        for last, note in ((",", "2 of 3"), (",5", "3 of 3")):
            (tmp_path / "table.csv").write_text(f"image,label\n000.png,1\n001.png,2\n002.png{last}\n")
            out = ["--out", f"labels{len(last)}.csv"]
            ran = CliRunner().invoke(app, ["label", "table.csv", *out, *words], catch_exceptions=False)
            assert f"{note} images not judged, as people labelled them before" in ran.stderr
        assert len(server.bodies) == 1


@pytest.mark.slow
def test_a_judge_says_what_comes_next(tmp_path: Path) -> None:
    """By its file or its table of verdicts alike; one of other labels is refused."""
    photos(tmp_path / "photos", 12)
    judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Rate this photograph.")
    judge.save(tmp_path / "judge.json")
    words = [*WORDS, "--next", "judge.json", "--confidence", "views", "--model", "embedded", "--random-share", "0.2"]
    with served(tmp_path, "label", *words) as page:
        first = httpx.get(page.url + "state").json()
        confirmed: dict[int, str] = {}
        label_on(page.url, ["4"], confirmed)
        assert len(confirmed) == 12
        _, said = page.stop(signal.SIGINT)
    assert "blpo compile labels.csv --start judge.json --reason-column reason --out judge2.json" in said
    written = rows(tmp_path / "labels.csv")
    assert {row["drawn"] for row in written} == {"random", "chosen"}
    assert {row["inclusion_probability"] for row in written} == {"1"}
    (verdicts,) = tmp_path.glob("labels.judged-*.csv")
    assert all(row["confidence"] for row in rows(verdicts))
    other = ["photos", "--scale", "1-5", "--out", "other.csv", "--random-share", "0.2", "--next"]
    with served(tmp_path, "label", *other, verdicts.name) as page:
        assert httpx.get(page.url + "state").json()["item"] == first["item"]
    judge = VisualJudge(LabelSpace("a", "b"), instruction="Rate this photograph.")
    judge.save(tmp_path / "judge.json")
    out = ["--scale", "1-5", "--out", tmp_path / "new.csv"]
    code, said = blpo("label", tmp_path / "photos", *out, "--next", tmp_path / "judge.json")
    assert (code, "state the labels of the judge" in said) == (2, True)
