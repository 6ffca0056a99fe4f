"""A folder or table judged into a table, from Python."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import datasets
import dspy
import numpy as np
import pandas as pd
import pytest
from dspy import lm15
from engines import ScriptedServer, Seen, completion, scripted_lm
from image_files import encoded
from judges import SAFETY, SCALE, answers
from PIL import Image
from pyarrow import parquet
from workspaces import shared

from blpo_dspy.agreement.measure import Flips
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, BlpoWarning, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.outputs import kept_in
from blpo_dspy.predictions.predict import predict
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.programs import Cascade, VisualJudge


def png(grey: int = 0) -> bytes:
    """A small picture."""
    return encoded(Image.new("RGB", (8, 8), (grey,) * 3))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with twelve pictures, each brighter than the last."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.png").write_bytes(png(20 * number))
    return folder


def grey(seen: Seen) -> int:
    """How bright the picture of a request is."""
    return int(Image.open(io.BytesIO(base64.b64decode(seen.images[-1]))).convert("RGB").getpixel((0, 0))[0])


def by_brightness(seen: Seen) -> Any:
    """Says how bright a picture is, and calls the bright ones unsafe."""
    if seen.fields == ["description"]:
        return {"description": f"=grey {grey(seen)}"}
    return {"reasoning": "it is so", "label": "Unsafe" if grey(seen) > 128 else "Safe"}


class World:
    """A judge, its models and what they were asked."""

    def __init__(self, script: Any = by_brightness, labels: LabelSpace = SAFETY, **options: Any) -> None:
        self.judge = VisualJudge(labels, **{"instruction": "Judge how safe it is.", **options})
        self.lm = scripted_lm(script, num_retries=0)
        self.models = Models(self.lm, self.lm, self.lm)

    @property
    def calls(self) -> int:
        """How many requests were sent."""
        return len(self.lm.engine.seen)

    def predict(self, source: Any, out: Path, **options: Any) -> Progress:
        """Predicts with these models and two threads."""
        return shared(predict, self.judge, source, out=out, models=self.models, **{"num_threads": 2, **options})


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, whatever its format; texts only for CSV."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_a_folder_becomes_a_table_in_order(suffix: str, photos: Path, tmp_path: Path) -> None:
    """One row per image, with label and description, whatever order the calls end in."""
    world, out = World(), tmp_path / "new" / f"out{suffix}"
    done = world.predict(photos, out, num_threads=4)
    rows = read(out)
    assert list(rows[0]) == ["image", "label", "description", "answer", "invalid", "error"]
    assert [row["image"] for row in rows] == [f"{number:02}.png" for number in range(12)]
    assert [row["label"] for row in rows] == ["Safe"] * 7 + ["Unsafe"] * 5
    quote = "'" if suffix == ".csv" else ""
    assert [row["description"] for row in rows] == [f"{quote}=grey {20 * number}" for number in range(12)]
    assert {row["invalid"] for row in rows} == {"False" if suffix == ".csv" else False}
    assert (done.total, done.judged, done.complete, done.errors, done.invalid) == (12, 12, True, 0, 0)
    assert dict(done.labels) == {"Safe": 7, "Unsafe": 5}
    assert (world.calls, done.ledger.total.calls) == (24, 24)


def test_a_table_keeps_its_columns_beside_the_judges(photos: Path, tmp_path: Path) -> None:
    """One of the same name is kept under another; duplicate rows are judged once."""
    (photos / "t.csv").write_text("id,image,prompt,label,error\n1,03.png,a,-2,x\n2,11.png,b,=1,\n3,03.png,a,5,\n")
    world, out = World(context=["prompt"], reasoning=True), tmp_path / "o.csv"
    done = world.predict(photos / "t.csv", out)
    rows = read(out)
    assert list(rows[0]) == [
        "id", "image", "prompt", "given_label", "given_error",
        "label", "description", "reasoning", "answer", "invalid", "error",
    ]  # fmt: skip
    assert [(row["id"], row["label"], row["given_label"]) for row in rows] == [
        ("1", "Safe", "-2"), ("2", "Unsafe", "'=1"), ("3", "Safe", "5"),
    ]  # fmt: skip
    assert rows[0]["reasoning"] == "it is so"
    assert (world.calls, done.judged, done.labels["Safe"]) == (4, 3, 2)


def test_columns_without_a_name_are_kept_with_one_warning(photos: Path, tmp_path: Path) -> None:
    """Under a name by their position, as pandas writes its index."""
    (photos / "t.csv").write_text(",image,\n7,03.png,x\n8,11.png,\n")
    out = tmp_path / "o.csv"
    with pytest.warns(BlpoWarning) as warned:
        World(evidence="image").predict(photos / "t.csv", out)
    (said,) = (str(warning.message) for warning in warned)
    assert said.endswith("t.csv: 2 columns have no name in the header, and are kept as 'column_1', 'column_3'")
    rows = read(out)
    assert list(rows[0])[:4] == ["column_1", "image", "column_3", "label"]
    assert [(row["column_1"], row["column_3"]) for row in rows] == [("7", "x"), ("8", "")]


def test_images_of_a_parquet_file_are_judged_and_not_written(photos: Path, tmp_path: Path) -> None:
    """Their names are, and other columns keep their types."""
    import pyarrow

    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in sorted(photos.iterdir())]
    parquet.write_table(pyarrow.table({"n": list(range(12)), "image": cells}), tmp_path / "t.parquet")
    out = tmp_path / "o.parquet"
    World(lambda seen: "3", SCALE, evidence="image").predict(tmp_path / "t.parquet", out)
    rows = read(out)
    assert [(row["n"], row["image"], row["label"]) for row in rows] == [(n, f"{n:02}.png", 3) for n in range(12)]


def test_what_cannot_be_judged_has_its_reason_and_costs_no_other_its_verdict(photos: Path, tmp_path: Path) -> None:
    """An unreadable image, one that the model refuses, and an answer without a label."""
    (photos / "01.png").write_bytes(png()[:40])
    (photos / "02.png").write_bytes(b"")

    def script(seen: Seen) -> Any:
        return {60: lm15.InvalidRequestError("too dark"), 80: "no idea"}.get(grey(seen), "Safe")

    world, out = World(script, evidence="image"), tmp_path / "o.jsonl"
    done = world.predict(photos, out)
    rows = read(out)
    assert [row["label"] for row in rows] == ["Safe", *[None] * 4, *["Safe"] * 7]
    assert "truncated" in rows[1]["error"]
    assert "empty" in rows[2]["error"]
    assert "too dark" in rows[3]["error"]
    assert (rows[4]["answer"], rows[4]["invalid"], rows[4]["error"]) == ("no idea", True, None)
    assert (done.errors, done.invalid, done.complete) == (3, 1, True)


@pytest.mark.slow
def test_the_same_call_again_pays_for_nothing_and_tries_errors_again(photos: Path, tmp_path: Path) -> None:
    """An image that was repaired and a model that recovered get their verdicts; the others keep theirs."""
    whole = (photos / "01.png").read_bytes()
    (photos / "01.png").write_bytes(b"")
    down = [True]

    def script(seen: Seen) -> Any:
        if grey(seen) == 200 and "label" in seen.fields and down[0]:
            return lm15.ServerError("down")
        return by_brightness(seen)

    world, out = World(script), tmp_path / "o.csv"
    first = world.predict(photos, out)
    assert (first.errors, world.calls) == (2, 22)
    before, down[0] = out.read_bytes(), False
    (photos / "01.png").write_bytes(whole)
    second = world.predict(photos, out)
    assert (second.judged, second.errors, second.known) == (2, 0, 12)
    assert world.calls == 22 + 3, "the description that was paid for was bought again"
    assert (second.ledger.total.calls, second.earlier.total.calls, second.spent.total.calls) == (3, 22, 25)
    assert out.read_bytes() != before
    out.unlink()
    third = world.predict(photos, out)
    assert (third.judged, third.labels, world.calls) == (0, second.labels, 25)
    assert [row["label"] for row in read(out)] == ["Safe"] * 7 + ["Unsafe"] * 5


@pytest.mark.slow
def test_a_cap_ends_a_session_and_the_next_one_goes_on(photos: Path, tmp_path: Path) -> None:
    """Never more calls than the cap; the table is written once it is whole, and is the same as without a cap."""
    world, out = World(), tmp_path / "o.jsonl"
    sessions = 0
    while not (done := world.predict(photos, out, max_calls=7)).complete:
        sessions += 1
        assert not out.exists()
        assert done.ledger.total.calls == 7
        assert sessions < 10
    assert (sessions, world.calls) == (3, 24)
    World().predict(photos, tmp_path / "whole.jsonl")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_table_may_be_written_as_far_as_a_cap_allows(photos: Path, tmp_path: Path) -> None:
    """Rows that were not judged are empty but for the columns of the source; the next call fills them."""
    world, out = World(), tmp_path / "o.jsonl"
    done = world.predict(photos, out, max_calls=7, num_threads=1, partial_table=True)
    assert (done.complete, done.known) == (False, 3)
    rows = read(out)
    assert [row["image"] for row in rows] == [f"{i:02}.png" for i in range(12)]
    assert [row["label"] is None and row["invalid"] is None for row in rows] == [False] * 3 + [True] * 9
    assert world.predict(photos, out, partial_table=True).complete
    World().predict(photos, tmp_path / "whole.jsonl")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_cap_in_dollars_ends_a_session_and_one_that_cannot_be_kept_says_why(photos: Path, tmp_path: Path) -> None:
    """At most what was under way is above it; without a price nothing is called."""
    priced = completion("[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]")
    with ScriptedServer(lambda body: (200, {**priced, "model": body["model"]}, {})) as server:
        judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
        for name, known in (("openai/gpt-4o-mini", True), ("openai/x", False)):
            lm = dspy.LM(name, api_base=server.url, api_key="EMPTY", cache=False)
            options: dict[str, Any] = {"models": Models(lm, lm, lm), "out": tmp_path / f"{known}.csv", "num_threads": 2}
            if known:
                price = shared(predict, judge, photos, max_calls=1, **options).ledger.total.usd
                assert price > 0
                done = shared(predict, judge, photos, max_usd=5.5 * price, **options)
                assert (done.complete, done.ledger.total.calls) == (False, 5)
            else:
                asked = len(server.bodies)
                with pytest.raises(BlpoError, match="max_usd=5 can't be kept, as the price of openai/x is not known"):
                    shared(predict, judge, photos, max_usd=5, **options)
                assert len(server.bodies) == asked
                done = shared(predict, judge, photos, max_usd=5, prices={"openai/x": (0.1, 0.1)}, **options)
                assert repr(done) == "Progress(12 of 12 rows; Safe: 12, Unsafe: 0; 0 invalid, 0 errors; 12 calls)"


@pytest.mark.parametrize(
    "change",
    [
        {"instruction": "Judge otherwise."},
        {"verbalizer_instruction": "Say what you see."},
        {"evidence": "description"},
        {"labels": LabelSpace("Unsafe", "Safe")},
        {"reasoning": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_judge_is_refused(change: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    """By name of what differs, before any call."""
    out = tmp_path / "o.csv"
    World().predict(photos, out)
    other = World(**change)
    with pytest.raises(BlpoError, match=r"another run, which differs in judge\."):
        other.predict(photos, out)
    assert other.calls == 0


def test_new_and_replaced_images_alone_are_judged_and_gone_ones_are_left_out(photos: Path, tmp_path: Path) -> None:
    """A verdict stays with its picture when the file gets another name; a copy costs nothing."""
    world, out = World(), tmp_path / "o.jsonl"
    world.predict(photos, out)
    (photos / "00.png").unlink()
    (photos / "01.png").rename(photos / "99.png")
    (photos / "02.png").write_bytes(png(255))
    (photos / "03 copy.png").write_bytes(png(60))
    (photos / "12.png").write_bytes(png(30))
    before = world.calls
    done = world.predict(photos, out)
    assert (done.total, done.judged, done.gone, world.calls - before) == (13, 2, 2, 4)
    found = {row["image"]: row["description"] for row in read(out)}
    assert "00.png" not in found
    assert [found[name] for name in ("99.png", "02.png", "03.png", "03 copy.png", "12.png")] == [
        "=grey 20", "=grey 255", "=grey 60", "=grey 60", "=grey 30",
    ]  # fmt: skip
    assert sum(done.labels.values()) == 13


def test_files_that_stay_as_they_were_are_recognised_without_reading_them(photos: Path, tmp_path: Path) -> None:
    """The table has the same bytes as before; without what is known of the files they are read again."""
    for path in photos.iterdir():
        os.utime(path, (1e9, 1e9))
    world, out = World(evidence="image"), tmp_path / "o.parquet"
    world.predict(photos, out)
    table, calls = out.read_bytes(), world.calls

    def known(*write: Any) -> list[Any]:
        with contextlib.closing(sqlite3.connect(kept_in(out), isolation_level=None)) as store:
            if write:
                store.execute(*write)
            return store.execute("SELECT * FROM files").fetchall()

    before = known()
    assert known("DELETE FROM files") == []
    assert (world.predict(photos, out).judged, out.read_bytes(), known()) == (0, table, before)
    path, last = (str(photos / name) for name in ("00.png", "11.png"))
    files = dict(before)
    known("UPDATE files SET state = ? WHERE path = ?", (files[last][:64] + files[path][64:], path))
    assert world.predict(photos, out).judged == 0
    labels = parquet.read_table(out).column("label").to_pylist()
    assert (labels[0], labels[-1]) == ("Unsafe", "Unsafe")  # of what it is said to hold
    os.utime(path, (1e9 + 1, 1e9 + 1))
    assert (world.predict(photos, out).judged, out.read_bytes(), world.calls) == (0, table, calls)


def test_a_replaced_image_of_the_same_size_and_time_is_judged_as_it_is_now(photos: Path, tmp_path: Path) -> None:
    """Its own time or its inode differ; one that was modified just before it was read is read in any case."""
    world, out = World(evidence="image"), tmp_path / "o.jsonl"
    for number, then in ((3, 1e9), (4, time.time())):
        pixels = Image.new("RGB", (8, 8), (number, 10, 10))
        pixels.save(photos / f"{number:02}.png", compress_level=0)
        os.utime(photos / f"{number:02}.png", (then, then))
    world.predict(photos, out)
    for name in ("03.png", "04.png"):
        before = (photos / name).stat()
        Image.new("RGB", (8, 8), (200, 10, 10)).save(photos / name, compress_level=0)
        os.utime(photos / name, ns=(before.st_atime_ns, before.st_mtime_ns))
        now = (photos / name).stat()
        assert (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert world.predict(photos, out).judged == 2
    assert [read(out)[number]["label"] for number in (3, 4)] == ["Unsafe", "Unsafe"]


@pytest.mark.parametrize("then", [time.time(), 1e9], ids=["new file", "old file"])
def test_an_image_that_changes_before_its_turn_gets_no_verdict(then: float, photos: Path, tmp_path: Path) -> None:
    """And costs nothing; the same call judges it as it is by then. Its time of modification may stay as it was."""
    os.utime(photos / "05.png", (then, then))

    def change(progress: Progress) -> None:
        if not progress.known:
            (photos / "05.png").write_bytes(png(250))
            os.utime(photos / "05.png", (then, then))

    world, out = World(evidence="image"), tmp_path / "o.jsonl"
    first = world.predict(photos, out, on_progress=change)
    assert (first.errors, first.complete, world.calls) == (1, True, 11)
    assert "was changed after the run began" in read(out)[5]["error"]
    second = world.predict(photos, out)
    assert (second.errors, second.judged, read(out)[5]["label"]) == (0, 1, "Unsafe")


def test_a_copy_stands_in_for_an_image_that_is_removed_before_its_turn(photos: Path, tmp_path: Path) -> None:
    """A verdict belongs to both; an image without a copy has an error."""
    (photos / "99.png").write_bytes((photos / "05.png").read_bytes())

    def remove(progress: Progress) -> None:
        if not progress.known:
            (photos / "05.png").unlink()
            (photos / "06.png").unlink()

    world, out = World(evidence="image"), tmp_path / "o.jsonl"
    done = world.predict(photos, out, on_progress=remove)
    rows = {row["image"]: (row["label"], bool(row["error"])) for row in read(out)}
    assert [rows[f"{name}.png"] for name in ("05", "06", "99")] == [("Safe", False), (None, True), ("Safe", False)]
    assert (done.judged, done.errors, world.calls) == (13, 1, 11)


@pytest.mark.parametrize("option", [{"frequency_penalty": 0.9}, {"top_p": 0.1}, {"extra_body": {"top_k": 1}}])
def test_a_model_with_another_option_is_another_model(option: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    """Whichever it is, as answers may depend on it."""
    world, out = World(evidence="image"), tmp_path / "o.csv"
    world.predict(photos, out)
    lm = world.lm.copy(**option)
    with pytest.raises(BlpoError, match=rf"models.judge.{next(iter(option))}"):
        shared(predict, world.judge, photos, out=out, models=Models(lm, lm, lm))


def test_the_column_of_the_images_may_get_another_name(photos: Path, tmp_path: Path) -> None:
    """No verdict depends on it, nor on whether a context text comes from a column."""
    (photos / "t.csv").write_text("image,prompt\n03.png,a\n")
    (photos / "u.csv").write_text("file\n03.png\n")
    world, out = World(context=["prompt"]), tmp_path / "o.csv"
    world.predict(photos / "t.csv", out)
    before = world.calls
    done = world.predict(photos / "u.csv", out, image_column="file", texts={"prompt": "a"})
    assert (done.known, world.calls) == (1, before)


def test_another_model_and_other_images_altogether_are_refused(photos: Path, tmp_path: Path) -> None:
    """And a table that no run left."""
    out, world = tmp_path / "o.csv", World()
    world.predict(photos, out)
    lm = scripted_lm(by_brightness, "scripted/other")
    with pytest.raises(BlpoError, match=r"models.judge.model: 'scripted/test' there, 'scripted/other' now"):
        shared(predict, world.judge, photos, out=out, models=Models(lm, world.lm, lm))
    (tmp_path / "13.png").write_bytes(png(7))
    with pytest.raises(BlpoError, match=r"store of other images .*: of the 12 that it knows, none is in"):
        world.predict([tmp_path / "13.png"], out)
    kept_in(out).unlink()
    with pytest.raises(BlpoError, match=r"there is such a file already.*name another output, or remove it"):
        world.predict(photos, out)


def test_a_model_that_cannot_be_used_ends_it_and_what_is_done_stays(photos: Path, tmp_path: Path) -> None:
    """A key that is refused in the middle; with another key the rest is paid for."""
    broken = threading.Event()

    def script(seen: Seen) -> Any:
        if grey(seen) >= 120 and not broken.is_set():
            return lm15.BillingError("no credit")
        return "Safe"

    world, out = World(script, evidence="image"), tmp_path / "o.csv"
    with pytest.raises(ModelError, match="no credit"):
        world.predict(photos, out, num_threads=1)
    assert not out.exists()
    paid = world.calls
    broken.set()
    done = world.predict(photos, out)
    assert world.calls - paid == 12 - 6
    assert done.complete


@pytest.mark.slow
def test_a_server_that_falls_silent_ends_it(photos: Path, tmp_path: Path) -> None:
    """After some failures in a row, not after one for each image."""
    for number in range(12, 60):
        (photos / f"{number}.png").write_bytes(png(4 * number))

    def script(seen: Seen) -> Any:
        return "Safe" if grey(seen) <= 100 and len(world.lm.engine.seen) < 9 else lm15.ServerError("down")

    world = World(script, evidence="image")
    with pytest.raises(ModelError, match=r"in a row: .*down"):
        world.predict(photos, tmp_path / "o.csv")
    assert world.calls < 40


def test_the_models_are_the_judges_own_or_those_of_dspy(photos: Path, tmp_path: Path) -> None:
    """Without any it says so."""
    world = World(answers())
    with dspy.context(lm=world.lm):
        assert predict(world.judge, photos, out=tmp_path / "a.csv").labels["Safe"] == 12
    with dspy.context(lm=None), pytest.raises(ModelError, match="the judge has no model"):
        predict(world.judge, photos, out=tmp_path / "b.csv")
    world.judge.set_lm(world.lm)
    assert predict(world.judge, [photos / "00.png"], out=tmp_path / "b.csv").complete


@pytest.mark.parametrize(
    "source",
    [
        png(40),
        [png(40), png(250)],
        Image.new("L", (8, 8), 40),
        [Image.new("RGB", (8, 8), (40,) * 3), np.full((8, 8), 250, np.uint8)],
        [{"image": png(40), "note": "x"}, {"image": np.full((8, 8, 3), 250, np.uint8), "note": "y"}],
        pd.DataFrame({"image": [png(40), png(250)], "note": ["x", "y"]}),
        datasets.Dataset.from_dict({"image": [png(40), png(250)], "note": ["x", "y"]}),
        datasets.Dataset.from_dict({"image": [Image.new("L", (8, 8), 40)], "note": ["x"]}).cast_column(
            "image", datasets.Image()
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_images_and_tables_in_memory_are_judged_by_their_number(source: Any, suffix: str, tmp_path: Path) -> None:
    """Bytes, pictures, arrays, and rows of them; other columns are kept, images are not."""
    world, out = World(evidence="image"), tmp_path / f"o{suffix}"
    done = world.predict(source, out)
    rows = read(out)
    assert [row["label"] for row in rows] == ["Safe", "Unsafe"][: done.total]
    assert [row["image"].partition(" ")[2] for row in rows] == ["1", "2"][: done.total]
    assert [row.get("note", "x") for row in rows][:1] == ["x"]
    assert world.predict(source, out).judged == 0


def test_what_is_no_image_in_memory_has_an_error_of_its_own(tmp_path: Path) -> None:
    """A number, an array of another shape: each row says why, and the others are judged."""
    world, out = World(evidence="image"), tmp_path / "o.csv"
    done = world.predict([png(40), 5, np.zeros((3, 8, 8), np.uint8)], out)
    rows = read(out)
    assert (rows[0]["label"], done.errors, world.calls) == ("Safe", 2, 1)
    assert "a int is not an image" in rows[1]["error"]
    assert "an array of shape (3, 8, 8)" in rows[2]["error"]


def test_progress_counts_every_row_once(photos: Path, tmp_path: Path) -> None:
    """In order, from what is known before the first call."""
    (photos / "05.png").write_bytes(b"")
    reported: list[Progress] = []
    begun: list[int] = []
    World().predict(photos, tmp_path / "o.csv", on_read=begun.append, on_progress=reported.append)
    assert begun == list(range(1, 13))
    assert [progress.known for progress in reported] == list(range(13))
    assert [sum(p.labels.values()) + p.invalid + p.errors for p in reported] == list(range(13))
    assert (reported[-1].errors, reported[0].note) == (1, "")


def test_rows_that_cannot_be_used_are_noted_before_the_first_call(photos: Path, tmp_path: Path) -> None:
    """How many, and the first of them: where it is, and why."""
    (photos / "t.csv").write_text("image\n00.png\n../00.png\nnowhere.png\n''\n")
    reported: list[Progress] = []
    done = World(evidence="image").predict(photos / "t.csv", tmp_path / "o.csv", on_progress=reported.append)
    said = "3 of 4 rows cannot be used and will have an error; the first is t.csv:3: ../00.png: leaves the folder"
    assert (done.errors, reported[0].note.startswith(said)) == (3, True)
    (photos / "t.csv").write_text("image\n00.png\nnowhere.png\n")
    noted = World(evidence="image").predict(photos / "t.csv", tmp_path / "o.csv").note
    assert noted == "1 of 2 rows cannot be used and will have an error; the first is t.csv:3: nowhere.png: no such file"


def test_rows_of_two_images_are_judged_together(photos: Path, tmp_path: Path) -> None:
    """Equal pairs once, swapped ones on their own; a missing image costs its row alone; names stay in the table."""
    table = photos / "t.csv"
    table.write_text("right,left\n01.png,00.png\n00.png,01.png\n01.png,00.png\ngone.png,00.png\n")
    world, out = World(evidence="image", images=["left", "right"]), tmp_path / "o.csv"
    done = world.predict(table, out)
    rows = read(out)
    assert [(row["left"], row["right"], row["label"]) for row in rows] == [
        ("00.png", "01.png", "Safe"), ("01.png", "00.png", "Safe"), ("00.png", "01.png", "Safe"),
        ("00.png", "gone.png", ""),
    ]  # fmt: skip
    assert "gone.png" in rows[3]["error"]
    assert (world.calls, done.judged, done.errors) == (2, 3, 1)
    assert {len(seen.images) for seen in world.lm.engine.seen} == {2}


def test_a_folder_or_single_images_cannot_fill_several_inputs(photos: Path, tmp_path: Path) -> None:
    """Nobody knows which of them belong together."""
    world = World(images=["left", "right"])
    for source in (photos, [photos / "00.png", photos / "01.png"]):
        with pytest.raises(BlpoError, match="takes left, right: name a table with such columns"):
            world.predict(source, tmp_path / "o.csv")
    assert world.calls == 0


def test_two_columns_of_a_parquet_file_may_hold_images(photos: Path, tmp_path: Path) -> None:
    """They are read lazily, and not written."""
    import pyarrow

    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in sorted(photos.iterdir())]
    views = [[png(250), png(n)] for n in range(12)]
    parquet.write_table(pyarrow.table({"left": cells, "views": views}), tmp_path / "t.parquet")
    world, out = World(evidence="image", images=["left", "views: list[dspy.Image]"]), tmp_path / "o.parquet"
    done = world.predict(tmp_path / "t.parquet", out)
    assert (done.judged, world.calls) == (12, 12)
    assert {len(seen.images) for seen in world.lm.engine.seen} == {3}
    assert all(len(str(row["views"])) < 200 for row in read(out))


def darker(seen: Seen) -> Any:
    """Prefers the darker image, and of two nearly alike the first."""
    first, second = (Image.open(io.BytesIO(base64.b64decode(image))).getpixel((0, 0))[0] for image in seen.images)
    return {"label": "B" if second < first - 30 else "A"}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_pairs_are_judged_in_both_orders_into_a_table(suffix: str, photos: Path, tmp_path: Path) -> None:
    """With whether the label changes with the order; the same call resumes, and another choice of orders is refused."""
    table = tmp_path / "photos" / "t.csv"
    table.write_text("left,right,model_a,model_b\n00.png,11.png,x,y\n11.png,01.png,x,y\n03.png,04.png,x,y\n")
    world = World(darker, LabelSpace.pairwise("A", "B"), images=("left", "right"), evidence="image")
    out = tmp_path / f"o{suffix}"
    done = world.predict(table, out)
    assert (world.calls, done.invalid, done.errors, done.flips) == (6, 0, 0, Flips(3, 1))
    rows = read(out)
    assert [row["label"] or None for row in rows] == ["A", "B", None]
    assert [str(row["inconsistent"]) for row in rows] == ["False", "False", "True"]
    assert [str(row["invalid"]) for row in rows] == ["False"] * 3
    assert rows[2]["answer"] == "A / in the other order: A"
    again = world.predict(table, out)
    assert (world.calls, again.flips) == (6, Flips(3, 1))
    with pytest.raises(BlpoError, match="orders"):
        world.predict(table, out, orders="one")
    one = world.predict(table, tmp_path / f"one{suffix}", orders="one")
    assert (world.calls, one.flips, one.labels) == (6, None, {"A": 2, "B": 1})  # outputs of a folder share answers
    assert "inconsistent" not in read(tmp_path / f"one{suffix}")[0]


# How sure it is, and what is escalated


def by_seed(seen: Seen) -> Any:
    """Is of two minds about bright pictures, by the rollout."""
    odd = (seen.request.config.seed or 0) % 2 == 1
    return {"label": "Unsafe" if grey(seen) > 128 and odd else "Safe"}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_a_confidence_is_a_column_and_its_method_is_recorded(suffix: str, photos: Path, tmp_path: Path) -> None:
    """In the metadata of Parquet; each vote is paid for once."""
    world, out = World(by_seed, evidence="image"), tmp_path / f"o{suffix}"
    done = world.predict(photos, out, confidence="votes")
    rows = read(out)
    assert list(rows[0]) == ["image", "label", "answer", "invalid", "error", "confidence"]
    assert [float(row["confidence"]) for row in rows] == [1.0] * 7 + [0.6] * 5
    assert (world.calls, done.ledger["judge"].calls, done.escalated) == (60, 60, None)
    method = {"method": "votes", "votes": 5, "temperature": 1.0}
    if suffix == ".parquet":
        assert json.loads(parquet.read_schema(out).metadata[b"blpo_confidence"]) == [method]
    out.unlink()
    world.predict(photos, out, confidence="votes")
    assert (world.calls, read(out)) == (60, rows)


def test_votes_that_were_paid_for_are_taken_up_after_a_stop(photos: Path, tmp_path: Path) -> None:
    """In the middle of an image, too: no rollout is asked twice."""
    world, out = World(by_seed, evidence="image"), tmp_path / "o.csv"
    first = world.predict(photos, out, confidence="votes", max_calls=13, num_threads=1)
    assert (first.complete, world.calls) == (False, 13)
    assert world.predict(photos, out, confidence="votes").complete
    assert world.calls == 60


def test_a_calibrated_judge_escalates_to_a_table_for_people(photos: Path, tmp_path: Path) -> None:
    """With the columns of the source, the judge's label, and an empty one to fill in."""
    (photos / "t.csv").write_text("id,image\n1,03.png\n2,11.png\n3,10.png\n")
    world, out, people = World(by_seed, evidence="image"), tmp_path / "o.csv", tmp_path / "people.csv"
    world.judge = world.judge.confident("votes").calibrated(0.8)
    done = world.predict(photos / "t.csv", out, escalated=people)
    assert [(row["id"], row["confidence"], row["escalate"]) for row in read(out)] == [
        ("1", "1.0", "False"), ("2", "0.6", "True"), ("3", "0.6", "True"),
    ]  # fmt: skip
    assert read(people) == [
        {"id": "2", "image": "11.png", "judge_label": "Unsafe", "confidence": "0.6", "label": ""},
        {"id": "3", "image": "10.png", "judge_label": "Unsafe", "confidence": "0.6", "label": ""},
    ]
    assert done.escalated == 2
    again = world.predict(photos / "t.csv", out, escalated=people)
    assert (again.escalated, world.calls) == (2, 15)


def test_a_cascade_asks_its_second_judge_about_what_is_escalated(photos: Path, tmp_path: Path) -> None:
    """Each on its own models, in one table."""
    world, out = World(by_seed, evidence="image"), tmp_path / "o.jsonl"
    strong = scripted_lm(lambda seen: {"label": "Unsafe"}, name="scripted/strong", num_retries=0)
    stage = world.judge.confident("votes")
    cascade = Cascade([stage.calibrated(0.8), world.judge])
    models = [world.models, Models(strong, strong, strong)]
    done = shared(predict, cascade, photos, out=out, models=models, num_threads=2)
    assert [(row["label"], row["confidence"]) for row in read(out)] == [("Safe", 1.0)] * 7 + [("Unsafe", None)] * 5
    assert (world.calls, len(strong.engine.seen), done.escalated) == (60, 5, None)
    with pytest.raises(BlpoError, match="another run"):
        shared(predict, cascade, photos, out=out, models=world.models)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": "stated"}, "confidence 'stated' is unknown"),
        ({"escalated": "people.csv"}, r"people\.csv would be empty, as the judge escalates nothing to people"),
        ({"escalated": "people.png"}, r"people\.png: its name should end in"),
    ],
)
def test_a_bad_confidence_or_escalation_is_refused(options: Any, message: str, photos: Path, tmp_path: Path) -> None:
    """Before any call; nothing is written."""
    world = World(evidence="image")
    options = {name: str(tmp_path / value) if name == "escalated" else value for name, value in options.items()}
    with pytest.raises(BlpoError, match=message):
        world.predict(photos, tmp_path / "o.csv", **options)
    judge = world.judge.confident("votes").calibrated(0.8)
    (tmp_path / "there.csv").write_text("")
    for taken, said in ((tmp_path / "o.csv", "all verdicts go there"), (tmp_path / "there.csv", "such a file already")):
        with pytest.raises(BlpoError, match=said):
            shared(predict, judge, photos, out=tmp_path / "o.csv", models=world.models, escalated=taken)
    with pytest.raises(BlpoError, match="isn't calibrated"):
        shared(predict, Cascade([world.judge, world.judge]), photos, out=tmp_path / "o.csv", models=world.models)
    assert (world.calls, sorted(path.name for path in tmp_path.iterdir())) == (0, ["photos", "there.csv"])
