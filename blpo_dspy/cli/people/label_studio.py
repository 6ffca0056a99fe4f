"""`blpo label-studio`: labels from an export of Label Studio, and verdicts as tasks for it."""

from __future__ import annotations

from blpo_dspy.cli.jobs import StudioJob
from blpo_dspy.cli.screen import Screen
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import check_path, writable_folder, write_json
from blpo_dspy.labelling.label_studio import from_label_studio, to_label_studio
from blpo_dspy.predictions.files import write_rows


def label_studio(job: StudioJob, screen: Screen) -> None:
    """Reads an export into a table, or writes tasks with predictions, by the suffix of the output.

    Raises:
        BlpoError: If something cannot be read or written, or the output is there already.
    """
    out, suffix = job.out, job.out.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise BlpoError(f"{out}: name a .csv for the labels of an export, or a .json for tasks with predictions")
    check_path(out)
    if out.exists():
        raise BlpoError(f"{out}: there is such a file already; name another one, or remove it", option="out")
    writable_folder(out.parent)
    if suffix == ".json":
        tasks, interface = to_label_studio(job.source, images=job.images, prefix=job.prefix)
        write_json(out, tasks)
        screen.text(f"Wrote {out} with {len(tasks):,} tasks. Labelling interface of the project:\n{interface}")
        return
    if job.folder is None:
        raise BlpoError("an export says where images are on its server: name the folder that holds them, --folder DIR")
    tags = {"label_tag": job.label_tag, "reason_tag": job.reason_tag}
    found = from_label_studio(job.source, job.folder, out, images=job.images, **tags)
    write_rows(out, found.columns, lambda: iter(found.rows))
    for note in found.notes:
        screen.note(note)
    if any(row[name].startswith("../") for row in found.rows for name in job.images):
        screen.note(f"images lie outside the folder of {out}; `blpo compile` reads them with --allow-outside")
    people = len({row["rater"] for row in found.rows})
    screen.text(f"Wrote {out} with {len(found.rows):,} labels of {people} {'person' if people == 1 else 'people'}")
