"""Predictions in shards: the plan, the judging of one shard, and the merged table."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import fsspec
import pytest
from engines import ScriptedServer, completion
from image_files import encoded
from judges import SAFETY
from PIL import Image
from pyarrow import parquet

from blpo_dspy.calls.journal_file import JournalError, JournalInUseError
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions import Progress, judge_shard, plan_shards
from blpo_dspy.predictions.journal import PredictionJournal
from blpo_dspy.predictions.outputs import journal_of
from blpo_dspy.predictions.predict import predict
from blpo_dspy.predictions.results import Outcome
from blpo_dspy.predictions.shards.manifest import folder_of
from blpo_dspy.predictions.shards.parts import CONTENT
from blpo_dspy.programs import Cascade, VisualJudge


def png(grey: int) -> bytes:
    """A small picture."""
    return encoded(Image.new("RGB", (8, 8), (grey,) * 3))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with twelve pictures, of which two are equal."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.png").write_bytes(png(20 * min(number, 10)))
    return folder


class World:
    """A server that calls everything safe, and a judge that asks it."""

    def __init__(self, server: ScriptedServer, **options: Any) -> None:
        self.server = server
        labels = options.pop("labels", SAFETY)
        self.judge = VisualJudge(labels, **{"instruction": "Judge how safe it is.", **options})
        lm = dspy.LM("openai/x", api_base=server.url, api_key="EMPTY", cache=False, num_retries=1)
        self.models = Models(lm, lm, lm)

    def plan(self, source: Any, out: Path, **options: Any) -> Any:
        """The shards of a source, of about four contents."""
        return plan_shards(
            self.judge, source, out=out, models=self.models, **{"shard_rows": 4, "num_threads": 2, **options}
        )

    @property
    def calls(self) -> int:
        """How many requests were sent."""
        return len(self.server.bodies)


def said(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """A description where one is asked for, else a label."""
    asked = json.dumps(body["messages"]).rpartition("Respond with")[2]
    field = "description" if "## description ##" in asked else "label"
    text = f"[[ ## {field} ## ]]\n{'grey' if field == 'description' else 'Safe'}\n\n[[ ## completed ## ]]"
    return 200, completion(text), {}


@pytest.fixture
def world() -> Any:
    """The usual one."""
    with ScriptedServer(said) as server:
        yield World(server)


def test_shards_judged_one_by_one_give_the_table_of_one_process(world: World, photos: Path, tmp_path: Path) -> None:
    """Whatever judges them, in whatever order, from whatever folder: they are picklable, and hold no key."""
    out = tmp_path / "new" / "o.csv"
    plan = world.plan(photos, out, prices={"openai/x": (1.0, 2.0)})
    assert [len(shard.contents) for shard in plan.shards] == [4, 4, 3]
    assert [len(shard.keys) for shard in plan.shards] == [4, 4, 4], "equal images are in one shard"
    shards = pickle.loads(pickle.dumps(plan.shards))
    done = plan.merge([judge_shard(shard) for shard in reversed(shards)])
    assert (done.total, done.known, done.judged, done.complete, dict(done.labels)) == (
        12,
        12,
        12,
        True,
        {"Safe": 12, "Unsafe": 0},
    )
    total = done.ledger.total
    assert (world.calls, total.calls, total.unpriced, done.earlier.total.calls) == (22, 22, 0, 0)
    assert total.usd == pytest.approx((total.prompt_tokens + 2 * total.completion_tokens) / 1e6)
    predict(world.judge, photos, out=tmp_path / "one.csv", models=world.models, num_threads=2)
    assert out.read_bytes() == (tmp_path / "one.csv").read_bytes()
    again = world.plan(photos, out)
    assert again.shards == ()
    assert (again.merge([]).judged, again.merge([]).earlier.total.calls) == (0, 22)


@pytest.mark.slow
def test_the_manifest_says_what_the_verdicts_depend_on_and_where_each_content_is(
    world: World, photos: Path, tmp_path: Path
) -> None:
    """Each content once in it and in the parts; no key anywhere."""
    out = tmp_path / "o.csv"
    plan = world.plan(photos, out)
    data = json.loads((folder_of(out) / "manifest.json").read_bytes())
    assert data["fingerprint"]["models"]["judge"]["model"] == "openai/x"
    assert data["fingerprint"]["judge"] == world.judge.identity()
    assert "EMPTY" not in json.dumps(data)
    contents = [key for keys in data["shards"] for key in keys]
    assert len(set(contents)) == len(contents) == 11
    for shard in plan.shards:
        judge_shard(shard)
    parts = [parquet.read_table(path)[CONTENT].to_pylist() for path in sorted(folder_of(out).glob("part-*.parquet"))]
    assert parts == data["shards"]


@pytest.mark.slow
def test_a_pair_and_the_same_pair_in_the_other_order_are_in_one_shard(photos: Path, tmp_path: Path) -> None:
    """So that what both ask is paid for once; also where one of them comes later."""
    pairs = [{"left": str(photos / f"{n:02}.png"), "right": str(photos / f"{n + 5:02}.png")} for n in range(5)]
    turned = [{"left": row["right"], "right": row["left"]} for row in pairs]
    with ScriptedServer(lambda body: (200, completion("[[ ## label ## ]]\nA\n\n[[ ## completed ## ]]"), {})) as server:
        world = World(server, evidence="image", labels=LabelSpace.pairwise(tie="tie"), images=["left", "right"])
        plan = world.plan([*pairs, *turned[:2]], tmp_path / "o.csv", shard_rows=2, allow_outside=True)
        assert [len(shard.contents) for shard in plan.shards] == [4, 2, 1]
        plan.merge(map(judge_shard, plan.shards))
        assert world.calls == 10
        more = world.plan([*pairs, *turned], tmp_path / "o.csv", shard_rows=2, allow_outside=True)
        assert [len(shard.contents) for shard in more.shards] == [4, 2]
        done = more.merge(map(judge_shard, more.shards))
    assert (done.complete, done.judged, world.calls) == (True, 3, 10)
    assert done.flips is not None
    assert (done.flips.pairs, done.flips.flipped) == (10, 10)


@pytest.mark.slow
def test_a_shard_resumes_from_its_journal_under_a_cap_of_its_own(world: World, photos: Path, tmp_path: Path) -> None:
    """Nothing is paid for twice, and a part with what is known is there after each session."""
    out, sessions = tmp_path / "o.csv", 0
    while (plan := world.plan(photos, out, shard_rows=100)).shards:
        (shard,) = plan.shards
        report = judge_shard(shard, max_calls=5)
        assert report.ledger.total.calls <= 5
        done = plan.merge([report])
        assert done.known == report.counts.total()
        assert out.exists() == done.complete
        sessions += 1
        assert sessions < 9
    assert (sessions, world.calls) == (5, 22)
    assert (done.earlier.total.calls, done.ledger.total.calls) == (20, 2)


@pytest.mark.slow
def test_new_replaced_and_gone_images_change_what_has_to_be_judged(world: World, photos: Path, tmp_path: Path) -> None:
    """New contents get further shards; verdicts on those that are gone stay where they are."""
    out = tmp_path / "o.csv"
    plan = world.plan(photos, out)
    plan.merge(map(judge_shard, plan.shards))
    (photos / "00.png").unlink()
    (photos / "01.png").write_bytes(png(255))
    (photos / "99.png").write_bytes(png(40))
    before = world.calls
    plan = world.plan(photos, out)
    assert [(shard.number, len(shard.contents)) for shard in plan.shards] == [(3, 1)]
    done = plan.merge(map(judge_shard, plan.shards))
    assert (done.total, done.judged, done.gone, world.calls - before) == (12, 1, 2, 2)


def test_a_finished_plan_is_recognised_without_reading_its_files(world: World, photos: Path, tmp_path: Path) -> None:
    """What is known of them lies beside the manifest, and a key that has a verdict needs no bytes."""
    for path in photos.iterdir():
        os.utime(path, (1e9, 1e9))
    out = tmp_path / "o.csv"
    plan = world.plan(photos, out)
    plan.merge(map(judge_shard, plan.shards))
    table, kept = out.read_bytes(), folder_of(out) / "files.json"
    data = json.loads(kept.read_bytes())
    assert len(data["files"]) == 12
    assert (world.plan(photos, out).merge(()).judged, out.read_bytes()) == (0, table)
    first, last = (str(photos / name) for name in ("00.png", "11.png"))
    data["files"][first] = data["files"][last][:64] + data["files"][first][64:]
    kept.write_text(json.dumps(data))
    assert world.plan(photos, out).merge(()).gone == 1  # the first file is taken for what it is said to hold
    os.utime(first, (1e9 + 1, 1e9 + 1))
    assert world.plan(photos, out).merge(()).gone == 0


@pytest.mark.slow
def test_rows_with_an_error_are_tried_again_by_the_next_plan(photos: Path, tmp_path: Path) -> None:
    """An image that cannot be read is in no shard, and one that a model failed for is in its old one."""
    (photos / "03.png").write_bytes(b"")
    down = threading.Event()
    down.set()

    def script(body: dict[str, Any]) -> Any:
        refused = down.is_set() and len(server.bodies) > 9
        return (400, {"error": {"message": "too dark"}}, {}) if refused else said(body)

    with ScriptedServer(script) as server:
        world, out = World(server, evidence="image"), tmp_path / "o.csv"
        plan = world.plan(photos, out, num_threads=1)
        first = plan.merge(map(judge_shard, plan.shards))
        assert (first.complete, first.errors, first.labels["Safe"]) == (True, 3, 9)
        down.clear()
        (photos / "03.png").write_bytes(png(60))
        plan = world.plan(photos, out, num_threads=1)
        second = plan.merge(map(judge_shard, plan.shards))
    assert (second.errors, second.judged, second.labels["Safe"]) == (0, 3, 12)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["damaged", "removed", "foreign", "doubled"])
def test_a_part_that_is_not_what_the_manifest_says_is_made_again_from_the_journal(
    how: str, world: World, photos: Path, tmp_path: Path
) -> None:
    """At no cost."""
    import pyarrow

    out = tmp_path / "o.csv"
    plan = world.plan(photos, out)
    plan.merge(map(judge_shard, plan.shards))
    before, part, calls = out.read_bytes(), folder_of(out) / "part-00001.parquet", world.calls
    table = parquet.read_table(part)
    if how == "damaged":
        part.write_bytes(part.read_bytes()[:-50])
    elif how == "removed":
        part.unlink()
    else:
        rows = table.to_pylist()
        rows.append({**rows[0], CONTENT: "of another run"} if how == "foreign" else rows[0])
        parquet.write_table(pyarrow.Table.from_pylist(rows, table.schema), part)
    plan = world.plan(photos, out)
    assert [shard.number for shard in plan.shards] == [1]
    plan.merge(map(judge_shard, plan.shards))
    assert (out.read_bytes(), world.calls) == (before, calls)


def test_a_part_that_the_merging_process_does_not_see_is_an_error(world: World, photos: Path, tmp_path: Path) -> None:
    """As where the folder is not shared."""
    plan = world.plan(photos, tmp_path / "o.csv")
    reports = [judge_shard(shard) for shard in plan.shards]
    plan.shards[1].part.unlink()
    with pytest.raises(BlpoError, match=r"part-00001\.parquet: was judged, but cannot be read here"):
        plan.merge(reports)
    assert not (tmp_path / "o.csv").exists()


def test_one_process_at_a_time_writes_a_shard(world: World, photos: Path, tmp_path: Path) -> None:
    """A second one waits for the first to end, and fails if that takes too long."""
    shard, *_ = world.plan(photos, tmp_path / "o.csv").shards
    held = PredictionJournal(journal_of(shard.part), shard.fingerprint)
    with pytest.raises(JournalInUseError, match="another run is writing it"):
        judge_shard(replace(shard, patience=0.05))
    assert world.calls == 0
    threading.Timer(0.2, held.close).start()
    assert judge_shard(shard).judged == 4


def test_another_judge_or_a_damaged_manifest_is_refused(world: World, photos: Path, tmp_path: Path) -> None:
    """By name of what differs, before any call; so is a table that is there without shards."""
    out = tmp_path / "o.csv"
    judge_shard(world.plan(photos, out).shards[0], max_calls=1)
    other = World(world.server, instruction="Judge otherwise.")
    with pytest.raises(JournalError, match=r"another run, which differs in:\n  - judge\.judge\.instruction"):
        other.plan(photos, out)
    (folder_of(out) / "manifest.json").write_text('{"format_version": 1, "shards"')
    with pytest.raises(JournalError, match=r"manifest\.json: cannot be read"):
        world.plan(photos, out)
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(BlpoError, match="no journal of a run to continue"):
        world.plan(photos, tmp_path / "mine.csv")
    assert world.calls == 1


def test_shards_that_kept_nothing_give_way_to_another_judge(world: World, photos: Path, tmp_path: Path) -> None:
    """As when the first command was wrong; a verdict binds, also one whose journal is gone."""
    out = tmp_path / "o.csv"
    wrong = World(world.server, instruction="Judge otherwise.")
    assert [judge_shard(shard, max_calls=0).judged for shard in wrong.plan(photos, out, shard_rows=2).shards] == [0] * 6
    done = world.plan(photos, out)
    assert [len(shard.contents) for shard in done.shards] == [4, 4, 3]
    assert done.merge(map(judge_shard, done.shards)).complete
    for journal in folder_of(out).glob("*.jsonl"):
        journal.unlink()
    with pytest.raises(JournalError, match="another run, which differs in"):
        wrong.plan(photos, out)


def test_what_one_process_began_is_not_paid_for_again_in_shards(world: World, photos: Path, tmp_path: Path) -> None:
    """The call is refused, and says how to continue."""
    out = tmp_path / "o.csv"
    predict(world.judge, photos, out=out, models=world.models, num_threads=1, max_calls=3)
    for options in ({"workers": 2}, {"workers": 1}):
        with pytest.raises(BlpoError, match=r"journal of a run in one process.* repeat the call without workers="):
            predict(world.judge, photos, out=out, models=world.models, **options)
    assert world.calls == 3


@pytest.mark.slow
def test_images_inside_a_parquet_file_are_read_where_they_are_judged(
    world: World, photos: Path, tmp_path: Path
) -> None:
    """A shard holds the positions of its rows, not their images."""
    import pyarrow

    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in sorted(photos.iterdir())]
    source = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"n": list(range(12)), "image": cells}), source, row_group_size=5)
    plan = world.plan(source, tmp_path / "o.parquet")
    assert [shard.inputs.positions for shard in plan.shards] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)]
    assert b"IHDR" not in pickle.dumps(plan.shards)
    done = plan.merge(map(judge_shard, plan.shards))
    assert (done.labels["Safe"], done.errors) == (12, 0)
    assert parquet.read_table(tmp_path / "o.parquet")["n"].to_pylist() == list(range(12))


@pytest.mark.slow
def test_relative_paths_are_those_of_the_planning_process(
    world: World, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the folder of the one that judges."""
    monkeypatch.chdir(photos)
    plans = [world.plan(["00.png", "01.png"], Path("../a.csv")), world.plan(".", Path("../b.csv"))]
    monkeypatch.chdir(tmp_path.parent)
    reports = [[judge_shard(shard) for shard in plan.shards] for plan in plans]
    monkeypatch.chdir(photos)
    assert [plan.merge(found).errors for plan, found in zip(plans, reports, strict=True)] == [0, 0]
    assert Counter(path.name for path in tmp_path.glob("?.csv")) == {"a.csv": 1, "b.csv": 1}


@pytest.mark.slow
def test_many_refused_images_at_the_start_of_a_later_shard_are_no_wrong_model(tmp_path: Path) -> None:
    """A model that has answered before is known; in the first shard they end the run."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(24):
        (folder / f"{number:02}.png").write_bytes(png(10 * number))
    with ScriptedServer(lambda body: (400, {"error": {"message": "no such thing"}}, {})) as server:
        world = World(server, evidence="image")
        (shard,) = world.plan(folder, tmp_path / "o.csv", shard_rows=50).shards
        with pytest.raises(ModelError, match="refused every one of the first 20 images"):
            judge_shard(shard)
        assert judge_shard(replace(shard, answered=True)).counts == {Outcome("error"): 24}


@pytest.mark.parametrize("shards", [True, False])
def test_a_table_with_an_address_is_made_here_and_copied(
    shards: bool, world: World, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From images at an address; where that fails the table stays, and the same call copies it at no cost."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for file in photos.iterdir():
        memory.pipe(f"/bucket/photos/{file.name}", file.read_bytes())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file where a folder would have to be")

    def judged(out: str) -> Progress:
        if not shards:
            return predict(world.judge, "memory://bucket/photos", out=out, models=world.models, num_threads=2)
        plan = world.plan("memory://bucket/photos", out)
        return plan.merge(map(judge_shard, plan.shards))

    with pytest.raises(BlpoError, match=r"cannot be written .*; the table is complete in o\.csv, and the same call"):
        judged(f"file://{tmp_path}/taken/o.csv")
    assert judged("memory://bucket/results/o.csv").judged == 0
    assert memory.cat("/bucket/results/o.csv") == Path("o.csv").read_bytes()
    assert len(memory.cat("/bucket/results/o.csv").splitlines()) == 13
    assert world.calls == 22
    memory.store.clear()


def unsure(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Says safe at a log probability that differs between pictures."""
    text = "[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]"
    answer = completion(text)
    sure = hashlib.sha256(json.dumps(body["messages"]).encode()).digest()[0] % 2
    tokens = [("[[ ## label ## ]]\n", 0.0), ("Safe", -0.01 if sure else -3.0), ("\n\n[[ ## completed ## ]]", 0.0)]
    answer["choices"][0]["logprobs"] = {"content": [{"token": t, "logprob": p, "bytes": None} for t, p in tokens]}
    return 200, answer, {}


@pytest.mark.slow
def test_a_calibrated_judge_escalates_from_shards_as_from_one_process(photos: Path, tmp_path: Path) -> None:
    """The same tables, also the one for people, and the same count."""
    with ScriptedServer(unsure) as server:
        world = World(server, evidence="image")
        world.judge = world.judge.confident("logprobs").calibrated(0.5)
        plan = world.plan(photos, tmp_path / "shards.csv")
        plan.escalate_to(tmp_path / "people.csv")
        done = plan.merge([judge_shard(shard) for shard in plan.shards])
        one = predict(
            world.judge,
            photos,
            out=tmp_path / "one.csv",
            escalated=tmp_path / "also.csv",
            models=world.models,
            num_threads=2,
        )
    assert (tmp_path / "shards.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert (tmp_path / "people.csv").read_bytes() == (tmp_path / "also.csv").read_bytes()
    assert one.escalated is not None
    assert done.escalated == one.escalated == len((tmp_path / "also.csv").read_text().splitlines()) - 1
    assert 0 < one.escalated < 12
    assert "confidence,escalate" in (tmp_path / "one.csv").read_text()


def test_a_cascade_is_not_judged_in_shards_nor_votes_in_batches(world: World, photos: Path, tmp_path: Path) -> None:
    """The errors say what to leave out; nothing is written."""
    votes = world.judge.confident("votes")
    cascade = Cascade([votes.calibrated(0.5), world.judge])
    options: dict[str, Any] = {"out": tmp_path / "o.csv", "models": world.models}
    with pytest.raises(BlpoError, match=r"a cascade is judged in one process.*leave out workers="):
        predict(cascade, photos, workers=2, **options)
    for judge in (votes, cascade):
        with pytest.raises(BlpoError, match="this judge is asked several times; leave out batch_api=True"):
            predict(judge, photos, batch_api=True, **options)
    assert (world.calls, sorted(path.name for path in tmp_path.iterdir())) == (0, ["photos"])
