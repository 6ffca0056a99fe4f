"""A judge's verdicts on what is to be labelled: made once, read back, and who stands where in them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import ScriptedServer, completion
from image_files import write_photos
from label_pages import SCALE, photos
from workspaces import shared

from blpo_dspy.data.examples import item_prints, load_images
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded import embedded_lm
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.labelling.items import Items, Work, find_items
from blpo_dspy.labelling.order.chosen import ChosenOrder, Opinion
from blpo_dspy.labelling.order.judged import compiled_with, judge_items, labels_before, opinions_in, session_by_judge
from blpo_dspy.labelling.order.looks import looks_of
from blpo_dspy.labelling.session import open_session
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import VisualJudge
from blpo_dspy.runs.collection.population import estimate_population
from blpo_dspy.workspace.workspace import Workspace


def found(source: Path, out: Path, **options: Any) -> Items:
    """What is to be labelled."""
    return find_items(Work(source, SCALE, out, **options))


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes verdicts."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def offline() -> Models:
    """The offline engine."""
    lm = embedded_lm(cache=False)
    return Models(lm, lm, lm)


JUDGE = VisualJudge(SCALE, instruction="Rate this photograph.", evidence="image")


def test_verdicts_are_paid_for_once(tmp_path: Path, offline: Models) -> None:
    """The same call again asks nothing; a new image is judged alone. Another judge has a file of its own."""
    folder, out = photos(tmp_path / "photos", 4), tmp_path / "labels.csv"
    file, progress = judge_items(found(folder, out), JUDGE, offline, out)
    assert (progress.ledger.total.calls, progress.complete) == (4, True)
    _, again = judge_items(found(folder, out), JUDGE, offline, out)
    assert again.ledger.total.calls == 0
    write_photos(folder, 5)
    same, more = judge_items(found(folder, out), JUDGE, offline, out)
    assert (same, more.ledger.total.calls) == (file, 1)
    other = VisualJudge(SCALE, instruction="Rate it strictly.", evidence="image")
    assert judge_items(found(folder, out), other, offline, out)[0] != file
    opinions, notes = opinions_in(file, found(folder, out), SCALE)
    assert (len(opinions), notes) == (5, [])


def answered(work: Work, items: Items, place: int, label: int) -> None:
    """A rater labels one image."""
    session = open_session(work, items)
    version = session.view(place)["item"]["version"]
    session.act({"do": "answer", "position": place, "version": version, "state": "label", "label": label})
    session.journal.close()


def test_what_has_a_label_is_not_judged(tmp_path: Path, offline: Models) -> None:
    """Whether a table or a rater gave it; its label stands for a verdict. What was judged before keeps its verdict."""
    folder = photos(tmp_path / "photos", 4)
    (folder / "table.csv").write_text("image,label\n000.png,\n001.png,2\n002.png,\n003.png,\n")
    work = Work(folder / "table.csv", SCALE, tmp_path / "labels.csv")
    items = work.items()
    answered(work, items, 0, 5)
    file, progress = judge_items(items, JUDGE, offline, work.out)
    assert (progress.ledger.total.calls, progress.total, progress.complete) == (2, 2, True)
    opinions, notes = opinions_in(file, items, SCALE, labels_before(items, SCALE, work.out))
    assert notes == []
    assert [opinions[item.key] for item in items.items[:2]] == [Opinion("5", None), Opinion("2", None)]
    answered(work, items, 2, 4)
    again, progress = judge_items(items, JUDGE, offline, work.out)
    assert (again, progress.ledger.total.calls, progress.known) == (file, 0, 2)
    other = VisualJudge(SCALE, instruction="Rate it strictly.", evidence="image")
    assert judge_items(items, other, offline, work.out)[1].ledger.total.calls == 1
    answered(work, items, 3, 1)
    third = VisualJudge(SCALE, instruction="Rate it mildly.", evidence="image")
    nothing, progress = judge_items(items, third, offline, work.out)
    assert (nothing, progress.total, progress.ledger.total.calls) == (None, 0, 0)
    session, notes = session_by_judge(replace(work, rater="ben"), items, nothing, third, seed=0, share=0.01)
    assert (len(session.view()["ahead"]), notes) == (2, [])
    session.journal.close()


def test_a_cap_holds_over_all_calls_and_leaves_a_random_part_without_a_verdict(tmp_path: Path) -> None:
    """In calls or dollars; what was judged is in the table, a repeated call asks nothing, and a higher cap the rest."""
    folder, out = photos(tmp_path / "photos", 8), tmp_path / "labels.csv"
    items = found(folder, out)
    said = completion("[[ ## label ## ]]\n4\n\n[[ ## completed ## ]]")
    with ScriptedServer(lambda body: (200, said, {})) as server:
        lm = dspy.LM("openai/gpt-4o-mini", api_base=server.url, api_key="EMPTY", cache=False)

        def judged(**caps: Any) -> tuple[set[str], list[str]]:
            with Workspace(num_threads=1):
                file, progress = judge_items(items, JUDGE, Models(lm, lm, lm), out, **caps)
            assert progress.spent.total.calls == len(server.bodies)
            with file.open(newline="") as opened:
                assert len(list(csv.DictReader(opened))) == 8
            opinions, notes = opinions_in(file, items, SCALE)
            return set(opinions), notes

        first = sorted(item.key for item in items.items)
        left = ["5 of 8 images have no verdict and are drawn by chance alone"]
        assert judged(max_calls=0)[0] == set()
        assert judged(max_calls=3) == (set(first[:3]), left)
        assert judged(max_calls=3) == (set(first[:3]), left)
        usd = judge_items(items, JUDGE, Models(lm, lm, lm), out, max_calls=3)[1].spent.total.usd / 3
        assert judged(max_usd=3 * usd) == (set(first[:3]), left)
        assert judged(max_usd=5.5 * usd)[0] == set(first[:5])
        assert judged(max_usd=100 * usd) == (set(first), [])
    assert len(server.bodies) == 8


def test_an_earlier_table_of_the_same_folder_or_table_is_read(tmp_path: Path, offline: Models) -> None:
    """Although paths in it start from another folder than those of the labels."""
    folder, out = photos(tmp_path / "photos", 3), tmp_path / "labels.csv"
    shared(predict, JUDGE, folder, out=tmp_path / "elsewhere" / "of_folder.csv", models=offline)
    assert len(opinions_in(tmp_path / "elsewhere" / "of_folder.csv", found(folder, out), SCALE)[0]) == 3
    (folder / "table.csv").write_text("image,label\n000.png,\n002.png,4\n")
    shared(predict, JUDGE, folder / "table.csv", out=tmp_path / "of_table.csv", models=offline)
    opinions, notes = opinions_in(tmp_path / "of_table.csv", found(folder / "table.csv", out), SCALE)
    assert (len(opinions), notes) == (2, [])


def test_doubt_is_want_of_confidence_disagreement_or_no_label(tmp_path: Path) -> None:
    """A call that failed says nothing, and a note counts what has no verdict."""
    folder, out = photos(tmp_path / "photos", 6), tmp_path / "labels.csv"
    rows = [
        {"image": "000.png", "label": 3, "confidence": 0.75},
        {"image": "001.png", "label": 5},
        {"image": "002.png", "label": 4, "inconsistent": True},
        {"image": "003.png", "invalid": True, "answer": "hm"},
        {"image": "004.png", "error": "the server is gone"},
    ]
    items = found(folder, out)
    opinions, (note,) = opinions_in(table(tmp_path / "said.csv", rows), items, SCALE)
    said = {item.row.where: opinions.get(item.key) for item in items.items}
    assert said == {
        "000.png": Opinion("3", 0.25, 3), "001.png": Opinion("5", 0.0, 5), "002.png": Opinion("4", 1.0, 4),
        "003.png": Opinion("", 1.0), "004.png": None, "005.png": None,
    }  # fmt: skip
    assert note == "2 of 6 images have no verdict and are drawn by chance alone"


def test_what_a_judge_was_compiled_with_is_known_by_its_content(tmp_path: Path) -> None:
    """Whatever its name; what cannot be read counts too, as agreement on it would say nothing."""
    folder, out = photos(tmp_path / "photos", 4), tmp_path / "labels.csv"
    items = found(folder, out)
    examples = load_images(folder)
    (folder / "000.png").rename(folder / "renamed.png")
    (folder / "001.png").write_bytes(b"broken")
    items = found(folder, out)
    judge = VisualJudge(SCALE, instruction="Rate it.")
    judge.card = {"data": {"train": {"n": 1, "prints": item_prints(examples[:1])}}}
    known = compiled_with(judge, items)
    assert {item.row.where: known(item.key) for item in items.items} == {
        "001.png": True, "002.png": False, "003.png": False, "renamed.png": True,
    }  # fmt: skip
    assert not compiled_with(JUDGE, items)(items.items[0].key)


def test_verdicts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Of other images, of other labels, without the images' column."""
    items = found(photos(tmp_path / "photos", 2), tmp_path / "labels.csv")
    for row, message in (
        ({"image": "x.png", "label": 3}, "has none of the images to label"),
        ({"image": "000.png", "label": 9}, "1 row cannot be used"),
        ({"picture": "000.png", "label": 3}, "none of the columns image"),
    ):
        with pytest.raises(DataError, match=message):
            opinions_in(table(tmp_path / "said.csv", [row]), items, SCALE)


def test_a_judge_of_other_inputs_is_refused(tmp_path: Path, offline: Models) -> None:
    """Before anything is paid."""
    out = tmp_path / "labels.csv"
    items = found(photos(tmp_path / "photos", 2), out)
    pairs = VisualJudge(LabelSpace.pairwise(), instruction="Which?", images=["a", "b"])
    texts = VisualJudge(SCALE, instruction="Rate it.", context=["prompt"])
    with pytest.raises(BlpoError, match="takes a, b, but image is to be labelled"):
        judge_items(items, pairs, offline, out)
    with pytest.raises(BlpoError, match="takes the text prompt"):
        judge_items(items, texts, offline, out)


def test_population_takes_the_random_draws_and_sets_what_was_chosen_aside(tmp_path: Path, offline: Models) -> None:
    """The table says which are which; what was skipped or can't be told stays part of the draw."""
    folder, out = photos(tmp_path / "photos", 40), tmp_path / "labels.csv"
    work = Work(folder, SCALE, out)
    items = work.items()
    file, _ = judge_items(items, JUDGE, offline, out)
    opinions, _ = opinions_in(file, items, SCALE)
    session = open_session(work, items, lambda keys: ChosenOrder(keys, opinions, looks_of(items), share=0.5))
    for number in range(20):
        item = session.view()["item"]
        state = {3: "skip", 6: "cannot tell"}.get(number, "label")
        action = {"do": "answer", "position": item["position"], "version": 0, "state": state}
        session.act({**action, "label": str(number % 5 + 1), "reason": ""})
    session.journal.close()
    with out.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    valid = [row for row in rows if row["inclusion_probability"]]
    beyond = [row for row in rows if not row["inclusion_probability"]]
    assert {row["inclusion_probability"] for row in valid} == {f"{len(valid) / 40:.6g}"}
    assert {row["drawn"] for row in rows} == {"random", "chosen"}
    assert {row["drawn"] for row in beyond} == {"chosen"}
    population = estimate_population(file, out, labels=SCALE)
    assert population.whole.labelled == sum(bool(row["label"]) for row in valid)
    aside = sum(bool(row["label"]) for row in beyond)
    assert any(note.startswith(f"{aside} labels set aside: chosen as the judge") for note in population.notes)
