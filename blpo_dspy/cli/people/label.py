"""`blpo label`: a local page on which people label images."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from blpo_dspy.cli.groups import Where
from blpo_dspy.cli.jobs import LabelJob
from blpo_dspy.cli.judging.serve import TOKEN, listening
from blpo_dspy.cli.screen import Screen
from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.items import Work
from blpo_dspy.labelling.order.ordering import RANDOM, RandomOrder
from blpo_dspy.labelling.session import LabelSession, Session, open_session
from blpo_dspy.labelling.table import LabelTable
from blpo_dspy.predictions.reading import RATER, REASON
from blpo_dspy.runs.options.texts import parse_labels

if TYPE_CHECKING:
    from blpo_dspy.labelling.items import Items

_SHORTEST_TOKEN = 16


def label_images(job: LabelJob, screen: Screen) -> None:
    """Serves the page until it is stopped by Ctrl-C or SIGTERM; the same command resumes.

    Raises:
        BlpoError: If something cannot be used or written, the extra is not installed, or an option doesn't fit.
        ModelError: If a model that judges stops answering.
    """
    space = parse_labels(job.labels, job.scale, job.scores, None, job.pairs)
    work = Work(
        job.source,
        space,
        job.out,
        InputFields.of(job.images, job.context),
        job.rater,
        job.task.strip(),
        job.image_column,
        job.label_column,
        job.allow_outside,
    )
    items = work.items()
    for note in items.notes:
        screen.note(note)
    session = _opened(job, work, items, screen)
    try:
        left = session.view()["progress"]
        done = left["labelled"] + left["cannot"] + left["before"]
        screen.text(f"Labels  {work.out}, by {work.rater}: {done} of {left['total']} answered")
        serve_page(session, job.where, screen, lambda: _agreement_page(session.table))
        judge = Path(job.next) if job.next.lower().endswith(".json") else None
        screen.text(f"Next    {next_command(work, session.table, judge)}")
    finally:
        session.journal.close()


def _opened(job: LabelJob, work: Work, items: Items, screen: Screen) -> LabelSession:
    """The session, with what comes next in it."""
    if job.next == RANDOM:
        return open_session(work, items, lambda keys: RandomOrder(keys, job.seed))
    from blpo_dspy.cli.people.label_next import session_of_next  # noqa: PLC0415 - a judge takes long to import

    return session_of_next(job, work, items, screen)


def serve_page(session: Session, where: Where, screen: Screen, second_page: Callable[[], str] | None = None) -> None:
    """Serves a session and prints its address, which has the token in it.

    Raises:
        BlpoError: If the extra is not installed, or the token is too short.
    """
    try:
        import uvicorn  # noqa: PLC0415 - of an extra

        from blpo_dspy.labelling.server.app import LabelServer  # noqa: PLC0415
        from blpo_dspy.serving.web import is_loopback  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BlpoError(f"{error.name} is not installed; pip install 'blpo-dspy[label]'") from error
    token = os.environ.get(TOKEN) or None
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.replace("-", "").replace("_", "").isalnum()):
        raise BlpoError(
            f"{TOKEN} is part of the address: set it to at least {_SHORTEST_TOKEN} letters, digits, - or _, or unset it"
        )
    host = where.host or "127.0.0.1"
    server = LabelServer(session, host, token, second_page)
    if not is_loopback(host):
        screen.note(
            f"other machines reach {host}: whoever has the address below can label, so treat it as a password; for "
            "0.0.0.0 or [::] in it, put an address of this machine"
        )
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        server.app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    with listening(host, where.port) as opened:
        screen.text(f"Open    http://{shown}:{where.port}/{server.token}/ (Ctrl-C stops; the same command resumes)")
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again once it has stopped
            uvicorn.Server(config).run(sockets=[opened])


def _agreement_page(table: LabelTable) -> str:
    """The second page, whose figures need libraries that are slow to import."""
    from blpo_dspy.labelling.agreement import agreement_page  # noqa: PLC0415

    return agreement_page(table.ratings())


def next_command(job: Work, table: LabelTable, judge: Path | None = None) -> str:
    """Returns the command that aligns a judge with the labels: that which said what to label, if there is one."""
    words, named = ["blpo", "compile", str(job.out)], job.fields.names[: len(job.fields.images)]
    if judge is not None:  # it has labels, task, images and context of its own
        words += ["--start", str(judge)]
    else:
        words += [*label_words(job.labels), "--task", job.task or "…"]
        if job.image_column is None and named != ("image",):
            words += ["--images", ",".join(map(str, job.fields.images))]
        if job.fields.context:
            words += ["--context", ",".join(job.fields.context)]
    if job.image_column is not None:
        words += ["--image-column", job.image_column]
    words += ["--reason-column", REASON]
    ratings = table.ratings()
    if ratings is not None and len(ratings.raters) > 1:
        words += ["--repeated-rows", "--rater-column", RATER]
    first = table.items.items[0].cells if table.items.items else {}
    outside = any(first.get(job.image_column or name, "").startswith("../") for name in named)
    words += ["--allow-outside"] * outside
    return shlex.join([*words, "--out", "judge.json" if judge is None else f"{judge.stem}2.json"])


def label_words(labels: LabelSpace) -> list[str]:
    """Returns the option of the command line that states labels."""
    if labels.score_range is not None:
        found = labels.score_range
        step = "" if found.step is None else f":{found.step}"
        return ["--scores", f"{found.low}-{found.high}{step}"]
    if labels.paired:
        return ["--pairs", ",".join(labels.names)]
    if labels.ordered:
        return ["--scale", f"{labels.names[0]}-{labels.names[-1]}"]
    return ["--labels", ",".join(labels.names)]
