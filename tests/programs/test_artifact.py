"""Tests of the judge as a file: what is kept, what is refused, and that DSPy's own ways of saving work."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from PIL import Image

from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import ArtifactError, BlpoError
from blpo_dspy.programs import VisualJudge

SAFETY = LabelSpace("Safe", "Unsafe")
SPACES = [SAFETY, LabelSpace.ordinal(1, 7), LabelSpace("schlecht", "mäßig", "gut", ordered=True)]
IMAGE = "data:image/png;base64,iVBORw0KGgo="
MARKER = f'<<CUSTOM-TYPE-START-IDENTIFIER>>[{{"image_url": {{"url": "{IMAGE}"}}}}]<<CUSTOM-TYPE-END-IDENTIFIER>>'


def judge_of(labels: LabelSpace = SAFETY, **options: Any) -> VisualJudge:
    """Returns a judge with texts of its own in every place."""
    defaults = {
        "instruction": "Urteile über „Sicherheit“.\n\n  1. Look.\n  2. Judge — fairly.",
        "verbalizer_instruction": "Report knives, fire, 血.",
        "context": ["prompt", "style"],
        "evidence": "both",
        "reasoning": True,
        "pixel_policy": PixelPolicy(max_side=128, formats=("JPEG",)),
    }
    judge = VisualJudge(labels, **{**defaults, **options})
    judge.card = {"rounds": 3, "agreement": {"before": {"val": {"kappa": 0.1}}, "after": {"val": {"kappa": None}}}}
    return judge


def prompts(judge: VisualJudge) -> list[tuple[str, str, tuple[str, ...]]]:
    """Returns all that a judge's models would see for one image, which is what its labels depend on."""
    lm = scripted_lm(
        lambda seen: {"description": "grey"} if seen.fields == ["description"] else {"reasoning": "so", "label": "?"}
    )
    picture = Image.new("RGB", (256, 200), (10, 20, 30))
    with dspy.context(lm=lm):
        judge(image=picture, **dict.fromkeys(judge.context, "some text"))
    return [(seen.system, seen.user, tuple(seen.images)) for seen in lm.engine.seen]


# What is kept


@pytest.mark.parametrize("labels", SPACES, ids=str)
@pytest.mark.parametrize("evidence", ["both", "image", "description"])
@pytest.mark.parametrize("context", [[], ["prompt", "style"]])
@pytest.mark.parametrize("reasoning", [False, True])
def test_a_loaded_judge_is_the_saved_one(
    labels: LabelSpace, evidence: Any, context: list[str], reasoning: bool, tmp_path: Path
) -> None:
    """Labels, evidence, context, policy, instructions and card come back, and every prompt is the same."""
    judge = judge_of(labels, evidence=evidence, context=context, reasoning=reasoning)
    judge.save(tmp_path / "judge.json")
    loaded = VisualJudge.load(tmp_path / "judge.json")
    for name in ("labels", "evidence", "context", "reasoning", "pixel_policy", "card"):
        assert getattr(loaded, name) == getattr(judge, name)
    assert (loaded.instruction, loaded.verbalizer_instruction) == (judge.instruction, judge.verbalizer_instruction)
    assert prompts(loaded) == prompts(judge)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "judge.json").read_bytes()


def test_text_demonstrations_are_kept(tmp_path: Path) -> None:
    """A judge of descriptions with demonstrations shows them after loading as before."""
    judge = judge_of(LabelSpace.ordinal(1, 5), evidence="description", context=[])
    judge.judge.demos = [
        dspy.Example(description="a dark room", reasoning="dark", label=2),
        {"description": "a sunny room", "reasoning": "bright", "label": "5", "augmented": True},
    ]
    judge.save(tmp_path / "judge.json")
    loaded = VisualJudge.load(tmp_path / "judge.json")
    assert "a dark room" in prompts(loaded)[1][1]
    assert prompts(loaded) == prompts(judge)


def test_the_file_is_small_and_holds_neither_pixels_nor_an_lm(tmp_path: Path) -> None:
    """Only texts: no LM, endpoint or key, no traces, though the judge has all of them."""
    judge = judge_of(instruction="Judge. " + "A rule about something. " * 200)
    lm = dspy.LM("openai/secret-model", api_key="sk-secret", api_base="http://secret.example/v1")
    judge.set_lm(lm)
    judge.judge.config = {"temperature": 0.7}
    judge.judge.traces = [dspy.Example(image=dspy.Image(IMAGE))]
    judge.save(tmp_path / "judge.json")
    text = (tmp_path / "judge.json").read_text(encoding="utf-8")
    assert len(text.encode()) < 64 * 1024
    assert "secret" not in text
    assert "base64" not in text
    assert "血" in text
    assert judge.judge.lm is lm
    assert VisualJudge.load(tmp_path / "judge.json").judge.lm is None


def test_an_lm_that_cannot_be_saved_does_not_matter(tmp_path: Path) -> None:
    """DSPy refuses the state of some engines; a judge file doesn't ask for it."""
    judge = judge_of()
    judge.set_lm(scripted_lm(lambda seen: "Safe"))
    judge.save(tmp_path / "judge.json")
    judge.load(tmp_path / "judge.json")


def by_content(seen: Seen) -> dict[str, str]:
    """Describes an image and labels it by a checksum of all that is in the request."""
    checksum = zlib.crc32((seen.text + "".join(seen.images)).encode())
    if seen.fields == ["description"]:
        return {"description": f"checksum {checksum}"}
    return {"reasoning": "so", "label": SAFETY.names[checksum % 2]}


def labels_of(judge: VisualJudge, images: list[str]) -> list[str]:
    """Returns a judge's labels for image files."""
    with dspy.context(lm=scripted_lm(by_content)):
        return [str(judge(image=image, prompt="a thing", style="none").label) for image in images]


@pytest.mark.slow
def test_a_fresh_process_in_another_folder_gives_the_same_labels(tmp_path: Path) -> None:
    """Nothing but the file is needed."""
    images = [str(tmp_path / f"image{grey}.png") for grey in range(16)]
    for grey, path in enumerate(images):
        Image.new("RGB", (200, 8 + grey), (grey, 2 * grey, 0)).save(path)
    judge_of().save(tmp_path / "judge.json")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    program = (
        "import sys; from test_artifact import VisualJudge, labels_of;"
        "print(*labels_of(VisualJudge.load(sys.argv[1]), sys.argv[2:]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "judge.json"), *images],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))},
        capture_output=True,
        text=True,
        check=True,
    )
    here = labels_of(judge_of(), images)
    assert run.stdout.split() == here
    assert set(here) == set(SAFETY.names)


# What is refused


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved judge."""
    path = tmp_path / "judge.json"
    judge_of().save(path)
    return path


def archive() -> bytes:
    """Returns a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("judge.json", "{}")
    return buffer.getvalue()


def photograph(kind: str) -> bytes:
    """Returns an image file."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


class Exploit:
    """What a malicious pickle would hold."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploited",)


NOT_A_JUDGE = {
    "pickle": (pickle.dumps(Exploit()), "pickle"),
    "old pickle": (pickle.dumps(Exploit(), protocol=0), "not valid JSON"),
    "zip": (archive(), "archive"),
    "PNG": (photograph("PNG"), "not valid JSON"),
    "JPEG": (photograph("JPEG"), "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "list": (b"[1, 2]", "JSON list"),
    "text": (b'"judge"', "JSON str"),
    "null": (b"null", "JSON NoneType"),
    "another object": (b'{"rounds": []}', "not a judge saved by"),
    "deeply nested": (b"[" * 100_000, "not valid JSON"),
    "latin-1": ('{"format": "ä"}'.encode("latin-1"), "not valid JSON"),
}


@pytest.mark.parametrize("kind", NOT_A_JUDGE)
def test_a_file_that_is_no_judge_is_refused_with_the_reason(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is, no code of it runs, and an existing judge stays as it was."""
    content, reason = NOT_A_JUDGE[kind]
    monkeypatch.chdir(tmp_path)
    Path("judge.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=f"judge.json.*{reason}"):
        VisualJudge.load("judge.json")
    judge = judge_of()
    before = judge.dump_state()
    with pytest.raises(ArtifactError, match=r"judge\.json"):
        judge.load("judge.json")
    assert judge.dump_state() == before
    assert not Path("exploited").exists()


def test_a_missing_file_and_a_folder_are_refused_with_the_reason(tmp_path: Path) -> None:
    """The error names the path."""
    for path, reason in ((tmp_path / "none.json", "No such file"), (tmp_path, "this is a directory")):
        with pytest.raises(ArtifactError, match=reason):
            VisualJudge.load(path)


@pytest.mark.slow
def test_every_truncated_file_is_refused(tmp_path: Path) -> None:
    """Wherever a file breaks off, but for its last line break, it is not a judge."""
    judge_of().save(tmp_path / "judge.json")
    cut = tmp_path / "judge.json"
    for length in reversed(range(cut.stat().st_size - 1)):
        os.truncate(cut, length)
        with pytest.raises(ArtifactError, match=r"judge\.json"):
            VisualJudge.load(cut)


@pytest.mark.parametrize("version", [0, 4, "1", 1.0, True, None])
def test_another_format_version_is_refused(version: Any, saved: Path) -> None:
    """The error says which version the file has and which one is read."""
    change(saved, format_version=version)
    for load in (VisualJudge.load, judge_of().load):
        with pytest.raises(
            ArtifactError, match=f"format version {version!r}, but this blpo-dspy reads versions up to 3"
        ):
            load(saved)


@pytest.mark.slow
def test_a_judge_of_scores_is_a_file_of_the_next_version_and_others_are_not(tmp_path: Path) -> None:
    """Earlier releases refuse what they can't read, and read all else."""
    scores = LabelSpace.scores(0, 100, tolerance=2.5)
    for labels, version in ((scores, 2), *((space, 1) for space in SPACES)):
        file = tmp_path / "judge.json"
        judge_of(labels).save(file)
        assert json.loads(file.read_text())["format_version"] == version
        loaded = VisualJudge.load(file)
        assert loaded.labels == labels
        assert prompts(loaded) == prompts(judge_of(labels))
        assert loaded.deepcopy().labels == labels
    with pytest.raises(ArtifactError, match="saved with labels"):
        judge_of(LabelSpace.scores(0, 100)).load(_saved(judge_of(scores), tmp_path))


@pytest.mark.parametrize("part", [{"low": 100}, {"tolerance": -1}, {"step": 7}, {"more": 1}, {"high": "100"}])
def test_a_damaged_range_of_scores_is_refused(part: dict[str, Any], tmp_path: Path) -> None:
    """As any other part of the file."""
    labels = LabelSpace.scores(0, 100)
    file = _saved(judge_of(labels), tmp_path)
    change(file, labels={**labels.to_dict(), **part})
    with pytest.raises(ArtifactError, match="not a judge that can be built"):
        VisualJudge.load(file)


def _saved(judge: VisualJudge, folder: Path) -> Path:
    """The file of a judge."""
    judge.save(folder / "saved.json")
    return folder / "saved.json"


BROKEN = [
    {"labels": {"kind": "nominal", "labels": ["Safe"]}},
    {"labels": ["Safe", "Unsafe"]},
    {"evidence": "text"},
    {"evidence": ["both"]},
    {"context": 5},
    {"context": "prompt"},
    {"context": ["a b"]},
    {"reasoning": "no"},
    {"reasoning": 1},
    {"context": ["config"]},
    {"pixel_policy": {}},
    {"pixel_policy": None},
    {"card": 5},
    {"judge": "text"},
    {"judge": {}},
    {"judge": {"signature": {"instructions": "", "fields": []}, "demos": []}},
    {"judge": {"signature": {"instructions": 5, "fields": []}, "demos": []}},
    {"verbalizer": {"signature": {"instructions": "Look.", "fields": []}, "demos": [5]}},
    {"verbalizer": {"signature": {"instructions": "Look.", "fields": []}, "demos": [{"image": MARKER}]}},
    {"verbalizer": {"signature": {"instructions": "Look.", "fields": []}, "demos": [{"image": IMAGE}]}},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_file_with_wrong_content_is_refused(broken: dict[str, Any], saved: Path) -> None:
    """A value of the wrong kind is an error that names the file, not one in the middle of judging."""
    change(saved, **broken)
    with pytest.raises(ArtifactError, match=r"judge\.json: not a judge that can be built"):
        VisualJudge.load(saved)


@pytest.mark.parametrize(
    "other",
    [
        {"labels": LabelSpace("cat", "dog").to_dict()},
        {"labels": LabelSpace("Safe", "Unsafe", ordered=True).to_dict()},
        {"evidence": "description"},
        {"context": ["prompt"]},
        {"reasoning": False},
    ],
    ids=str,
)
def test_a_file_whose_predictors_are_made_for_another_judge_is_refused(other: dict[str, Any], saved: Path) -> None:
    """A model would get other labels or fields than the file names."""
    change(saved, **other)
    with pytest.raises(ArtifactError, match=r"judge\.json: not a judge.*of other labels, evidence or context"):
        VisualJudge.load(saved)


@pytest.mark.parametrize("key", ["labels", "evidence", "context", "reasoning", "pixel_policy", "card", "judge"])
def test_an_incomplete_file_is_refused(key: str, saved: Path) -> None:
    """The error names what is missing."""
    data = json.loads(saved.read_text(encoding="utf-8"))
    del data[key]
    saved.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"'{key}'.*missing"):
        VisualJudge.load(saved)


def test_a_file_sets_nothing_but_texts(saved: Path) -> None:
    """Options of LM calls, such as an endpoint to send images to, are not taken from a file."""
    data = json.loads(saved.read_text(encoding="utf-8"))
    for name in ("judge", "verbalizer"):
        data[name].update(config={"api_base": "http://evil.example"}, lm={"model": "openai/evil"}, forward="x")
    change(saved, **data)
    into = judge_of()
    into.load(saved)
    for judge in (VisualJudge.load(saved), into):
        for predictor in judge.predictors():
            assert (predictor.config, predictor.lm) == ({}, None)
            assert callable(type(predictor).forward)
            assert "forward" not in vars(predictor)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"labels": LabelSpace("Safe", "Harmful")}, "labels"),
        ({"labels": LabelSpace("Unsafe", "Safe")}, "labels"),
        ({"labels": LabelSpace("Safe", "Unsafe", ordered=True)}, "labels"),
        ({"evidence": "image"}, "evidence both"),
        ({"context": ["prompt"]}, "context"),
        ({"reasoning": False}, "reasoning"),
    ],
)
def test_a_judge_of_another_shape_is_not_loaded_into_an_existing_one(
    options: dict[str, Any], named: str, saved: Path
) -> None:
    """Labels, evidence, context and reasoning must fit; the error names both and the way out."""
    judge = judge_of(**options)
    before = judge.dump_state()
    with pytest.raises(ArtifactError, match=rf"{named} .*use VisualJudge\.load"):
        judge.load(saved)
    assert judge.dump_state() == before


def test_a_judge_of_the_same_shape_takes_over_texts_policy_and_card(saved: Path) -> None:
    """DSPy's load into an existing judge makes it the saved one."""
    judge = judge_of(instruction="Other.", verbalizer_instruction="Other.", pixel_policy=PixelPolicy())
    judge.card = {}
    judge.load(saved)
    assert (judge.instruction, judge.pixel_policy, judge.card) == (
        judge_of().instruction,
        judge_of().pixel_policy,
        judge_of().card,
    )
    assert prompts(judge) == prompts(judge_of())


# Saving


@pytest.mark.parametrize("image", [dspy.Image(IMAGE), dspy.Image("https://example.org/a.png"), IMAGE, MARKER])
def test_a_demonstration_with_an_image_is_refused(image: Any, tmp_path: Path) -> None:
    """A judge file holds no pixels; the error says what to do, and the file that was there stays."""
    judge = judge_of()
    judge.save(tmp_path / "judge.json")
    before = (tmp_path / "judge.json").read_bytes()
    judge.verbalizer.demos = [dspy.Example(image=image, description="grey")]
    with pytest.raises(BlpoError, match=r"verbalizer has demonstrations with images.*save_program=True"):
        judge.save(tmp_path / "judge.json")
    assert (tmp_path / "judge.json").read_bytes() == before


@pytest.mark.parametrize("card", [{"options": {"x": x}} for x in (float("nan"), object(), "\ud800")])
def test_a_card_that_is_no_json_leaves_the_old_file(card: dict[str, Any], saved: Path) -> None:
    """Nothing is written, not even in part."""
    before = saved.read_bytes()
    judge = judge_of()
    judge.card = card
    with pytest.raises(BlpoError, match=r"judge\.json: not written"):
        judge.save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["judge.json"]


def test_a_full_disk_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while writing is raised, and nothing but the old file remains."""
    before = saved.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BlpoError, match=r"judge\.json: cannot be written \(No space left on device\)"):
        judge_of(instruction="Other.").save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["judge.json"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error names the file as the user did."""
    with pytest.raises(BlpoError, match=r"nowhere/judge\.json: cannot be written \(No such file"):
        judge_of().save(tmp_path / "nowhere" / "judge.json")


def change(path: Path, **entries: Any) -> None:
    """Changes entries of a judge file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, **entries}), encoding="utf-8")


# DSPy's own ways


class Parent(dspy.Module):
    """A program with a judge inside."""

    def __init__(self, judge: VisualJudge) -> None:
        super().__init__()
        self.caption = dspy.Predict("image: dspy.Image -> caption")
        self.judge = judge

    def forward(self, image: Any) -> dspy.Prediction:
        """Judges."""
        return self.judge(image=image, prompt=self.caption(image=image).caption, style="none")


def test_a_parents_state_holds_the_judges(tmp_path: Path) -> None:
    """DSPy's save and load of a larger program restore the judge within it."""
    Parent(judge_of()).save(tmp_path / "parent.json")
    parent = Parent(judge_of(instruction="Other.", verbalizer_instruction="Other."))
    parent.load(tmp_path / "parent.json")
    assert prompts(parent.judge) == prompts(judge_of())


def plain_state(judge: VisualJudge, path: Path) -> Path:
    """Saves a judge as DSPy saves any module, without this library's format."""
    dspy.Module.save(judge, path)
    return path


def test_a_plain_dspy_state_is_loaded(tmp_path: Path) -> None:
    """What DSPy wrote for the same judge, DSPy reads, demonstrations included."""
    judge = judge_of()
    judge.verbalizer.demos = [dspy.Example(image=dspy.Image("https://example.org/a.png"), description="grey")]
    path = plain_state(judge, tmp_path / "state.json")
    other = judge_of(instruction="Other.")
    other.load(path)
    assert other.instruction == judge.instruction
    assert len(other.verbalizer.demos) == 1


@pytest.mark.parametrize(
    "options", [{"labels": LabelSpace("Good", "Bad")}, {"evidence": "image"}, {"context": []}, {"reasoning": False}]
)
def test_a_plain_state_of_another_judge_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    """DSPy itself would load it and tell the model the other judge's labels."""
    path = plain_state(judge_of(), tmp_path / "state.json")
    judge = judge_of(**options)
    before = judge.dump_state()
    with pytest.raises(ArtifactError, match="saved by a judge of other labels"):
        judge.load(path)
    assert judge.dump_state() == before


def signed(state: dict[str, Any], **entries: Any) -> dict[str, Any]:
    """A predictor's state with other entries of its signature."""
    return {**state, "signature": {**state["signature"], **entries}}


BROKEN_STATES: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    ("judge", lambda state: signed(state, instructions=5), r"its instructions are empty or not a text \(5\)"),
    ("verbalizer", lambda state: signed(state, instructions=" \n"), "its instructions are empty or not a text"),
    ("judge", lambda state: signed(state, fields=5), "not a DSPy state of a predictor"),
    (
        "judge",
        lambda state: signed(state, fields=[{**field, "prefix": 5} for field in state["signature"]["fields"]]),
        "the prefix of a field is not a text",
    ),
    ("judge", lambda state: {**state, "demos": 5}, r"its demonstrations are not a list of examples \(5\)"),
    ("judge", lambda state: {**state, "demos": [5]}, "its demonstrations are not a list of examples"),
    ("judge", lambda state: {**state, "lm": 5}, "not a DSPy state that can be loaded"),
    ("judge", lambda state: {**state, "forward": "x"}, r"it has unknown entries \['forward'\]"),
    ("judge", lambda state: {**state, "pixel_policy": 5}, "pixel policy"),
    ("metadata", lambda state: {}, "its 'metadata' are missing or damaged"),
    ("metadata", lambda state: {"dependency_versions": 5}, "its 'metadata' are missing or damaged"),
    ("metadata", lambda state: {"dependency_versions": {"x": "1"}}, "its 'metadata' are missing or damaged"),
]


@pytest.mark.parametrize(("part", "broken", "problem"), BROKEN_STATES)
def test_a_plain_state_with_wrong_values_is_refused(
    part: str, broken: Callable[[dict[str, Any]], dict[str, Any]], problem: str, tmp_path: Path
) -> None:
    """As strictly as a judge file, and the judge is left as it was."""
    path = plain_state(judge_of(), tmp_path / "state.json")
    change(path, **{part: broken(json.loads(path.read_text(encoding="utf-8"))[part])})
    judge = judge_of(instruction="Other.")
    before = judge.dump_state()
    with pytest.raises(ArtifactError, match=rf"state\.json: .*{problem}"):
        judge.load(path)
    assert judge.dump_state() == before


def test_a_plain_state_of_another_program_is_refused(tmp_path: Path) -> None:
    """A parent's state has other names."""
    Parent(judge_of()).save(tmp_path / "parent.json")
    with pytest.raises(ArtifactError, match="neither a judge file nor the DSPy state of a VisualJudge"):
        judge_of().load(tmp_path / "parent.json")
    with pytest.raises(ArtifactError, match=r"judge\.load\(path\)"):
        VisualJudge.load(tmp_path / "parent.json")


def test_a_state_in_a_larger_program_brings_its_pixel_policy(tmp_path: Path) -> None:
    """Images look in use as they did while compiling."""
    Parent(judge_of()).save(tmp_path / "parent.json")
    parent = Parent(judge_of(instruction="Other.", pixel_policy=PixelPolicy()))
    parent.load(tmp_path / "parent.json")
    assert parent.judge.pixel_policy == judge_of().pixel_policy
    assert prompts(parent.judge) == prompts(judge_of())


@pytest.mark.slow
def test_how_images_are_checked_is_kept_where_it_is_not_the_default(tmp_path: Path) -> None:
    """A file of a default policy is as it was before there was a choice; nothing else in a file depends on it."""
    usual, full = judge_of(pixel_policy=PixelPolicy()), judge_of(pixel_policy=PixelPolicy(check="decode"))
    for judge, name in ((usual, "usual.json"), (full, "full.json")):
        judge.save(tmp_path / name)
        assert VisualJudge.load(tmp_path / name).pixel_policy == judge.pixel_policy
        Parent(judge).save(tmp_path / f"parent-{name}")
        parent = Parent(judge_of())
        parent.load(tmp_path / f"parent-{name}")
        assert parent.judge.pixel_policy == judge.pixel_policy
    assert b'"check"' not in (tmp_path / "usual.json").read_bytes()
    state = json.loads((tmp_path / "full.json").read_text())
    assert state["pixel_policy"].pop("check") == "decode"
    assert state == json.loads((tmp_path / "usual.json").read_text())
    assert prompts(usual) == prompts(full)


@pytest.mark.parametrize("options", [{"labels": LabelSpace("cat", "dog")}, {"evidence": "image"}, {"context": []}])
def test_a_larger_program_does_not_load_a_judge_of_other_labels(options: dict[str, Any], tmp_path: Path) -> None:
    """DSPy itself would, and tell the model the other judge's labels."""
    Parent(judge_of()).save(tmp_path / "parent.json")
    parent = Parent(judge_of(**options))
    before = parent.dump_state()
    with pytest.raises(ArtifactError, match="saved by a judge of other labels"):
        parent.load(tmp_path / "parent.json")
    assert parent.dump_state() == before


def test_the_whole_program_can_be_saved(tmp_path: Path) -> None:
    """With save_program=True DSPy keeps everything, images in demonstrations too, of a judge and of its parent."""
    judge = judge_of()
    judge.verbalizer.demos = [dspy.Example(image=dspy.Image(IMAGE), description="grey")]
    for program, judge_within in ((judge, lambda p: p), (Parent(judge), lambda p: p.judge)):
        folder = tmp_path / type(program).__name__
        program.save(folder, save_program=True)
        loaded = judge_within(dspy.load(folder, allow_pickle=True))
        assert isinstance(loaded, VisualJudge)
        assert (loaded.labels, loaded.card, loaded.pixel_policy) == (judge.labels, judge.card, judge.pixel_policy)
        assert loaded.verbalizer.demos[0]["image"] == judge.verbalizer.demos[0]["image"]
        assert loaded.instruction == judge.instruction


def test_a_pickle_of_the_state_is_loaded_only_if_allowed(tmp_path: Path) -> None:
    """As with any module of DSPy: `.pkl` needs allow_pickle, and never builds a judge."""
    path = tmp_path / "state.pkl"
    judge_of().save(path)
    judge = judge_of(instruction="Other.")
    with pytest.raises(ValueError, match="allow_pickle"):
        judge.load(path)
    judge.load(path, True)
    assert judge.instruction == judge_of().instruction
    with pytest.raises(ArtifactError, match="pickle"):
        VisualJudge.load(path)


def test_a_file_can_be_loaded_by_a_subclass(saved: Path) -> None:
    """`load` on a subclass gives an object of it."""

    class MyJudge(VisualJudge):
        pass

    loaded: Callable[..., Any] = MyJudge.load(saved)
    assert type(loaded) is MyJudge


def test_any_other_suffix_is_refused_as_dspy_does(tmp_path: Path) -> None:
    """DSPy's own error tells which suffixes there are."""
    with pytest.raises(ValueError, match=r"\.json"):
        judge_of().save(tmp_path / "judge.txt")


def program_folder(folder: Path) -> Path:
    """A judge saved as a program."""
    VisualJudge(LabelSpace("Safe", "Unsafe"), instruction="Is it safe?").save(folder, save_program=True)
    return folder


def test_a_saved_program_comes_back_as_it_was(tmp_path: Path) -> None:
    """By DSPy's own load."""
    judge = dspy.load(str(program_folder(tmp_path / "program")), allow_pickle=True)
    assert (judge.labels, judge.instruction) == (LabelSpace("Safe", "Unsafe"), "Is it safe?")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"Unsafe", b"Safe\nx", "line break"),
        (b"Is it safe?", b"           ", "instruction is empty"),
        (b"both", b"bath", "evidence 'bath' is unknown"),
        (b"evidence", b"evidenca", "has no attribute 'evidence'"),
    ],
)
def test_a_program_that_was_changed_into_no_judge_is_refused(old: bytes, new: bytes, why: str, tmp_path: Path) -> None:
    """With the reason; that it is a judge at all is for Python's pickle to find."""
    file = program_folder(tmp_path / "program") / "program.pkl"
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))
    with pytest.raises(ArtifactError, match=f"the saved program was changed.*{why}"):
        dspy.load(str(file.parent), allow_pickle=True)


def test_a_program_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    """By Python; a judge is never built from half of it."""
    file = program_folder(tmp_path / "program") / "program.pkl"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        dspy.load(str(file.parent), allow_pickle=True)


def test_a_program_folder_is_no_judge_file(tmp_path: Path) -> None:
    """The way to load it is named, with what that means; nothing of it is run."""
    folder = program_folder(tmp_path / "program")
    (folder / "program.pkl").write_bytes(pickle.dumps(Exploit()))
    for load in (VisualJudge.load, VisualJudge(LabelSpace("Safe", "Unsafe"), instruction="x").load):
        with pytest.raises(ArtifactError, match=r"this is a directory.*allow_pickle=True\), which runs the code in it"):
            load(folder)


def test_a_judge_of_several_images_is_saved_in_the_next_format_version(tmp_path: Path) -> None:
    """It loads as it was; one image of the usual name stays in the first version, which earlier releases read."""
    names = ("left", "views: list[dspy.Image]")
    judge = VisualJudge(LabelSpace("A", "B"), instruction="Which is better?", images=names, context=["prompt"])
    judge.save(tmp_path / "pair.json")
    judge_of().save(tmp_path / "one.json")
    saved = {name: json.loads((tmp_path / name).read_text()) for name in ("pair.json", "one.json")}
    assert (saved["pair.json"]["format_version"], saved["pair.json"]["images"]) == (2, list(names))
    assert saved["one.json"]["format_version"] == 1
    assert "images" not in saved["one.json"]
    again = VisualJudge.load(tmp_path / "pair.json")
    assert (again.images, again.context, again.identity()) == (names, ("prompt",), judge.identity())
    assert list(again.verbalizer.signature.input_fields) == ["left", "views", "prompt"]


def test_a_judge_of_other_images_is_not_loaded_into_this_one(tmp_path: Path) -> None:
    """Nor its DSPy state: what was learned about `left` is no rule for `right`."""
    one, other = (
        VisualJudge(LabelSpace("A", "B"), instruction="Which is better?", images=names)
        for names in (("left", "right"), ("right", "left"))
    )
    one.save(tmp_path / "judge.json")
    with pytest.raises(ArtifactError, match=r"images .*left.*right"):
        other.load(tmp_path / "judge.json")
    with pytest.raises(ArtifactError, match=r"images .* None"):
        judge_of().load(tmp_path / "judge.json")
    with pytest.raises(ArtifactError, match="saved by a judge of other"):
        other.load_state(one.dump_state())


@pytest.mark.parametrize("images", [None, "left", [], ["left", "left"], [5]])
def test_damaged_names_of_images_are_refused(images: Any, tmp_path: Path) -> None:
    """A missing entry, no list, an empty one, the same name twice, a number."""
    path = tmp_path / "judge.json"
    VisualJudge(LabelSpace("A", "B"), instruction="Which is better?", images=["left", "right"]).save(path)
    data = json.loads(path.read_text())
    data["images"] = images
    if images is None:
        del data["images"]
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="image"):
        VisualJudge.load(path)
