"""A page as a parser and as headless Chromium see it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, so no browser shows the page")
PAGE_COLOURS = {"light": (0xF6, 0xF7, 0xF9), "dark": (0x11, 0x14, 0x1A)}


class Page(HTMLParser):
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


def width_needed(page: Path, width: int, away: Path) -> int:
    """How wide a page is in a frame of some width."""
    return int(seen_in_frame(page, "document.documentElement.scrollWidth", width, away))


def seen_in_frame(page: Path, what: str, width: int, away: Path) -> str:
    """The value of an expression in a frame of some width, told by a script in a copy without the page's policy."""
    script = f"<script>parent.postMessage({what}, '*')</script></body>"
    inner = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text()).replace("</body>", script)
    (away / "inner.html").write_text(inner)
    (away / "outer.html").write_text(
        "<script>onmessage = message => { document.title = 'seen ' + message.data }</script>"
        f"<iframe src=inner.html style='border: 0; width: {width}px; height: 900px'></iframe>"
    )
    size = f"--window-size={width + 200},1000"
    seen = browse(away / "outer.html", size, "--virtual-time-budget=3000", "--dump-dom", away=away).stdout
    found = re.search(r"<title>seen ([^<]*)</title>", seen)
    assert found, seen[:500]
    return found[1].strip()
