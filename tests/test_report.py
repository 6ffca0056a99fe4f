"""The report of a run: what it says, that data stays text, and how a browser shows it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dspy
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner
from worlds import LABELS, VALIDATION, examples, grey, student, world

from blpo_dspy.aligning import align
from blpo_dspy.cli import app
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling import Verdict
from blpo_dspy.labels import LabelSpace
from blpo_dspy.models import Models
from blpo_dspy.options import Search
from blpo_dspy.programs.artifact import write_json
from blpo_dspy.progress import Watch
from blpo_dspy.report import load_run, write_report, write_report_data
from blpo_dspy.report.charts import Point, line_chart
from blpo_dspy.report.items import MOST_SHOWN, Item, Opinion
from blpo_dspy.report.page import render
from blpo_dspy.report.words import word_diff
from blpo_dspy.results import result
from blpo_dspy.sets import Sets

HOSTILE = "<script>alert(1)</script><img src=https://evil.example/x.png onerror=alert(2)>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, so no browser shows the page")


def captioned(data: list[dspy.Example], caption: str) -> list[dspy.Example]:
    """The examples with a caption and a group each."""
    return [
        dspy.Example(**e, caption=caption, id=f"{caption}{i}", group=f"g{i % 2}").with_inputs("image", "caption")
        for i, e in enumerate(data)
    ]


def leave_run(folder: Path, *, caption: str = "a grey", **search: Any) -> Path:
    """Leaves the folder of a run on grey pictures, every one captioned alike."""
    folder.mkdir(exist_ok=True)
    parts = [captioned(data, caption) for data in (examples(range(0, 250, 6)), VALIDATION, examples(range(1, 250, 5)))]
    sets = Sets(*parts, how=f"made here {caption}")
    lm = world()
    options = {"rounds": 3, "threads": 2, **search}
    start = student(context=("caption",), evidence="both")
    with Watch(Console(file=io.StringIO()), shown=False) as watch:
        aligned = align(start, sets, Models(lm, lm, lm), Search(**options), watch)
    write_json(
        folder / "result.json", result(aligned, sets, {"judge": f"m{caption}", "verbalizer": "v", "optimizer": "o"})
    )
    before, after = aligned.verdicts
    command = ["blpo", "compile", "t.csv", "--api-base", "http://user:secret@host/v1"]
    write_report_data(folder, LABELS, sets.test, before, after, command=command)
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data is full of markup."""
    return leave_run(tmp_path_factory.mktemp("report") / "run", caption=HOSTILE)


class Seen(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag and its attributes."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Notes text."""
        self.text += data


def test_the_page_has_every_section(run_folder) -> None:
    """Each link of the contents leads to a section that is there."""
    seen = Seen(render(load_run(run_folder)))
    ids = {value for name, value in seen.attributes if name == "id"}
    links = {value[1:] for name, value in seen.attributes if name == "href"}
    assert (
        links == ids == {"figures", "rounds", "instructions", "confusion", "groups", "items", "search", "cost", "data"}
    )


def test_the_headline_says_what_the_paired_comparison_found(run_folder) -> None:
    """Counted here from the items themselves."""
    items = load_run(run_folder).items
    right = [sum(getattr(i, when).label == i.label for i in items) for when in ("before", "after")]
    text = Seen(render(load_run(run_folder))).text
    assert "Agrees with people better than before" in text
    assert f"{right[0] / len(items):.0%}→{right[1] / len(items):.0%}" in text
    fixed = sum(i.before.label != i.label == i.after.label for i in items)
    assert f"{fixed} were fixed" in text
    assert f"Fixed: {fixed}" in text


def test_markup_in_data_shows_as_text_and_makes_no_tag(run_folder) -> None:
    """Captions, ids, model names and descriptions of where data is from are all hostile here."""
    seen = Seen(render(load_run(run_folder)))
    assert "<script>alert(1)</script>" in seen.text
    assert "script" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_the_page_refers_to_nothing_outside_itself(run_folder) -> None:
    """No address in any attribute or style; a content security policy forbids what a reader might miss."""
    page = render(load_run(run_folder))
    seen = Seen(page)
    for name, value in seen.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:image/jpeg;base64,", "#"))
    assert "link" not in seen.tags
    assert "url(" not in page
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in seen.attributes


def test_without_images_there_is_no_pixel(run_folder) -> None:
    """But all the rest is."""
    with_pictures, without = render(load_run(run_folder)), render(load_run(run_folder), images=False)
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
    assert render(run, blur=("Safe",)).count('<label class="frame blurred">') == 2


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
    assert json.loads((tmp_path / "report.json").read_text())["items"][0]["thumbnail"] is None


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
    file = write_report(load_run(tmp_path), tmp_path / "report.html")
    assert file.read_text().count("<article") == 3 * MOST_SHOWN
    assert file.stat().st_size < 15e6


def test_a_test_set_that_was_not_judged_is_no_evidence(tmp_path) -> None:
    """The validation figures are shown as what they are."""
    folder = leave_run(tmp_path / "run", max_calls=150)
    assert load_run(folder).items == ()
    text = Seen(render(load_run(folder))).text
    assert "Not measured on sealed test images" in text
    assert "better than before" not in text


def test_a_change_within_chance_is_called_that(tmp_path, run_folder) -> None:
    """One item of fifty fixed."""
    shutil.copy(run_folder / "result.json", tmp_path)
    data = captioned(examples(range(0, 250, 5)), "c")
    right = [Verdict(example.label) for example in data]
    wrong = [Verdict("bright" if data[0].label == "dark" else "dark"), *right[1:]]
    write_report_data(tmp_path, LABELS, data, wrong, right)
    assert "Not distinguishable from no change" in Seen(render(load_run(tmp_path))).text


def test_an_address_in_the_command_is_left_out(run_folder) -> None:
    """It may hold a key."""
    for text in ((run_folder / "report.json").read_text(), render(load_run(run_folder))):
        assert "secret" not in text
    assert load_run(run_folder).command == "blpo compile t.csv --api-base URL"


def test_a_folder_without_a_run_is_said_so(tmp_path) -> None:
    """By its file, with the way out."""
    with pytest.raises(BlpoError, match=r"result\.json: cannot be read .*blpo compile --run-dir"):
        load_run(tmp_path)


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


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/passwd", "thumbnails"])
def test_a_thumbnail_is_a_file_of_the_run_only(name: str, run_folder) -> None:
    """What report.json names is data, never a path elsewhere."""
    item = Item("1", "dark", Opinion("dark"), Opinion("dark"), thumbnail=name)
    assert load_run(run_folder).thumbnail(item) is None


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


@pytest.mark.parametrize(("values", "spent"), [([0.5], [0]), ([-0.9, 1.0], [3, 100_000]), ([0.99, 0.999], [1, 2])])
def test_a_chart_stays_within_its_frame(values, spent) -> None:
    """One point, negative figures and figures near 1."""
    chart = line_chart([Point(x, y, None, "") for x, y in zip(spent, values, strict=True)])
    assert all(0 <= mark.y <= chart.bottom and chart.left <= mark.x <= chart.right for mark in chart.marks)
    assert all(0 <= y <= chart.bottom for y, _ in chart.rows)
    assert 1 <= len(chart.columns) <= 6


def test_the_command_writes_where_it_is_told(run_folder, tmp_path) -> None:
    """And says so; a name that is no HTML file's is refused."""
    out = tmp_path / "deep" / "page.html"
    done = CliRunner().invoke(app, ["report", str(run_folder), "--no-images", "--out", str(out), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"report": str(out), "bytes": out.stat().st_size}
    assert CliRunner().invoke(app, ["report", str(run_folder), "--out", str(tmp_path / "page.pdf")]).exit_code == 2


def browse(page: Path, *flags: str, away: Path) -> subprocess.CompletedProcess[str]:
    """Opens a page in headless Chromium with a profile of its own."""
    quiet = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    command = [str(CHROMIUM), "--headless", "--no-sandbox", *quiet.split(), "--disable-sync", "--hide-scrollbars"]
    command += [f"--user-data-dir={away / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ})


def requested(log: Path) -> set[str]:
    """The addresses in a network log but those of Chromium's maker, which it asks for at any start."""
    addresses = set(re.findall(r'"url":"((?:https?|wss?)://[^"]*)"', log.read_text()))
    return {a for a in addresses if not str(urlsplit(a).hostname).endswith((".google.com", ".googleapis.com"))}


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
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_shows_it_in_both_schemes_on_both_widths(width, scheme, run_folder, tmp_path) -> None:
    """The page takes the scheme's background, and never needs to be scrolled sideways."""
    page = write_report(load_run(run_folder), tmp_path / "report.html")
    prefers = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    picture = tmp_path / "page.png"
    browse(page, prefers, f"--window-size={width},900", f"--screenshot={picture}", away=tmp_path)
    with Image.open(picture) as shown:
        assert shown.size == (width, 900)
        assert (
            shown.convert("RGB").getpixel((2, 2)) == {"light": (0xF6, 0xF7, 0xF9), "dark": (0x11, 0x14, 0x1A)}[scheme]
        )
    assert width_needed(page, width, tmp_path) == width


def width_needed(page: Path, width: int, away: Path) -> int:
    """How wide a page is in a frame of some width, told by a script in a copy without its policy."""
    script = "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>"
    inner = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text()).replace("</body>", script)
    (away / "inner.html").write_text(inner)
    (away / "outer.html").write_text(
        "<script>onmessage = message => { document.title = 'width ' + message.data }</script>"
        f"<iframe src=inner.html style='border: 0; width: {width}px; height: 900px'></iframe>"
    )
    size = f"--window-size={width + 200},1000"
    seen = browse(away / "outer.html", size, "--virtual-time-budget=3000", "--dump-dom", away=away).stdout
    found = re.search(r"<title>width (\d+)</title>", seen)
    assert found, seen[:500]
    return int(found[1])
