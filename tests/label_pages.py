"""Pages on which people label: in this process, or served by the command."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from image_files import write_photos
from processes import Command
from starlette.testclient import TestClient

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.files import write_json
from blpo_dspy.labelling.agreement import agreement_page
from blpo_dspy.labelling.items import Work, find_items
from blpo_dspy.labelling.journal import RaterJournal
from blpo_dspy.labelling.order.ordering import RandomOrder
from blpo_dspy.labelling.reviewing.originals import find_originals
from blpo_dspy.labelling.reviewing.review import ReviewSession, review_journal
from blpo_dspy.labelling.server.app import LabelServer
from blpo_dspy.labelling.session import LabelSession
from blpo_dspy.labelling.table import LabelTable
from blpo_dspy.report.run.to_review import (
    FORMAT,
    REVIEW,
    ReviewCase,
    ReviewData,
    ReviewTables,
    load_review_data,
)

SCALE = LabelSpace.ordinal(1, 5)
TOKEN = "a-token-of-tests-only"
HOST = "http://127.0.0.1:8010"
SAME = {"Origin": HOST}
SECRET = "a blurry cat, says the judge"
CASES = (
    ReviewCase("train", "000.png", "doubtful", 1, 5, SECRET),
    ReviewCase("val", "004.png", "wrong", 5, None),
    ReviewCase("test", "006.png", "wrong", 2, 4, SECRET, "the cat decides", print="test-print"),
    ReviewCase("train", "001.png", "disagreement", 2, people=(1, 2, 2)),
)


class Page:
    """A page in this process, as a client asks for it."""

    def __init__(self, session: Any, second_page: Any = None) -> None:
        self.session = session
        self.server = LabelServer(session, "127.0.0.1", TOKEN, second_page)
        self.client = TestClient(self.server.app, base_url=HOST, raise_server_exceptions=False)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Asks for something with the token."""
        return self.client.get(f"/{TOKEN}/{path}", **options)

    def post(self, action: Any, **options: Any) -> httpx.Response:
        """Sends an action as the page does."""
        return self.client.post(f"/{TOKEN}/act", **{"json": action, "headers": SAME, **options})

    def state(self, at: int | None = None) -> Any:
        """What the page shows."""
        return self.get("state" if at is None else f"state?at={at}").json()

    def label(self, label: object, reason: str = "", **changes: Any) -> httpx.Response:
        """Labels what is shown."""
        return self.post(answer(self.state(), label, reason, **changes))


def answer(view: Any, label: object, reason: str = "", **changes: Any) -> dict[str, Any]:
    """The action that labels what is shown."""
    shown = {name: view["item"][name] for name in ("position", "version")}
    return {"do": "answer", **shown, "state": "label", "label": str(label), "reason": reason, **changes}


@contextmanager
def labelling(
    source: Path,
    out: Path,
    *,
    rater: str = "ann",
    labels: LabelSpace = SCALE,
    images: Sequence[str] = ("image",),
    context: Sequence[str] = (),
    **options: Any,
) -> Iterator[Page]:
    """Yields the page of a rater."""
    items = find_items(Work(source, labels, out, InputFields.of(images, context), **options))
    journal = RaterJournal(out, rater, labels, items.fields.names)
    ordering = RandomOrder([item.key for item in items.items if item.key not in items.given])
    table = LabelTable(out, items, journal, ordering)
    try:
        yield Page(
            LabelSession(items, labels, journal, table, ordering, "How good?"), lambda: agreement_page(table.ratings())
        )
    finally:
        journal.close()


def photos(folder: Path, count: int = 6) -> Path:
    """A folder with small photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_photos(folder, count)
    return folder


def run_folder(folder: Path, cases: Sequence[ReviewCase] = CASES, **tables: Any) -> Path:
    """A folder as a run on eight photographs of one table leaves it, as far as a review reads it."""
    photos(folder / "data", 8)
    lines = ["image,why,group,label", *(f"00{i}.png,reason {i},g{i},{i % 5 + 1}" for i in range(8))]
    (folder / "data" / "table.csv").write_text("\n".join(lines))
    run = folder / "run"
    run.mkdir()
    paths = dict.fromkeys(("train", "val", "test"), "../data/table.csv")
    known = ReviewTables(
        **{"paths": paths, "images": ("image",), "group_column": "group", "reason_column": "why", **tables}
    )
    ids = {"train": ("000.png", "001.png", "002.png"), "val": ("004.png", "005.png"), "test": ("006.png", "007.png")}
    data = ReviewData(FORMAT, "a-run", SCALE.to_dict(), "How good?", known, ids, tuple(cases))
    write_json(run / REVIEW, asdict(data))
    return run


@contextmanager
def reviewing(run: Path) -> Iterator[Page]:
    """Yields the page of a review."""
    data = load_review_data(run)
    originals = find_originals(run, data, SCALE)
    journal = review_journal(run / "relabelled.csv", data, SCALE, originals.fields.names)
    try:
        yield Page(ReviewSession(run, data, SCALE, originals, journal))
    finally:
        journal.close()


@dataclass
class Served:
    """A page that the command serves."""

    process: Command
    url: str

    def stop(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ends the command and returns its exit code and what it printed."""
        self.process.send_signal(by)
        return self.process.wait(), self.process.stdout + self.process.stderr


@contextmanager
def served(folder: Path, command: str, *words: object, port: int | None = None) -> Iterator[Served]:
    """Yields the page of `blpo label` or `blpo review` in a process of its own."""
    process = Command(command, *words, "--port", port or free_port(), cwd=folder)
    try:
        found = process.until(lambda: re.search(r"http://\S+/(?=[ \n])", process.stdout))
        yield Served(process, found[0])
    finally:
        process.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def listening(page: Page) -> Iterator[str]:
    """Yields the address of a page that a thread of this process serves."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(page.server.app, "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/{TOKEN}/"
    finally:
        server.should_exit = True
        thread.join(30)
