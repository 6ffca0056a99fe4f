"""The page on which a person labels, beside the cells of a notebook."""

from __future__ import annotations

import csv
import html
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, check_kind
from blpo_dspy.labelling.agreement import agreement_page
from blpo_dspy.labelling.items import Items, Work
from blpo_dspy.labelling.order.chosen import RANDOM_SHARE
from blpo_dspy.labelling.order.judged import judge_items, session_by_judge
from blpo_dspy.labelling.order.ordering import RandomOrder
from blpo_dspy.labelling.session import LabelSession, open_session
from blpo_dspy.predictions.given import models_of
from blpo_dspy.programs.visual_judge import VisualJudge

# A notebook of this machine, in a browser or in an editor.
_NOTEBOOKS = "http://localhost:* http://127.0.0.1:* vscode-webview:"
_SECONDS_TO_START = 30
_open: dict[tuple[Path, str], LabelPage] = {}


class LabelPage:
    """A page that is served to this machine until it is stopped; a notebook shows it as the value of a cell.

    Attributes:
        url: Its address, which has a token in it.
        out: The table that the labels go to.
    """

    def __init__(self, session: LabelSession, height: int) -> None:
        try:
            import uvicorn  # noqa: PLC0415 - of an extra

            from blpo_dspy.labelling.server.app import LabelServer  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise BlpoError(f"{error.name} is not installed; pip install 'blpo-dspy[label]'") from error
        self.out, self._session, self._height = session.table.path, session, height
        server = LabelServer(
            session, "127.0.0.1", second_page=lambda: agreement_page(session.table.ratings()), ancestors=_NOTEBOOKS
        )
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/{server.token}/"
        self._server = uvicorn.Server(
            uvicorn.Config(server.app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],), daemon=True)

    def start(self) -> None:
        """Serves the page from now on.

        Raises:
            BlpoError: If the server does not start.
        """
        self._thread.start()
        until = time.monotonic() + _SECONDS_TO_START
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self.stop()
                raise BlpoError(f"the page did not start within {_SECONDS_TO_START} seconds; repeat the call")
            time.sleep(0.01)

    @property
    def labels(self) -> list[dict[str, str]]:
        """The rows of the table so far, of all raters; its file is `out`."""
        with self.out.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def stop(self) -> None:
        """Ends the page; the labels stay, and another call continues."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_SECONDS_TO_START)
        self._listening.close()
        self._session.journal.close()

    def __repr__(self) -> str:
        return f"LabelPage({self.url!r}, {len(self.labels)} labels in {str(self.out)!r})"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{html.escape(self.url)}" width="100%" height="{self._height}" title="Label images" '
            'style="border:1px solid #ccc"></iframe>'
        )


@dataclass(frozen=True)
class NextByJudge:
    """A judge whose labels say what comes next; it first judges what has neither its verdict nor a label yet.

    Args:
        judge: The judge; of `judge.confident(…)` the doubt counts.
        max_calls: The most LM calls of the judge, those of the same call before included; what it did not judge is
            drawn at random.
        max_usd: The most dollars, likewise.
        random_share: The share of random draws beside what the judge's labels choose.
    """

    judge: VisualJudge
    max_calls: int | None = None
    max_usd: float | None = None
    random_share: float = RANDOM_SHARE


def label_in_notebook(
    source: str | os.PathLike[str],
    labels: LabelSpace,
    *,
    out: str | os.PathLike[str],
    columns: Columns = Columns(),
    task: str = "",
    rater: str = "annotator",
    next: NextByJudge | None = None,
    seed: int = 0,
    allow_outside: bool = False,
    height: int = 720,
) -> LabelPage:
    """Returns the page of `blpo label` for a notebook, which shows it below the cell.

    The same call again resumes. Called again in the same notebook, it ends the page before.

    Args:
        source: A folder, or a table of which some rows may have labels.
        labels: The closed set of labels.
        out: The table that the labels go to, a .csv file.
        columns: Which columns hold what: `images`, `image`, `context`, and `label`, where some rows have one.
        task: The question that the page states.
        rater: Who labels.
        next: A judge whose labels say what comes next; a plain random sample if None.
        seed: Of the order.
        allow_outside: Whether images may lie outside the folder, or that of the table.
        height: Of the page, in pixels.

    Returns:
        The page, with `url`, `labels` and `stop()`.

    Raises:
        BlpoError: If something cannot be used or written, or the extra is not installed.
        ModelError: If the judge has no model, or it stops answering.
    """
    work = Work(
        Path(source), labels, Path(out), _shown(columns), rater, task, columns.image, columns.label, allow_outside
    )
    place = (work.out.absolute(), rater)
    if place in _open:
        _open.pop(place).stop()
    items = work.items()
    if next is None:
        session = open_session(work, items, lambda keys: RandomOrder(keys, seed))
    else:
        session = _session_by(next, work, items, seed)
    try:
        page = LabelPage(session, height)
        page.start()
    except BaseException:
        session.journal.close()
        raise
    _open[place] = page
    return page


def _shown(columns: Columns) -> InputFields:
    """The images and texts that the page shows."""
    check_kind("columns", columns, Columns, "Columns", "columns=Columns(context=['prompt'])")
    instead = "the page writes columns of its own for who labels and why"
    columns.check_read("label_in_notebook", ("images", "image", "label", "context"), instead)
    return InputFields.of(columns.images, columns.context)


def _session_by(chosen: NextByJudge, work: Work, items: Items, seed: int) -> LabelSession:
    """The session in which a judge's labels say what comes next, once it has judged what it is to judge."""
    check_kind("next", chosen, NextByJudge, "NextByJudge", "next=NextByJudge(judge)")
    judge = chosen.judge
    if judge.labels != work.labels:
        raise BlpoError(f"the judge labels {judge.labels}, not {work.labels}; give its labels")
    predictions, _ = judge_items(
        items,
        judge,
        models_of(judge),
        work.out,
        max_calls=chosen.max_calls,
        max_usd=chosen.max_usd,
    )
    return session_by_judge(work, items, predictions, judge, seed=seed, share=chosen.random_share)[0]
