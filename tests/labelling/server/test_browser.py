"""The labelling page in a real browser: keyboard, mouse, phone, several tabs and people, and hostile data."""

from __future__ import annotations

import csv
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser import CHROMIUM, in_chromium
from image_files import encoded, photo
from label_pages import SECRET, labelling, listening, photos, reviewing, run_folder, served

from blpo_dspy.data.labels.space import LabelSpace

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed, so no browser is driven")
pytestmark = [pytest.mark.slow, in_chromium]

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the tests of this file."""
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Tab:
    """A tab, with what it printed and asked for."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.printed: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.printed.append(message.text))
        self.page.on("pageerror", lambda error: self.printed.append(str(error)))
        self.page.on("dialog", lambda dialog: self.printed.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.url = url
        self.page.goto(url)
        self.until_shown()

    def until_shown(self) -> None:
        """Waits for a picture."""
        self.page.wait_for_selector("figure img.ready")

    def press(self, *keys: str) -> None:
        """Presses keys, each once the page shows what the one before led to."""
        for key in keys:
            self.after(lambda key=key: self.page.keyboard.press(key))

    def after(self, action: Callable[[], None]) -> None:
        """Does something and waits until the page says that something else is shown."""
        before = self.text("#live")
        action()
        self.until(lambda: self.text("#live") != before)

    def until(self, happened: Callable[[], bool]) -> None:
        """Waits for something; Playwright's own way runs text as code, which the page's policy forbids."""
        until = time.monotonic() + 20
        while not happened():
            assert time.monotonic() < until
            self.page.wait_for_timeout(5)

    def text(self, selector: str) -> str:
        """The text of an element."""
        return str(self.page.text_content(selector))

    @property
    def shown(self) -> str:
        """The addresses of the pictures that are shown."""
        return str(self.page.evaluate("[...document.querySelectorAll('figure img')].map(i => i.src).join(' ')"))

    def check(self) -> None:
        """Checks that nothing was printed, and that nothing was asked of anybody else."""
        assert self.printed == []
        assert {urlsplit(url).netloc for url in self.asked} == {urlsplit(self.url).netloc}


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of labels."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_ten_pictures_by_keyboard_undo_reload_kill_and_resume(browser: Any, tmp_path: Path) -> None:
    """The page that comes back shows what comes next, and the table has each label once."""
    photos(tmp_path / "photos", 12)
    words = ("photos", "--scale", "1-5", "--out", "labels.csv")
    with served(tmp_path, "label", *words) as page:
        tab = Tab(browser, page.url)
        tab.press(*"12345")
        fifth = tab.shown
        tab.press("2", "u")
        assert tab.shown == fifth
        tab.press(*"1234")
        tab.page.reload()
        tab.until_shown()
        assert tab.text("#count") == "9 of 12"
        tab.check()
        page.stop(signal.SIGKILL)
        tab.page.keyboard.press("1")
        tab.page.wait_for_selector("#notice:not([hidden])")
        assert "start the command again" in tab.text("#notice")
        ninth = tab.shown
    assert [row["label"] for row in rows(tmp_path / "labels.csv")] == list("123451234")
    with served(tmp_path, "label", *words) as page:
        tab = Tab(browser, page.url)
        assert urlsplit(tab.shown).query == urlsplit(ninth).query
        tab.press("5")
        tab.check()
    written = rows(tmp_path / "labels.csv")
    assert [row["label"] for row in written] == list("1234512345")
    assert len({row["image"] for row in written}) == 10


def test_the_next_picture_is_there_before_it_is_needed(browser: Any, tmp_path: Path) -> None:
    """A label waits for the disk alone: all that is shown then was loaded, and decoded, ahead."""
    with labelling(photos(tmp_path / "photos", 8), tmp_path / "l.csv") as page, listening(page) as url:
        tab = Tab(browser, url)
        for _ in range(4):
            tab.page.wait_for_load_state("networkidle")
            before = set(tab.asked)
            tab.press("3")
            assert tab.shown in before
        tab.check()


def test_reason_skip_cannot_tell_back_and_next(browser: Any, tmp_path: Path) -> None:
    """By keys, as the page says; a reason is written first, and Enter leads back."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos", 5), out) as page, listening(page) as url:
        tab = Tab(browser, url)
        tab.page.keyboard.press("r")
        tab.page.keyboard.type("4 stars? too dark, s")
        tab.page.keyboard.press("Enter")
        tab.press("2", "c", "s")
        for state in ("skipped.", "can’t tell.", "labelled 2."):
            tab.press("b")
            assert tab.text("#live").endswith(state)
        assert tab.page.input_value("#reason") == "4 stars? too dark, s"
        assert tab.page.get_attribute("#labels button:nth-child(2)", "aria-pressed") == "true"
        tab.press("5", "b", "n")
        tab.check()
    assert [(row["label"], row["cannot_tell"], row["reason"]) for row in rows(out)] == [
        ("5", "", "4 stars? too dark, s"), ("", "yes", ""), ("", "", ""),
    ]  # fmt: skip


def test_a_held_key_is_one_answer(browser: Any, tmp_path: Path) -> None:
    """Nobody labels ten pictures by leaning on the keyboard."""
    with labelling(photos(tmp_path / "photos", 6), tmp_path / "l.csv") as page, listening(page) as url:
        tab = Tab(browser, url)
        tab.after(lambda: [tab.page.keyboard.down("3") for _ in range(5)])
        tab.page.wait_for_load_state("networkidle")
        assert tab.text("#count") == "1 of 6"


def test_zoom_by_keys_wheel_and_button(browser: Any, tmp_path: Path) -> None:
    """Fit, full size, and anything between; the next picture fits again."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(encoded(photo(2000, 1000)))
    scale = "new DOMMatrix(getComputedStyle(document.querySelector('figure img')).transform).a"
    with labelling(folder, tmp_path / "l.csv") as page, listening(page) as url:
        tab = Tab(browser, url, viewport={"width": 1000, "height": 800})
        assert tab.page.evaluate(scale) == pytest.approx(0.5, abs=0.01)
        tab.page.keyboard.press("f")
        assert tab.page.evaluate(scale) == 1
        assert tab.page.get_attribute("#fit", "aria-pressed") == "true"
        tab.page.keyboard.press("f")
        tab.page.mouse.move(300, 300)
        tab.page.mouse.wheel(0, -500)
        tab.until(lambda: tab.page.evaluate(scale) > 0.9)
        tab.page.keyboard.press("-")
        tab.press("3")
        assert tab.page.evaluate(scale) == pytest.approx(0.5, abs=0.01)
        tab.check()


def test_two_people_label_blindly_and_see_how_far_they_agree(browser: Any, tmp_path: Path) -> None:
    """At the same time, on pages of their own."""
    folder, out = photos(tmp_path / "photos", 10), tmp_path / "labels.csv"
    people = labelling(folder, out, rater="ann"), labelling(folder, out, rater="ben")
    with people[0] as ann, people[1] as ben, listening(ann) as first, listening(ben) as second:
        tabs = [Tab(browser, url) for url in (first, second)]
        for keys in zip("1234512", "1234514", strict=True):
            for tab, key in zip(tabs, keys, strict=True):
                tab.press(key)
        assert tabs[0].shown.split("/")[-2:] == tabs[1].shown.split("/")[-2:]
        assert [tab.text("#count") for tab in tabs] == ["7 of 10"] * 2
        tabs[0].page.click("#figures")
        assert "6 of the 7 images" in tabs[0].text("main")
        assert "95 % interval" in tabs[0].text("main")
        for tab in tabs:
            tab.check()
    assert len(rows(out)) == 14


def test_how_many_labels_suffice_is_said_on_a_phone(browser: Any, tmp_path: Path) -> None:
    """In a line that fits; the picture stays large."""
    with labelling(photos(tmp_path / "photos", 30), tmp_path / "labels.csv") as page, listening(page) as url:
        for number in range(20):
            page.label(number % 5 + 1)
        tab = Tab(browser, url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        assert "20 random images" in tab.text("#enough")
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
        assert tab.page.query_selector("figure").bounding_box()["height"] >= 300
        tab.check()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_pair_with_a_text_by_arrows_on_a_phone_and_a_desk(browser: Any, tmp_path: Path, width: int) -> None:
    """All of it fits the screen; both pictures are large, and named."""
    photos(tmp_path, 6)
    lines = ["left,right,prompt", *(f"00{i}.png,00{i + 1}.png,{'a long text ' * 40}" for i in range(5))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    out = tmp_path / "labels.csv"
    task: Any = {"labels": LabelSpace.pairwise("A", "B", tie="tie"), "images": ["left", "right"], "context": ["prompt"]}
    with labelling(tmp_path / "pairs.csv", out, **task) as page, listening(page) as url:
        tab = Tab(browser, url, viewport={"width": width, "height": 844}, has_touch=True, is_mobile=width < 500)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        boxes = [figure.bounding_box() for figure in tab.page.query_selector_all("figure")]
        assert all(box["width"] >= 0.3 * width and box["height"] >= 150 for box in boxes)
        for button in tab.page.query_selector_all("#panel button:visible"):
            box = button.bounding_box()
            assert box["y"] + box["height"] <= 844
            assert box["height"] >= 40
        assert [caption.text_content() for caption in tab.page.query_selector_all("figcaption")] == [
            "A: left",
            "B: right",
        ]
        tab.press("ArrowLeft", "ArrowRight", "ArrowDown")
        tab.after(lambda: tab.page.tap("#labels button:nth-child(2)"))
        tab.check()
    assert [row["label"] for row in rows(out)] == ["A", "B", "tie", "B"]


def test_long_labels_keep_their_words_whole_on_a_phone(browser: Any, tmp_path: Path) -> None:
    """In as many rows as they need; a word that no screen holds is broken."""
    labels = LabelSpace(
        "Safe for children", "Unsafe: violence or weapons", "Cannot be decided", "Unsafe: nudity", "x" * 90
    )
    with labelling(photos(tmp_path / "p", 2), tmp_path / "o.csv", labels=labels) as page, listening(page) as url:
        tab = Tab(browser, url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
        buttons = [button.bounding_box() for button in tab.page.query_selector_all("#labels button")]
        assert all(box["width"] >= 75 and box["x"] + box["width"] <= 390 for box in buttons)
        tab.check()


def test_scores_are_typed(browser: Any, tmp_path: Path) -> None:
    """With Enter; keys that are no number still act."""
    out = tmp_path / "labels.csv"
    scores = LabelSpace.scores(0, 100)
    with labelling(photos(tmp_path / "photos", 4), out, labels=scores) as page, listening(page) as url:
        tab = Tab(browser, url)
        for score in ("73.5", "8"):
            tab.page.keyboard.type(score)
            tab.press("Enter")
        tab.press("c")
        tab.check()
    assert [row["label"] for row in rows(out)] == ["73.5", "8", ""]


def test_a_second_tab_shows_the_answer_that_the_first_gave(browser: Any, tmp_path: Path) -> None:
    """And overwrites it only when a person has seen it."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos", 4), out) as page, listening(page) as url:
        first, second = Tab(browser, url), Tab(browser, url)
        first.press("1")
        second.page.keyboard.press("5")
        second.page.wait_for_selector("#notice:not([hidden])")
        assert "another tab" in second.text("#notice")
        assert second.page.get_attribute("#labels button:nth-child(1)", "aria-pressed") == "true"
        assert [row["label"] for row in rows(out)] == ["1"]
        second.press("5")
        assert [row["label"] for row in rows(out)] == ["5"]


def test_hostile_texts_and_pictures_do_nothing(browser: Any, tmp_path: Path) -> None:
    """Texts are shown as they are, and a page under the name of a picture is not shown; other answers still work."""
    photos(tmp_path, 1)
    (tmp_path / f"{HOSTILE[:20].replace('/', '')}.png").write_text(f"<html>{HOSTILE}</html>")
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["image", "prompt"], *([path.name, HOSTILE + "x" * 100_000] for path in tmp_path.glob("*.png"))]
        )
    out = tmp_path / "labels.csv"
    with labelling(tmp_path / "table.csv", out, context=["prompt"]) as page, listening(page) as url:
        tab = Tab.__new__(Tab)
        tab.until_shown = lambda: tab.page.wait_for_selector("figure img.ready, .wrong")  # type: ignore[method-assign]
        Tab.__init__(tab, browser, url)
        for _ in range(2):
            assert tab.text("#texts p").startswith(HOSTILE)
            assert "100,0" in tab.text("#texts small")
            if tab.page.query_selector(".wrong"):
                tab.page.keyboard.press("3")
                assert "cannot be shown" in tab.text(".wrong")
            tab.press("c")
        assert tab.page.title() == "Label (done)"
        assert not [line for line in tab.printed if "422" not in line]
        assert {urlsplit(url).netloc for url in tab.asked} == {urlsplit(tab.url).netloc}
    assert [row["cannot_tell"] for row in rows(out)] == ["yes", "yes"]


def test_everything_has_a_name_and_a_place_in_the_order_of_focus(browser: Any, tmp_path: Path) -> None:
    """For a screen reader: buttons, pictures, fields; what happened is said."""
    with labelling(photos(tmp_path / "photos", 4), tmp_path / "l.csv") as page, listening(page) as url:
        tab = Tab(browser, url)
        names = []
        for _ in range(14):
            tab.page.keyboard.press("Tab")
            names.append(tab.page.evaluate(
                "(document.activeElement.ariaLabel || document.activeElement.textContent).trim().slice(0, 12)"
            ))  # fmt: skip
        labels = names.index("1 1")
        assert names[labels : labels + 5] == [f"{i} {i}" for i in range(1, 6)]
        assert names.index("the picture;") < labels < names.index("Why, in a fe") < names.index("Can’t tell C")
        assert tab.page.get_attribute("figure img", "alt").startswith("Picture ")
        assert tab.page.get_attribute("#live", "role") == "status"
        tab.page.focus("#labels button:nth-child(2)")
        tab.press("Enter")
        assert tab.text("#live").startswith("Saved. Picture ")
        assert tab.page.evaluate("document.activeElement.textContent") == "2 2"
        tab.check()


def test_a_review_shows_label_and_judge_only_after_an_answer(browser: Any, tmp_path: Path) -> None:
    """Then a key decides; undo leads back to the answer, and once more to the picture alone."""
    run = run_folder(tmp_path)
    with reviewing(run) as page, listening(page) as url:
        tab = Tab(browser, url, viewport={"width": 390, "height": 844})
        assert SECRET not in tab.page.content()
        tab.press("4")
        assert SECRET in tab.text("#reveal")
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
        assert tab.page.evaluate("document.activeElement.textContent").startswith("Relabel to 4")
        tab.press("k")
        assert tab.text("#count") == "1 of 4"
        assert SECRET not in tab.page.content()
        tab.press("u")
        assert SECRET in tab.text("#reveal")
        tab.press("Enter", "c", "d")
        assert tab.text("#shares") == "keep 0relabel 1drop 1"
        tab.check()
    assert [(row["decision"], row["new_label"]) for row in rows(run / "relabelled.csv")] == [
        ("relabel", "4"), ("drop", ""),
    ]  # fmt: skip
