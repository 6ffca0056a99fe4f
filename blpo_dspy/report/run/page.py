"""The page itself, rendered by Jinja with every text escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jinja2

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.report.html import REPORT_DATA, fill, write_page
from blpo_dspy.report.run.folder import RESULT, RunFolder
from blpo_dspy.report.run.view import labels_to_blur, page_of


def render(run: RunFolder, *, images: bool = True, blur: Sequence[str] | None = None) -> str:
    """Returns a run's report as one HTML page that loads nothing and runs no script.

    Args:
        run: The run.
        images: Whether pictures are shown.
        blur: Labels whose items are blurred until clicked; by default those that sound unsafe.

    Raises:
        BlpoError: If a label to blur is none of the run's, or the record is damaged.
    """
    file = run.folder / RESULT
    with damage_named(file):
        labels = LabelSpace.from_dict(run.result["labels"])
    _check_labels(run, labels)
    blurred = labels_to_blur(labels, blur)
    with damage_named(file):
        return fill("report.html", page_of(run, images=images, blurred=blurred))


def _check_labels(run: RunFolder, labels: LabelSpace) -> None:
    """Refuses items with labels that the run doesn't have."""
    stated = [
        (f"items.{i}.{place}", label)
        for i, item in enumerate(run.items)
        for place, label in (("label", item.label), ("before", item.before.label), ("after", item.after.label))
        if label is not None or place == "label"
    ]
    problems = [f"{place} is {label!r}" for place, label in stated if label not in labels]
    if problems:
        raise DataError(
            f"{run.folder / REPORT_DATA}: {len(problems)} labels are not those of the run, {labels.describe()}; "
            "restore the file, or run the command again",
            problems,
        )


@contextmanager
def damage_named(file: Path) -> Iterator[None]:
    """Raises a `BlpoError` that names a record whose content, used in the block, is not what this package wrote."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, jinja2.TemplateError) as error:
        raise BlpoError(f"{file}: the record is damaged ({error!r}); restore it, or run the command again") from error


def write_report(run: RunFolder, file: Path, *, images: bool = True, blur: Sequence[str] | None = None) -> Path:
    """Writes the report of a run to a file, complete or not at all, and returns its path; arguments as for `render`.

    Raises:
        BlpoError: If a label to blur is none of the run's, the record is damaged, or the file cannot be written.
    """
    return write_page(file, render(run, images=images, blur=blur))
