"""What is known before a run is paid for."""

from __future__ import annotations

import base64
import io
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from image_files import png
from PIL import Image
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.embedded.server.http import start_server
from blpo_dspy.runs.checks.preflight import difference_hash, near_duplicates, scarce_labels, sees_pixels

LABELS = LabelSpace("Safe", "Unsafe")


def uri(picture: Image.Image, kind: str = "PNG", **options: Any) -> dspy.Image:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return dspy.Image(f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode())


def photograph(number: int) -> Image.Image:
    """One of the embedded photographs."""
    data = rated_photographs(RATERS["colour"], train=20, val=0, test=0).train[number].image
    return Image.open(io.BytesIO(data)).convert("RGB")


def example(image: dspy.Image, name: str, label: str = "Safe") -> dspy.Example:
    """A labelled example."""
    return dspy.Example(image=image, id=name, label=label).with_inputs("image")


def looking(seen: Seen) -> Any:
    """A model that names the colour it sees."""
    red, _, blue = Image.open(io.BytesIO(base64.b64decode(seen.images[0]))).convert("RGB").getpixel((5, 5))
    return {"colour": "Red." if red > blue else "a deep blue"}


def test_each_image_of_a_row_is_compared() -> None:
    """Whichever input it is in."""
    first, second, other = (photograph(number) for number in (0, 4, 9))
    train = [dspy.Example(left=uri(other), right=uri(first), id="a").with_inputs("left", "right")]
    copy = uri(first.resize((120, 120)), "JPEG", quality=70)
    test = [dspy.Example(views=[uri(second), copy], id="b").with_inputs("views")]
    assert [line.partition(" (")[0] for line in near_duplicates({"train": train, "test": test})] == [
        "train a looks like test b"
    ]


@pytest.mark.parametrize(
    ("script", "sees"),
    [
        (looking, True),
        (lambda seen: {"colour": "red"}, False),
        (lambda seen: {"colour": "red or blue"}, False),
        (lambda seen: "I cannot see an image.", False),
    ],
)
def test_a_model_that_sees_is_told_from_one_that_guesses(script, sees) -> None:
    """By two pictures that differ in nothing but colour."""
    probe = sees_pixels(scripted_lm(script))
    assert probe.sees is sees
    assert set(probe.answers) == {"red", "blue"}


def test_copies_across_sets_are_found_and_other_pictures_are_not() -> None:
    """Smaller, brighter, as JPEG of low quality: still the same picture."""
    one, other = photograph(0), photograph(7)
    copy = uri(one.resize((90, 90)).point(lambda v: min(255, v + 12)), "JPEG", quality=40)
    sets = {
        "train": [example(uri(one), "a"), example(uri(other), "b")],
        "val": [example(uri(photograph(11)), "c")],
        "test": [example(copy, "d")],
    }
    (line,) = near_duplicates(sets)
    assert line.startswith("train a looks like test d (")


def test_flat_pictures_and_addresses_are_not_compared() -> None:
    """Plain pictures are all alike, and an address is never fetched."""
    assert difference_hash(uri(Image.new("RGB", (50, 50), "teal"))) is None
    assert difference_hash(dspy.Image("https://x.example/1.png")) is None
    plain = [example(uri(Image.new("RGB", (50, 50), "teal")), "a")]
    assert near_duplicates({"train": plain, "test": plain}) == []


def test_a_picture_that_cannot_be_decoded_is_not_compared() -> None:
    """It passed the check of its structure, and the other pictures are still compared."""
    short = png(8, 8, b"\0")
    assert difference_hash(PixelPolicy().prepare(short)) is None
    train = [example(PixelPolicy().prepare(short), "a"), example(uri(photograph(0)), "b")]
    assert len(near_duplicates({"train": train, "test": [example(uri(photograph(0)), "c")]})) == 1


def test_labels_that_a_set_hardly_holds_are_named() -> None:
    """With their numbers; an empty set is none."""
    image = dspy.Image("https://x.example/1.png")
    train = [example(image, str(i)) for i in range(9)] + [example(image, "u", "Unsafe")] * 2
    assert scarce_labels({"train": train, "val": []}, LABELS) == [
        "train (11 examples) holds few of some labels: 2 of label Unsafe"
    ]


@pytest.mark.slow
def test_the_command_line_tells_of_copies_and_refuses_a_blind_model(tmp_path) -> None:
    """Before a call of the search is paid for; the offline engine answers no question about colours."""
    rows = ["image,label"]
    for number in range(12):
        name = f"{number}.png"
        photograph(number % 11).save(tmp_path / name)
        rows.append(f"{name},{number % 2}")
    for table in ("t", "v", "s"):
        (tmp_path / f"{table}.csv").write_text("\n".join(rows[:1] + rows[1 + "tvs".index(table) * 4 :][:4]) + "\n")
    photograph(0).resize((70, 70)).save(tmp_path / "11.png")
    arguments = [str(tmp_path / "t.csv"), "--labels", "0,1", "--task", "Judge.", "--preflight"]
    arguments += ["--val", str(tmp_path / "v.csv"), "--test", str(tmp_path / "s.csv")]
    with start_server() as address:
        model = ["--judge-model", "openai/embedded", "--api-base", address, "--out", str(tmp_path / "judge.json")]
        done = CliRunner().invoke(app, ["compile", *arguments, *model])
    assert done.exit_code == 2
    assert "train 0.png looks like test 11.png" in done.stderr
    assert "train (4 examples) holds few of some labels: 2 of label 0, 2 of label 1" in done.stderr
    assert "doesn't seem to see images" in done.stderr
    assert not (tmp_path / "judge.json").exists()
