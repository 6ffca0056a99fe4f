"""`blpo review`: a local page on which people look again at doubtful labels and at what a judge still gets wrong."""

from __future__ import annotations

import shlex
from pathlib import Path

from blpo_dspy.cli.jobs import ReviewJob
from blpo_dspy.cli.people.label import label_words, serve_page
from blpo_dspy.cli.screen import Screen
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import writable_folder
from blpo_dspy.labelling.reviewing.originals import find_originals
from blpo_dspy.labelling.reviewing.review import TABLE, ReviewSession, review_journal
from blpo_dspy.report.run.to_review import ReviewData, load_review_data
from blpo_dspy.runs.jobs import EMBEDDED


def review_run(job: ReviewJob, screen: Screen) -> None:
    """Serves the page until it is stopped; the same command resumes.

    Raises:
        BlpoError: If the folder holds no run, there is nothing to look at again, or the page cannot be served.
    """
    folder = job.run_dir
    data = load_review_data(folder)
    labels = LabelSpace.from_dict(data.labels)
    originals = find_originals(folder, data, labels)
    table = writable_folder(folder) / TABLE
    journal = review_journal(table, data, labels, originals.fields.names)
    try:
        session = ReviewSession(folder, data, labels, originals, journal)
        if not len(session):
            raise BlpoError(
                f"{folder}: no label is doubtful, and the judge is right on every picture; nothing to review"
            )
        session.write()
        reasons = [case.why for case in data.cases]
        counts = ", ".join(f"{reasons.count(why)} {why}" for why in dict.fromkeys(reasons))
        screen.text(f"Review  {len(session)} pictures ({counts})")
        serve_page(session, job.where, screen)
        for file in session.files:
            screen.text(f"Wrote   {file}")
        screen.text(f"Next    {next_command(data, session.files[1:])}")
    finally:
        journal.close()


def next_command(data: ReviewData, files: list[Path]) -> str:
    """Returns the command that aligns a judge with the labels of a review, with the models of the run."""
    tables = data.tables
    assert tables is not None
    named = {file.name.partition(".")[0]: str(file) for file in files}
    words = ["blpo", "compile", named["train"]]
    words += [word for split in ("val", "test") if split in named for word in (f"--{split}", named[split])]
    words += [*label_words(LabelSpace.from_dict(data.labels)), "--task", data.task]
    if tables.images != ("image",):
        words += ["--images", ",".join(tables.images)]
    if tables.context:
        words += ["--context", ",".join(tables.context)]
    if tables.group_column is not None:
        words += ["--group-column", "group"]
    if tables.reason_column is not None:
        words += ["--reason-column", "reason"]
    outside = any(path.startswith("..") for path in tables.paths.values()) or tables.allow_outside
    words += ["--allow-outside"] * outside
    for role, name in data.models.items():
        words += [f"--{role}-model", EMBEDDED if name.startswith("embedded/") else name]
    if data.api_base is not None:
        words += ["--api-base", data.api_base]
    return shlex.join([*words, "--out", "judge.json"])
