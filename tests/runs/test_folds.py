"""K-fold over a small set: every image judged once by a judge that never saw it."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import TASK, photographs
from rich.console import Console
from stores import answers, change
from typer.testing import CliRunner
from worlds import LABELS, examples, student, world

from blpo_dspy.agreement.intervals import compare_paired
from blpo_dspy.agreement.measure import measure_agreement
from blpo_dspy.cli.app import app
from blpo_dspy.data.examples import dataset_fingerprint
from blpo_dspy.data.images.prepare import fingerprint
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.splits import cut_folds
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.models.lm import Models
from blpo_dspy.report import load_run
from blpo_dspy.runs.folds import Folded, Folds, align_folds, make_folds, share
from blpo_dspy.runs.jobs import Search
from blpo_dspy.workspace.store import FILE_NAME
from blpo_dspy.workspace.watch import Watch

pytestmark = pytest.mark.slow

SMALL = examples(range(2, 250, 8))  # 31 images
SEARCH = Search(rounds=2, inner_steps=1, batch_size=4)


class Marked(Watch):
    """A watch that keeps how many requests an LM had seen when each search began."""

    def __init__(self, lm: dspy.LM) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.lm, self.marks = lm, []

    def say(self, text: str) -> None:
        """Keeps the place where a search begins."""
        if text.startswith(("Fold ", "All images")):
            self.marks.append(len(self.lm.engine.seen))


def folded(cut: Folds, lm: dspy.LM, search: Search = SEARCH, log_dir: Path | None = None) -> tuple[Folded, list[int]]:
    """Compiles in the world of greys, and tells where each search began."""
    with Marked(lm) as watch:
        return align_folds(student(), cut, Models(lm, lm, lm), search, watch, log_dir), watch.marks


# --- the cut ----------------------------------------------------------------------------------------------------------


def item(number: int, label: str, group: int | None = None) -> dspy.Example:
    """An example with an image of its own."""
    more = {} if group is None else {"group": str(group)}
    image = dspy.Image(f"https://example.org/{number}.png")
    return dspy.Example(image=image, label=label, id=str(number), **more).with_inputs("image")


@given(st.lists(st.integers(6, 30), min_size=2, max_size=4), st.integers(2, 6), st.integers(0, 5))
@settings(max_examples=40)
def test_every_example_is_in_one_fold_and_labels_are_shared_out_equally(
    counts: list[int], folds: int, seed: int
) -> None:
    """Of no label, and in all, does one fold have two more than another."""
    labels = LabelSpace(*"abcd"[: len(counts)])
    names = [label for label, count in zip("abcd", counts, strict=False) for _ in range(count)]
    parts = cut_folds([item(i, name) for i, name in enumerate(names)], labels=labels, folds=folds, seed=seed)
    assert sorted(int(e.id) for part in parts for e in part) == list(range(len(names)))
    for of in (len, *(lambda part, label=label: sum(e.label == label for e in part) for label in labels.labels)):
        sizes = [of(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 14)), min_size=20, max_size=60), st.integers(2, 4))
@settings(max_examples=40)
def test_groups_stay_whole_and_no_fold_is_empty(rows: list[tuple[str, int]], folds: int) -> None:
    """Whatever the groups are; too few of them are refused with the histogram."""
    table = [item(i, label, group) for i, (label, group) in enumerate(rows)]
    spread = {label: len({group for name, group in rows if name == label}) for label in "ab"}
    if any(0 < groups < folds for groups in spread.values()):
        with pytest.raises(DataError, match=rf"too few .*\(a: \d+, b: \d+\).*fewer than {folds} \(a group"):
            cut_folds(table, labels=LabelSpace("a", "b"), folds=folds)
        return
    parts = cut_folds(table, labels=LabelSpace("a", "b"), folds=folds)
    homes = Counter(group for part in parts for group in {e.group for e in part})
    assert set(homes.values()) == {1}
    assert all(parts)
    assert sum(map(len, parts)) == len(rows)


def test_an_image_that_is_there_twice_is_in_one_fold() -> None:
    """Byte-identical images are one."""
    parts = cut_folds([*SMALL, *SMALL[3:9]], labels=LABELS, folds=3)
    for part in parts:
        others = {fingerprint(e.image) for other in parts if other is not part for e in other}
        assert not others & {fingerprint(e.image) for e in part}


def test_the_seed_decides_and_one_fold_is_none() -> None:
    """The same seed gives the same folds."""
    ids = [
        [[e.image.url for e in part] for part in cut_folds(SMALL, labels=LABELS, folds=4, seed=s)] for s in (1, 1, 2)
    ]
    assert ids[0] == ids[1] != ids[2]
    with pytest.raises(BlpoError, match="folds=1 is too few"):
        cut_folds(SMALL, labels=LABELS, folds=1)


# --- compiling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 4])
def test_no_judge_sees_an_image_of_its_fold_before_it_is_done(folds: int) -> None:
    """Each fold is touched last in its own search, by judge and verbalizer only, and every image in exactly one."""
    lm, cut = world(), make_folds(SMALL, LABELS, folds=folds)
    found, marks = folded(cut, lm)
    assert sorted(e.image.url for e in cut.all()) == sorted(e.image.url for e in SMALL)
    bounds = [*marks[1:], len(lm.engine.seen)]
    for sets, begin, end in zip(cut.folds, marks[1:], bounds[1:], strict=True):
        sealed = {e.image.url.partition(",")[2] for e in sets.test}
        seen = lm.engine.seen[begin:end]
        touched = [bool(sealed & set(request.images)) for request in seen]
        first = touched.index(True)
        assert all(touched[first:])
        assert {field for request in seen[first:] for field in request.fields} <= {"label", "description"}
        assert len({*sealed} & {image for request in seen[first:] for image in request.images}) == len(sets.test)
        learned = {e.image.url for e in (*sets.train, *sets.val)}
        assert learned == {e.image.url for e in SMALL} - {e.image.url for e in sets.test}
    assert found.aligned.after.test is None
    assert {e.image.url for e in (*cut.whole.train, *cut.whole.val)} == {e.image.url for e in SMALL}


def test_the_pooled_figures_are_those_of_every_image_once() -> None:
    """The agreement and the paired comparison are recomputed from the rows; the card says whose figures they are."""
    lm, cut = world(), make_folds(SMALL, LABELS, folds=3)
    found, _ = folded(cut, lm)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    rows = [image for row in record["rows"] for image in row["images"]]
    truth, before, after = ([row[key] for row in rows] for key in ("label", "before", "after"))
    for when, said in (("before", before), ("after", after)):
        expected = measure_agreement(LABELS, truth, said)
        assert found.pooled()[when] == expected
        assert expected.n == len(SMALL)
        low, high = (record[when]["intervals"]["accuracy"][end] for end in ("low", "high"))
        assert low <= expected.accuracy <= high
        by_fold = [row[when]["accuracy"] for row in record["rows"]]
        assert record["over_folds"][when]["accuracy"]["mean"] == pytest.approx(sum(by_fold) / 3)
    assert record["paired"]["wording"] == compare_paired(LABELS, truth, before, after).wording
    assert record["calls"] == {
        role: sum(row["calls"][role] for row in record["rows"])
        for role in ("judge", "verbalizer", "optimizer", "cached")
    }
    card = found.aligned.judge.card
    assert card["sealed_test"] is None
    assert card["agreement"]["after"]["test"] is None
    assert card["folds"]["figures"].startswith("out-of-fold estimates")
    assert (card["folds"]["n"], card["folds"]["images"]) == (3, len(SMALL))
    assert card["folds"]["sha256"] == dataset_fingerprint(cut.all())


def test_a_run_cut_short_goes_on_without_paying_twice(tmp_path: Path) -> None:
    """Answers of one fold and all of another are lost: just these are asked for again, to the same end."""
    lm, cut = world(), make_folds(SMALL, LABELS, folds=3)
    found, _ = folded(cut, lm, log_dir=tmp_path)
    paid = len(lm.engine.seen)
    again, _ = folded(cut, lm, log_dir=tmp_path)
    assert len(lm.engine.seen) == paid
    assert again.to_dict()["rows"][0]["images"] == found.to_dict()["rows"][0]["images"]
    before = answers(tmp_path / "fold-2") + answers(tmp_path / "fold-3")
    change(tmp_path / "fold-2", "DELETE FROM answers WHERE rowid % 2", "DELETE FROM records WHERE kind != 'budget'")
    kept = answers(tmp_path / "fold-2")
    (tmp_path / "fold-3" / FILE_NAME).unlink()
    last, _ = folded(cut, lm, log_dir=tmp_path)
    assert len(lm.engine.seen) - paid == before - kept > 0
    assert last.aligned.judge.card == found.aligned.judge.card
    assert last.to_dict()["after"] == found.to_dict()["after"]


def test_a_folder_of_another_run_is_refused_before_anything_is_paid_for(tmp_path: Path) -> None:
    """Not when all folds are done."""
    lm, cut = world(), make_folds(SMALL, LABELS, folds=2)
    (tmp_path / "journal.jsonl").write_text("{}\n")
    with pytest.raises(BlpoError, match="earlier version"):
        folded(cut, lm, log_dir=tmp_path)
    assert not lm.engine.seen


def test_a_cap_on_calls_holds_for_all_searches_together_and_pays_for_every_fold() -> None:
    """It is shared out equally; what is too small for the folds is refused before any call."""
    lm, cut = world(), make_folds(SMALL, LABELS, folds=3)
    found, _ = folded(cut, lm, Search(rounds=8, max_calls=260))
    assert len(lm.engine.seen) <= 260
    assert all(sum(fold.calls().values()) - fold.calls()["cached"] <= 65 for fold in (*found.folds, found.aligned))
    assert found.pooled()["after"].n == len(SMALL)
    each = share(Search(max_calls=260, max_tokens=1001, max_usd=4.0, max_seconds=800), student(), cut)
    assert (each.max_calls, each.max_tokens, each.max_usd, each.max_seconds) == (65, 250, 1.0, 200)
    lm = world()
    with pytest.raises(BlpoError, match=r"max_calls=160 is too small for 3 folds: .* 4 searches it leaves 40 calls"):
        folded(cut, lm, Search(max_calls=160))
    assert not lm.engine.seen


# --- the command ------------------------------------------------------------------------------------------------------


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with 30 rated photographs."""
    rows = [e for part in photographs().values() for e in part]
    path = tmp_path / "small.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for number, row in enumerate(rows):
            head, _, data = row.image.url.partition("base64,")
            image = tmp_path / f"{number}.{'png' if 'png' in head else 'jpg'}"
            image.write_bytes(base64.b64decode(data))
            writer.writerow([image.name, row.label])
    return path


OPTIONS = ["--scale", "1-5", "--task", TASK, "--rounds", "1", "--inner-steps", "1", "--batch-size", "4", "--folds", "2"]


def test_compile_with_folds_keeps_one_judge_and_says_whose_figures_they_are(table: Path) -> None:
    """Table, sentence, record, card and report; repeated, it gives the same bytes and pays for nothing."""
    run_dir, out = table.parent / "run", table.parent / "judge.json"
    command = ["compile", table, *OPTIONS, "--out", out, "--run-dir", run_dir]
    shown = blpo(*command)
    assert shown.exit_code == 0
    words = " ".join(shown.stdout.split())
    for said in ("fold 1 before", "fold 2 after", "all 2 after", "Over 2 folds, mean ± sd: accuracy", "Out of fold: "):
        assert said in words
    record = json.loads((run_dir / "result.json").read_text())
    assert record["folds"]["paired"]["wording"] in words
    assert record["folds"]["after"]["n"] == record["folds"]["images"] == 30
    ids = [image["id"] for row in record["folds"]["rows"] for image in row["images"]]
    assert sorted(ids) == sorted(record["data"]["train"]["ids"] + record["data"]["val"]["ids"])
    assert record["after"]["test"] is None
    assert json.loads(out.read_text())["card"]["folds"]["n"] == 2
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "each judged by a judge that never saw it" in page
    assert f"<b>{record['folds']['after']['accuracy']:.2f}</b>" in page
    assert "Not measured" not in page
    labels = LabelSpace.from_dict(record["labels"])
    changes = [sum(i.kind(labels) == kind for i in load_run(run_dir).items) for kind in ("fixed", "broken")]
    assert changes == [record["folds"]["paired"][kind] for kind in ("fixed", "broken")]
    judge = out.read_bytes()
    again = blpo(*command, "--json")
    assert json.loads(again.stdout)["folds"]["after"] == record["folds"]["after"]
    assert out.read_bytes() == judge
    assert "compiled with exactly these images (its train and val set)" in blpo("evaluate", out, table).stderr
    shutil.rmtree(run_dir)
    assert blpo("compile", table, *OPTIONS, "--out", out).exit_code == 0
    assert out.read_bytes() == judge


def test_estimate_with_folds_holds_for_the_run(table: Path) -> None:
    """The calls of all searches lie within the sum of what each comes to."""
    estimated = json.loads(blpo("estimate", table, *OPTIONS, "--json").stdout)
    record = json.loads(blpo("compile", table, *OPTIONS, "--out", table.parent / "judge.json", "--json").stdout)
    calls = Counter(record["folds"]["calls"]) + Counter(record["calls"])
    made = sum(calls.values()) - calls["cached"]
    assert estimated["test_calls"] == 2 * 30 * 2
    assert made <= estimated["in_all"]["calls"]["most"]
    words = blpo("estimate", table, *OPTIONS).stdout
    assert "These are 3 searches: one for each of 2 folds, and one on all images." in words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--test", "small.csv"], "--folds stands in for a test set"),
        (["--val", "small.csv"], "--folds splits validation images off TABLE"),
        (["--sizes", "10,10,10"], "leave out --sizes"),
        (["--fidelity", "5"], "--fidelity is measured on a test set"),
        (
            ["--folds", "7"],
            "too few examples for 7 folds: there are 30 examples (1: 6, 2: 6, 3: 6, 4: 6, 5: 6); each fold needs an "
            "example of every label, but the labels 1, 2, 3, 4 and 5 have fewer than 7; take 6 folds",
        ),
        (["--max-calls", "100"], "--max-calls 100 is too small for 2 folds"),
    ],
)
@pytest.mark.parametrize("command", ["compile", "estimate"])
def test_what_does_not_go_with_folds_ends_with_one_message(
    command: str, options: list[str], message: str, table: Path
) -> None:
    """Nothing is written."""
    done = blpo(command, table, *OPTIONS, *options, "--out", table.parent / "judge.json")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (table.parent / "judge.json").exists()


def test_a_shared_out_cap_is_told(table: Path) -> None:
    """How many calls each search has."""
    done = blpo("compile", table, *OPTIONS, "--out", table.parent / "judge.json", "--max-calls", "600")
    assert "--max-calls 600 is shared out equally: 200 for each of 2 folds and for all images" in done.stderr
    assert done.exit_code == 0
