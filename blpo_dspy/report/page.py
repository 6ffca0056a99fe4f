"""The page itself, rendered by Jinja with every text escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jinja2

from blpo_dspy import __version__
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import replacing
from blpo_dspy.labels import LabelSpace
from blpo_dspy.report.numbers import amount, figure
from blpo_dspy.report.run import RunFolder
from blpo_dspy.report.view import labels_to_blur, page_of


def render(run: RunFolder, *, images: bool = True, blur: Sequence[str] | None = None) -> str:
    """Returns a run's report as one HTML page that loads nothing and runs no script.

    Args:
        run: The run.
        images: Whether pictures are shown.
        blur: Labels whose items are blurred until clicked; by default those that sound unsafe.

    Raises:
        BlpoError: If a label to blur is none of the run's, or the record is damaged.
    """
    with _damage_told(run):
        labels = LabelSpace.from_dict(run.result["labels"])
    blurred = labels_to_blur(labels, blur)
    with _damage_told(run):
        page = page_of(run, images=images, blurred=blurred)
    return fill("report.html", page)


@contextmanager
def _damage_told(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BlpoError(f"{run.folder}: the record of the run is damaged ({error!r}); run the command anew") from error


def fill(template: str, page: object) -> str:
    """Returns a page of this package with every text escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("blpo_dspy.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=figure, amount=amount)
    return environment.get_template(template).render(page=page, version=__version__)


def write_report(run: RunFolder, file: Path, *, images: bool = True, blur: Sequence[str] | None = None) -> Path:
    """Writes the report of a run to a file, complete or not at all, and returns its path; arguments as for `render`.

    Raises:
        BlpoError: If a label to blur is none of the run's, the record is damaged, or the file cannot be written.
    """
    return write_page(file, render(run, images=images, blur=blur))


def write_page(file: Path, text: str) -> Path:
    """Writes a page to a file, complete or not at all, and returns its path.

    Raises:
        BlpoError: If the file cannot be written.
    """
    try:
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise BlpoError(f"{file}: cannot be written ({error.strerror or error})") from error
    return file
