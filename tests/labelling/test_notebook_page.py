"""The page beside the cells of a notebook: served to this machine, framed by notebooks alone, ended and resumed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from label_pages import SCALE, answer, photos

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling import notebook
from blpo_dspy.labelling.notebook import LabelPage, NextByJudge, label_in_notebook
from blpo_dspy.programs import VisualJudge


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """No page outlives its test."""
    yield
    for page in notebook._open.values():
        page.stop()
    notebook._open.clear()


def label_one(page: LabelPage, label: int) -> None:
    """Labels what the page shows, as its script does."""
    origin = {"Origin": "http://" + urlsplit(page.url).netloc}
    with httpx.Client(base_url=page.url, headers=origin) as client:
        reply = client.post("act", json=answer(client.get("state").json(), label))
        assert reply.status_code == 200, reply.text


def test_it_is_shown_below_the_cell_and_labels_come_back(tmp_path: Path) -> None:
    """In a frame that notebooks of this machine may make, and nobody else."""
    page = label_in_notebook(photos(tmp_path / "photos"), SCALE, out=tmp_path / "labels.csv", task="How good?")
    assert f'<iframe src="{page.url}"' in page._repr_html_()
    policy = httpx.get(page.url).headers["Content-Security-Policy"]
    assert policy.endswith("frame-ancestors http://localhost:* http://127.0.0.1:* vscode-webview:")
    assert page.labels == []
    label_one(page, 4)
    assert [row["label"] for row in page.labels] == ["4"]
    assert "1 labels" in repr(page)
    page.stop()
    with pytest.raises(httpx.TransportError):
        httpx.get(page.url)
    page.stop()


def test_a_cell_run_again_ends_the_page_before_and_resumes(tmp_path: Path) -> None:
    """Under the same name; another rater's page stays."""
    folder, out = photos(tmp_path / "photos"), tmp_path / "labels.csv"
    first = label_in_notebook(folder, SCALE, out=out)
    other = label_in_notebook(folder, SCALE, out=out, rater="ben")
    label_one(first, 4)
    second = label_in_notebook(folder, SCALE, out=out)
    with pytest.raises(httpx.TransportError):
        httpx.get(first.url)
    label_one(second, 5)
    label_one(other, 1)
    assert [row["label"] for row in second.labels] == ["4", "5", "1"]


def test_a_judge_says_what_comes_next(tmp_path: Path) -> None:
    """Its labels are beside the table; one with other labels is refused."""
    folder, out, lm = photos(tmp_path / "photos"), tmp_path / "labels.csv", embedded_lm(cache=False)
    judge = VisualJudge(SCALE, instruction="Rate it.", evidence="image")
    judge.set_lm(lm)
    by_judge = NextByJudge(judge, max_calls=4, random_share=0.01)
    page = label_in_notebook(folder, SCALE, out=out, next=by_judge)
    label_one(page, 4)
    assert [row["drawn"] for row in page.labels] == ["chosen"]
    (verdicts,) = tmp_path.glob("labels.judged-*.csv")
    with verdicts.open(newline="") as file:
        assert [row["label"] != "" for row in csv.DictReader(file)] == [True] * 4 + [False] * 2
    with pytest.raises(BlpoError, match="give its labels"):
        label_in_notebook(folder, LabelSpace("a", "b"), out=out, next=by_judge)


def test_a_judge_is_not_asked_about_what_has_a_label(tmp_path: Path) -> None:
    """One that comes later has no verdict on it."""
    folder, out, lm = photos(tmp_path / "photos"), tmp_path / "labels.csv", embedded_lm(cache=False)
    label_one(label_in_notebook(folder, SCALE, out=out), 4)
    judge = VisualJudge(SCALE, instruction="Rate it.", evidence="image")
    judge.set_lm(lm)
    page = label_in_notebook(folder, SCALE, out=out, next=NextByJudge(judge))
    (verdicts,) = tmp_path.glob("labels.judged-*.csv")
    with verdicts.open(newline="") as file:
        judged = {row["image"] for row in csv.DictReader(file)}
    assert len(judged) == 5
    assert page.labels[0]["image"] not in judged
