"""The report of a run: what it says, that data stays text, and how a browser shows it."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import dspy
import pytest
from browser import CHROMIUM, PAGE_COLOURS, Page, browse, in_chromium, requested, seen_in_frame, width_needed
from engines import Seen
from image_files import png
from PIL import Image
from pydantic import TypeAdapter
from rich.console import Console
from typer.testing import CliRunner
from worlds import LABELS, VALIDATION, examples, grey, mind, student, world

from blpo_dspy.agreement.label_errors import LikelyError, with_examples
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.cli.app import app
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import write_json
from blpo_dspy.models.lm import Models
from blpo_dspy.report import load_run, write_report, write_report_data
from blpo_dspy.report.html import command_line, relative_paths
from blpo_dspy.report.run.items import MOST_SHOWN, Item
from blpo_dspy.report.run.page import render
from blpo_dspy.report.words import word_diff
from blpo_dspy.runs.compiling import compile_and_measure
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.record import result
from blpo_dspy.workspace.watch import Watch

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script><img src=https://evil.example/x.png onerror=alert(2)>"


def captioned(data: list[dspy.Example], caption: str) -> list[dspy.Example]:
    """The examples with a caption and a group each."""
    return [
        dspy.Example(**e, caption=caption, id=f"{caption}{i}", group=f"g{i % 2}").with_inputs("image", "caption")
        for i, e in enumerate(data)
    ]


def reader(seen: Seen) -> Any:
    """The world's mind, which calls dark what a description alone says nothing of."""
    blind = "label" in seen.fields and not seen.images and "brightness " not in seen.user
    return {"label": "dark"} if blind else mind(seen)


def leave_run(folder: Path, *, caption: str = "a grey", **search: Any) -> Path:
    """Leaves the folder of a run on grey pictures, every one captioned alike."""
    folder.mkdir(exist_ok=True)
    sizes = examples(range(0, 250, 9)), VALIDATION[::2], examples(range(1, 250, 5))
    parts = [captioned(data, caption) for data in sizes]
    sets = Sets(*parts, how=f"made here {caption}")
    lm = world(reader)
    options = {"rounds": 3, "fidelity": 10, **search}
    start = student(context=("caption",), evidence="both")
    with Watch(Console(file=io.StringIO()), shown=False) as watch:
        aligned = compile_and_measure(start, sets, Models(lm, lm, lm), Search(**options), watch)
    write_json(
        folder / "result.json", result(aligned, sets, {"judge": f"m{caption}", "verbalizer": "v", "optimizer": "o"})
    )
    before, after = aligned.verdicts
    command = ["blpo", "compile", "t.csv", "--api-base", "http://user:secret@host/v1"]
    doubtful = with_examples(aligned.checks.label_errors, sets.train)
    write_report_data(folder, LABELS, sets.test, before, after, doubtful=doubtful, command=command)
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data is full of markup."""
    return leave_run(tmp_path_factory.mktemp("report") / "run", caption=HOSTILE)


@pytest.fixture(scope="module")
def rendered(run_folder) -> str:
    """Its report."""
    return render(load_run(run_folder))


def test_the_page_has_every_section(rendered) -> None:
    """Each link of the contents leads to a section that is there."""
    seen = Page(rendered)
    ids = {value for name, value in seen.attributes if name == "id"}
    links = {value[1:] for name, value in seen.attributes if name == "href"}
    assert links == ids
    assert ids >= {
        "figures",
        "rounds",
        "instructions",
        "confusion",
        "groups",
        "items",
        "text",
        "search",
        "cost",
        "data",
    }


def test_the_headline_says_what_the_paired_comparison_found(rendered, run_folder) -> None:
    """Counted here from the items themselves."""
    items = load_run(run_folder).items
    right = [sum(getattr(i, when).label == i.label for i in items) for when in ("before", "after")]
    text = Page(rendered).text
    assert "Agrees with people better than before" in text
    assert [f"{count / len(items):.0%}" for count in right] == re.findall(r"(?:Before|After)(\d+%)", text)
    fixed = sum(i.before.label != i.label == i.after.label for i in items)
    assert f"{fixed} were fixed" in text
    assert f"Fixed: {fixed}" in text


def test_markup_in_data_shows_as_text_and_makes_no_tag(rendered) -> None:
    """Captions, ids, model names and descriptions of where data is from are all hostile here."""
    seen = Page(rendered)
    assert "<script>alert(1)</script>" in seen.text
    assert "script" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_the_page_refers_to_nothing_outside_itself(rendered) -> None:
    """No address in any attribute or style; a content security policy forbids what a reader might miss."""
    page = rendered
    seen = Page(page)
    for name, value in seen.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:image/jpeg;base64,", "#"))
    assert "link" not in seen.tags
    assert "url(" not in page
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in seen.attributes


def test_without_images_there_is_no_pixel(rendered, run_folder) -> None:
    """But all the rest is."""
    with_pictures, without = rendered, render(load_run(run_folder), images=False)
    assert "<img" in with_pictures
    assert "<img" not in without
    assert "base64" not in without
    assert "Still wrong" in without


def test_pictures_of_unsafe_labels_are_blurred_until_clicked(tmp_path, run_folder) -> None:
    """By the sound of a label, or by those that are named."""
    labels, folder = LabelSpace("Safe", "Unsafe"), shutil.copytree(run_folder, tmp_path / "copy")
    data = [dspy.Example(image=dspy.Image(grey(v)), label="Unsafe", id=str(v)).with_inputs("image") for v in (9, 99)]
    write_report_data(folder, labels, data, [Verdict("Safe")] * 2, [Verdict("Unsafe")] * 2)
    record = json.loads((folder / "result.json").read_text())
    record["labels"] = labels.to_dict()
    (folder / "result.json").write_text(json.dumps(record))
    run = load_run(folder)
    assert render(run).count('<label class="frame blurred">') == 2
    assert '<label class="frame blurred">' not in render(run, blur=())
    assert render(run, blur=("safe",)).count('<label class="frame blurred">') == 2
    with pytest.raises(BlpoError, match="'Unsave'; the labels are Safe, Unsafe"):
        render(run, blur=("Unsave",))


def test_a_thumbnail_has_no_metadata(tmp_path) -> None:
    """A comment or a place where a photograph was taken stays with its owner."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    Image.new("RGB", (60, 40), "teal").save(buffer, "JPEG", exif=exif, comment=b"secret comment")
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    data = [dspy.Example(image=dspy.Image(uri), label="dark", id="1").with_inputs("image")]
    write_report_data(tmp_path, LABELS, data, [Verdict("bright")], [Verdict("dark")])
    (thumbnail,) = (tmp_path / "thumbnails").iterdir()
    assert b"secret" not in thumbnail.read_bytes()
    assert Image.open(thumbnail).size == (60, 40)


def test_an_image_by_url_is_never_fetched(tmp_path) -> None:
    """It has no thumbnail; the conftest refuses the network."""
    data = [dspy.Example(image=dspy.Image("https://x.example/1.png"), label="dark", id="1").with_inputs("image")]
    write_report_data(tmp_path, LABELS, data, [Verdict("bright")], [Verdict("dark")])
    assert "thumbnail" not in json.loads((tmp_path / "report.json").read_text())["items"][0]


def test_an_image_that_cannot_be_decoded_has_no_thumbnail(tmp_path) -> None:
    """Its judge was sent its bytes after a check of their structure; the report of the run is written all the same."""
    short = PixelPolicy().prepare(png(8, 8, b"\0"))
    data = [dspy.Example(image=short, label="dark", id="1").with_inputs("image")]
    write_report_data(tmp_path, LABELS, data, [Verdict("bright")], [Verdict("dark")])
    assert "thumbnail" not in json.loads((tmp_path / "report.json").read_text())["items"][0]


def test_ten_thousand_items_make_a_page_below_fifteen_megabytes(tmp_path, run_folder) -> None:
    """With pictures of noise, which compress worst, and long descriptions."""
    shutil.copy(run_folder / "result.json", tmp_path)
    pictures = []
    for seed in range(6):
        buffer = io.BytesIO()
        noise = Image.effect_noise((400, 400), 200 + seed)
        Image.merge("RGB", [noise, noise.rotate(90), noise.rotate(180)]).save(buffer, "PNG")
        pictures.append(dspy.Image("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()))
    data = [
        dspy.Example(image=pictures[i % 6], label=("dark", "bright")[i % 2], id=str(i)).with_inputs("image")
        for i in range(10_000)
    ]
    before = [Verdict(("dark", "bright")[i % 3 % 2], description="word " * 400) for i in range(10_000)]
    after = [Verdict(("dark", "bright")[i % 5 % 2], description="word " * 400) for i in range(10_000)]
    write_report_data(tmp_path, LABELS, data, before, after)
    assert (tmp_path / "report.json").stat().st_size < 5e6
    file = write_report(load_run(tmp_path), tmp_path / "report.html")
    assert file.read_text().count("<article") == 3 * MOST_SHOWN
    assert file.stat().st_size < 15e6
    if CHROMIUM:
        assert "the largest differences first" in browse(file, "--dump-dom", away=tmp_path).stdout


def test_a_test_set_that_was_not_judged_is_no_evidence(tmp_path) -> None:
    """The validation figures are shown as what they are."""
    folder = leave_run(tmp_path / "run", max_calls=150)
    assert load_run(folder).items == ()
    text = Page(render(load_run(folder))).text
    assert "Not measured on sealed test images" in text
    assert "better than before" not in text


def test_a_change_within_chance_is_called_that(tmp_path, run_folder) -> None:
    """One item of fifty fixed."""
    shutil.copy(run_folder / "result.json", tmp_path)
    data = captioned(examples(range(0, 250, 5)), "c")
    right = [Verdict(example.label) for example in data]
    wrong = [Verdict("bright" if data[0].label == "dark" else "dark"), *right[1:]]
    write_report_data(tmp_path, LABELS, data, wrong, right)
    assert "Not distinguishable from no change" in Page(render(load_run(tmp_path))).text


def test_an_address_in_the_command_is_left_out(rendered, run_folder) -> None:
    """It may hold a key."""
    for text in ((run_folder / "report.json").read_text(), rendered):
        assert "secret" not in text
    assert load_run(run_folder).command == "blpo compile t.csv --api-base URL"


def test_a_folder_without_a_run_is_said_so(tmp_path) -> None:
    """By its file, with the way out."""
    with pytest.raises(BlpoError, match=r"result\.json: cannot be read .*blpo compile --run-dir"):
        load_run(tmp_path)
    (tmp_path / "workspace.sqlite").write_text("")
    with pytest.raises(BlpoError, match=r"the run there has not ended.* repeat its command"):
        load_run(tmp_path)


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value of a record, of lists the first two."""
    parts = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for key, value in parts:
        yield (*at, key)
        yield from places(value, (*at, key))


@pytest.mark.parametrize("file", ["report.json", "result.json"])
def test_whatever_is_edited_in_a_record_there_is_a_page_or_one_message(file: str, tmp_path, run_folder) -> None:
    """Values of another type or size all over both files: the page, or an error that names the file."""
    folder, rng = shutil.copytree(run_folder, tmp_path / "copy"), random.Random(f"edits of {file}")
    record = (folder / file).read_text()
    edits = [(place, value) for place in places(json.loads(record)) for value in (None, "x", -1, [], {}, [[]], 1e308)]
    refused = 0
    for place, value in rng.sample(edits, 12):
        data = json.loads(record)
        reduce(getitem, place[:-1], data)[place[-1]] = value
        (folder / file).write_text(json.dumps(data))
        refused += _refusal(folder, file)
    assert 0 < refused < 12


def _refusal(folder: Path, file: str) -> bool:
    """Whether there is no page, for a reason that names the file."""
    try:
        return not render(load_run(folder), images=False)
    except BlpoError as error:
        return file in str(error) or pytest.fail(f"{error} doesn't name {file}")


@pytest.mark.parametrize(
    ("file", "damage", "named"),
    [
        ("report.json", lambda data: data["items"][0].update(label=5.5), r"items\.0\.label is 5\.5"),
        ("report.json", lambda data: data["items"][1]["after"].pop("label"), r"items\.1\.after\.label is missing"),
        ("report.json", lambda data: data["items"][0].update(label="x"), r"items\.0\.label is 'x'"),
        ("report.json", lambda data: data.update(command=["a"]), r'command is \["a"\]'),
        ("result.json", lambda data: data["rounds"][0].update(spent="x"), r"result\.json: the record is damaged"),
        ("result.json", lambda data: data["ledger"]["compile"]["judge"].pop("images"), r"result\.json: the record is"),
    ],
)
def test_what_is_damaged_is_named(file, damage, named, tmp_path, run_folder) -> None:
    """The file, and of report.json every place."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    data = json.loads((folder / file).read_text())
    damage(data)
    (folder / file).write_text(json.dumps(data))
    with pytest.raises(BlpoError, match=named):
        render(load_run(folder))


def test_a_record_nested_too_deeply_is_refused(tmp_path, run_folder) -> None:
    """Where Python's own reader gives up."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    (folder / "report.json").write_text("[" * 200_000)
    with pytest.raises(BlpoError, match=r"report\.json: cannot be read"):
        load_run(folder)


def test_no_absolute_path_stands_in_a_report(tmp_path) -> None:
    """They are shown relative to the run's folder, with blanks in them too; what is no path stays."""
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    words = [
        "blpo",
        "compile",
        str(tmp_path / "my data" / "t.csv"),
        f"--out={tmp_path}/judge.json",
        "--task",
        "a /b or 1/5",
    ]
    shown = command_line(words, folder)
    assert shown == "blpo compile '../../my data/t.csv' --out=../../judge.json --task 'a /b or 1/5'"
    assert relative_paths(f"train {tmp_path}/t.csv; val v.csv", folder) == "train ../../t.csv; val v.csv"


def test_the_top_names_models_and_the_day(run_folder) -> None:
    """In one line, before the headline."""
    run = load_run(run_folder)
    text = Page(render(run)).text
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run.on)
    assert text.index(f"v (verbalizer), o (optimizer) · {run.on}") < text.index("Agreement with people")


def test_the_page_has_no_word_that_only_statisticians_know(rendered) -> None:
    """Neither for the intervals nor for the distance of labels."""
    text = Page(rendered).text.lower()
    assert "pseudo" not in text
    assert not re.search(r"\bloss", text)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("result.json", lambda data: data.pop("labels")),
        ("result.json", lambda data: data["rounds"][0].pop("trials")),
        ("report.json", lambda data: data["items"][0].pop("label")),
        ("report.json", lambda data: data["items"][0]["before"].update(label="no such label")),
        ("report.json", lambda data: data.update(format="other")),
    ],
)
def test_a_damaged_record_is_refused_in_one_message(file: str, damage: Callable[[Any], Any], tmp_path, run_folder):
    """No traceback of a KeyError."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    data = json.loads((folder / file).read_text())
    damage(data)
    (folder / file).write_text(json.dumps(data))
    with pytest.raises(BlpoError, match=r"damaged|not the report data|no such label"):
        render(load_run(folder))


def test_an_item_that_is_not_shown_keeps_its_labels_alone() -> None:
    """Its texts would make the file large; what is counted is all there."""
    item = Item("1", "dark", Verdict("dark", "dark", "long", "why"), Verdict(None, failure="timeout"), "g", {"a": "b"})
    bare = item.bare()
    read = TypeAdapter(Item)
    assert (bare.before, bare.after, bare.group) == (Verdict("dark"), Verdict(None, failure="failed"), "g")
    assert read.validate_json(json.dumps(bare.to_dict())) == bare
    assert read.validate_json(json.dumps(item.to_dict())) == item


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/passwd", "thumbnails"])
def test_a_thumbnail_is_a_file_of_the_run_only(name: str, run_folder) -> None:
    """What report.json names is data, never a path elsewhere."""
    assert load_run(run_folder).picture(name) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "a b"),
        ("a b", ""),
        ("Judge it.", "Judge it."),
        ("Rate the picture from 1 to 5.", "Rate blur, from 1 to 9!\n"),
    ],
)
def test_a_word_diff_holds_both_texts(old: str, new: str) -> None:
    """Same and removed pieces are the old text, same and added ones the new."""
    pieces = word_diff(old, new)
    assert "".join(p.text for p in pieces if p.kind != "added") == old
    assert "".join(p.text for p in pieces if p.kind != "removed") == new


def test_a_word_diff_keeps_whole_words() -> None:
    """No letters of one word are taken for those of another."""
    assert [(p.kind, p.text) for p in word_diff("Rate its sharpness now.", "Rate its softness now.")] == [
        ("same", "Rate its "),
        ("removed", "sharpness"),
        ("added", "softness"),
        ("same", " now."),
    ]


def test_fidelity_is_shown_overall_and_per_label(run_folder, tmp_path) -> None:
    """Of what result.json holds, counted here; a low one is remarked on."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    record = json.loads((folder / "result.json").read_text())
    found = record["fidelity"]["after"]
    right = sum(found["confusion"][i][i] for i in range(2))
    assert found["n"] == 10
    assert f"{right / 10:.0%} {right} of 10" in Page(render(load_run(folder))).text
    found.update(confusion=[[1, 9, 0], [9, 1, 0]], n=20)
    (folder / "result.json").write_text(json.dumps(record))
    text = Page(render(load_run(folder))).text
    assert "10% 2 of 20" in text
    assert "Descriptions leave out much of what decides" in text


def test_doubtful_labels_are_shown_with_a_picture(run_folder, tmp_path) -> None:
    """With both labels, how often the judge said so, and where all of them are; blurred like any other picture."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    error = LikelyError("<b>7</b>", "dark", "bright", 1.0, 3, 1.0, "a lamp", "it shines")
    record = json.loads((folder / "result.json").read_text())
    record["label_errors"] = {"looked_at": 5, "found": [error.to_dict()]}
    (folder / "result.json").write_text(json.dumps(record))
    data = [dspy.Example(image=dspy.Image(grey(200)), label="dark", id=error.id).with_inputs("image")]
    write_report_data(folder, LABELS, [], [], [], doubtful=with_examples([error], data))
    page = render(load_run(folder), blur=("bright",))
    text = Page(page).text
    assert "Of 5 training images" in text
    assert "label_errors.csv" in text
    assert "Judge, 3 times of 3 bright" in text
    assert "<b>7</b>" in text
    assert page.count('<label class="frame blurred">') == 1
    assert "<img" not in render(load_run(folder), images=False)


def test_no_doubtful_label_is_said_in_a_sentence(run_folder, tmp_path) -> None:
    """Not as nothing that is all in a file."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    record = json.loads((folder / "result.json").read_text())
    record["label_errors"] = {"looked_at": 10, "found": []}
    (folder / "result.json").write_text(json.dumps(record))
    text = Page(render(load_run(folder))).text
    assert "None: of the 10 training images" in text
    assert "label_errors.csv" not in text


def test_every_picture_table_and_region_has_its_name(run_folder) -> None:
    """For who cannot see them: pictures told apart, head cells that say of what, regions to scroll by keyboard."""
    page = render(load_run(run_folder), blur=("dark", "bright"))
    seen = Page(page)
    pictures = [value for name, value in seen.attributes if name == "alt"]
    boxes = re.findall(r'<input type="checkbox" aria-label="([^"]*)"', page)
    assert len(pictures) == seen.tags.count("img") > 2
    assert "" not in pictures
    assert len(set(pictures)) == len(pictures)
    assert len(set(boxes)) == len(boxes) == len(pictures)
    assert seen.tags.count("th") == sum(name == "scope" for name, _ in seen.attributes)
    assert "<th></th>" not in page
    for region in re.findall(r'<div class="scroll"[^>]*>', page):
        assert re.search(r'tabindex="0" role="region" aria-label="[^"]+"', region)


def test_data_that_runs_from_right_to_left_keeps_to_itself(run_folder, tmp_path) -> None:
    """Captions, ids and groups are isolated, whatever control characters they hold."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    data = json.loads((folder / "report.json").read_text())
    turned = "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe"
    for item in data["items"]:
        item.update(id=turned, group=turned, context={"caption": turned})
    (folder / "report.json").write_text(json.dumps(data))
    page = render(load_run(folder))
    before = set(re.findall(f"<([^<>]*)>{turned}", page))
    assert before == {"bdi", 'p dir="auto"'}


def test_verdicts_in_descriptions_are_counted_with_examples(run_folder, tmp_path) -> None:
    """Before and after, escaped."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    record = json.loads((folder / "result.json").read_text())
    told = {"n": 50, "count": 1, "examples": [{"id": "9", "description": "Clearly bright. <script>alert(3)</script>"}]}
    record["stated_labels"] = {"before": {"n": 50, "count": 0, "examples": []}, "after": told}
    (folder / "result.json").write_text(json.dumps(record))
    seen = Page(render(load_run(folder)))
    assert "After: 1 of 50 name a label" in seen.text
    assert "Clearly bright. <script>alert(3)</script>" in seen.text
    assert "script" not in seen.tags


def test_several_raters_are_the_ceiling_beside_the_judge(run_folder, tmp_path) -> None:
    """And who knows of none says nothing of people among themselves."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    assert "People among themselves" not in render(load_run(folder))
    record = json.loads((folder / "result.json").read_text())
    record["humans"] = {
        "rule": "majority",
        "raters": 3,
        "items": 58,
        "ratings": 170,
        "kappa": 0.61,
        "pairs": 3,
        "alpha": None,
        "disagreeing": 17,
        "left_out": {"tied": 2, "unrated": 0},
        "images": 20,
        "judge": {"before": None, "after": 0.55},
        "intervals": {"kappa": {"low": 0.5, "high": 0.7, "level": 0.95, "method": "", "resamples": 2000}},
        "headline": "people agree with each other at kappa 0.61",
    }
    (folder / "result.json").write_text(json.dumps(record))
    text = Page(render(load_run(folder))).text
    assert "People agree with each other at kappa 0.61." in text
    assert "People with each other, Cohen’s κ0.61 0.50 to 0.70mean of 3 pairs of raters" in text
    assert "The judge with people, κ, after0.55on the same 20 images" in text
    assert "κ, before" not in text
    assert "Krippendorff" not in text
    assert "2 images were left out: tied." in text


def test_a_test_set_that_was_used_before_is_said_at_the_top(run_folder, tmp_path) -> None:
    """With the headline's figures, and how often among the facts; so is what the judge says when asked again."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    record = json.loads((folder / "result.json").read_text())
    record["sealed_test"] = {"used": "once, after compiling", "times": 3, "warning": "this set <i>was used</i>"}
    record["repeatability"] = {"summary": "asked 3 times about 10 images, the judge gave the same label"}
    (folder / "result.json").write_text(json.dumps(record))
    text = Page(render(load_run(folder))).text
    assert text.index("This set <i>was used</i>.") < text.index("Agreement with people")
    assert "once, after compiling; 3 times in all" in text
    assert "Asked 3 times about 10 images" in text


def test_a_record_from_before_the_checks_still_has_a_report(run_folder, tmp_path) -> None:
    """Without what it doesn't know of."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    record = json.loads((folder / "result.json").read_text())
    for name in ("fidelity", "stated_labels", "label_errors", "humans", "sealed_test"):
        record.pop(name, None)
    (folder / "result.json").write_text(json.dumps(record))
    assert "What descriptions carry" not in render(load_run(folder))


def test_the_command_writes_where_it_is_told(run_folder, tmp_path) -> None:
    """And says so; a name that is no HTML file's is refused."""
    out = tmp_path / "deep" / "page.html"
    done = CliRunner().invoke(app, ["report", str(run_folder), "--no-images", "--out", str(out), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"report": str(out), "bytes": out.stat().st_size}
    assert CliRunner().invoke(app, ["report", str(run_folder), "--out", str(tmp_path / "page.pdf")]).exit_code == 2


@in_chromium
def test_chromium_opens_it_without_a_complaint_or_a_request(run_folder, tmp_path) -> None:
    """Nothing on the console; the network log knows the file and data URIs only; no dialog, no script."""
    page = write_report(load_run(run_folder), tmp_path / "report.html")
    log = tmp_path / "net.json"
    done = browse(page, "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", away=tmp_path)
    assert "CONSOLE" not in done.stderr
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in done.stdout
    assert not requested(log)


@in_chromium
def test_chromium_would_tell_of_a_request_and_of_a_complaint(tmp_path) -> None:
    """The check above can fail."""
    page, log = tmp_path / "page.html", tmp_path / "net.json"
    page.write_text("<img src=http://127.0.0.1:9/x.png><script>console.error('a complaint')</script>")
    done = browse(page, "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", away=tmp_path)
    assert "a complaint" in done.stderr
    assert requested(log) == {"http://127.0.0.1:9/x.png"}


@in_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_chromium_shows_it_in_both_schemes_on_both_widths(width, run_folder, tmp_path) -> None:
    """The page takes the scheme's background, and never needs to be scrolled sideways."""
    page = write_report(load_run(run_folder), tmp_path / "report.html")
    for scheme, colour in PAGE_COLOURS.items():
        prefers = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
        picture = tmp_path / f"{scheme}.png"
        browse(page, prefers, f"--window-size={width},900", f"--screenshot={picture}", away=tmp_path)
        with Image.open(picture) as shown:
            assert shown.size == (width, 900)
            assert shown.convert("RGB").getpixel((2, 2)) == colour
    assert width_needed(page, width, tmp_path) == width


@in_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_chromium_shows_every_number_beside_a_long_group_name(width, run_folder, tmp_path) -> None:
    """No table but a confusion matrix needs to be scrolled sideways; a name is cut and has its whole as a title."""
    folder, name = shutil.copytree(run_folder, tmp_path / "copy"), "long" * 40
    data = json.loads((folder / "report.json").read_text())
    for place, item in enumerate(data["items"]):
        item["group"] = f"{place % 2}{name}"
    (folder / "report.json").write_text(json.dumps(data))
    page = write_report(load_run(folder), tmp_path / "report.html")
    assert f'title="1{name}"' in page.read_text()
    hidden = "[...document.querySelectorAll('.scroll')].filter(region => region.scrollWidth > region.clientWidth)"
    assert seen_in_frame(page, f"{hidden}.map(region => region.ariaLabel).join()", width, tmp_path) == ""


def test_what_people_wrote_stands_on_the_cards(run_folder, tmp_path) -> None:
    """Of test images and of doubtful labels, as text; the record says how many the optimizer read."""
    folder = shutil.copytree(run_folder, tmp_path / "copy")
    reason = "<i>too dark</i>"
    rows = [
        dspy.Example(image=dspy.Image(grey(9)), label="dark", id=x, reason=reason).with_inputs("image") for x in "ab"
    ]
    error = LikelyError("a", "dark", "bright", 1.0, 3, 1.0)
    record = json.loads((folder / "result.json").read_text())
    assert record["reasons"] == 0
    assert "Reasons" not in Page(render(load_run(folder))).text
    record["reasons"] = 7
    (folder / "result.json").write_text(json.dumps(record))
    before, after = [Verdict("bright"), Verdict("dark")], [Verdict("bright"), Verdict("dark")]
    write_report_data(folder, LABELS, rows, before, after, doubtful=with_examples([error], rows))
    page = render(load_run(folder))
    assert Page(page).text.count(f"People wrote{reason}") == 2
    assert "<i>" not in page
    assert "of 7 training images, read by the optimizer model alone" in page
    assert [item.reason for item in load_run(folder).items] == [reason, ""]
