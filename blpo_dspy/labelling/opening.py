"""A labelling session from its beginning: what is to be labelled, the rater's journal and the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import check_path, writable_folder
from blpo_dspy.labelling.items import LABEL, Items, find_items
from blpo_dspy.labelling.journal import RaterJournal, journal_folder
from blpo_dspy.labelling.ordering import Ordering, RandomOrder
from blpo_dspy.labelling.session import LabelSession
from blpo_dspy.labelling.table import LabelTable


@dataclass(frozen=True)
class Work:
    """What is labelled, and by whom.

    Attributes:
        source: A folder or table.
        labels: The closed set of labels.
        out: The table that labels go to, a .csv file.
        fields: The images and texts that are shown.
        rater: Who labels.
        task: The question that the page states.
        image_column: The column of the only image, where it has another name than its input.
        label_column: The column with labels that are there already.
        allow_outside: Whether images may lie outside the folder, or that of the table.
    """

    source: Path
    labels: LabelSpace
    out: Path
    fields: InputFields = InputFields()  # noqa: RUF009 - it is frozen
    rater: str = "annotator"
    task: str = ""
    image_column: str | None = None
    label_column: str = LABEL
    allow_outside: bool = False

    def items(self) -> Items:
        """Returns what is to be labelled.

        Raises:
            BlpoError: If something cannot be used, or labels could not be written.
        """
        _check_out(self.out, self.source)
        if self.labels.paired:
            from blpo_dspy.programs.pairs import check_pair  # noqa: PLC0415 - it imports DSPy, which takes long

            check_pair(self.labels, self.fields)
        return find_items(
            self.source,
            self.labels,
            self.out,
            fields=self.fields,
            image_column=self.image_column,
            label_column=self.label_column,
            allow_outside=self.allow_outside,
        )


def open_session(
    work: Work,
    items: Items,
    order: Callable[[list[str]], Ordering] = RandomOrder,
    verdict: Callable[[str], Label | None] | None = None,
) -> LabelSession:
    """Returns the session of a rater, and writes the table; the caller closes its journal. `order` chooses among keys.

    Raises:
        BlpoError: If something cannot be written, or somebody labels under this name already.
    """
    ordering = order([item.key for item in items.items if item.key not in items.given])
    journal = RaterJournal(work.out, work.rater, work.labels, items.fields.names)
    try:
        table = LabelTable(work.out, items, journal, ordering)
        session = LabelSession(items, work.labels, journal, table, ordering, work.task, verdict)
        table.write()
    except BaseException:
        journal.close()
        raise
    return session


def _check_out(out: Path, source: Path) -> None:
    if out.suffix != ".csv":
        raise BlpoError(f"{out}: the labels are written as CSV, so the name should end in .csv")
    check_path(out)
    writable_folder(out.parent)
    if source.exists() and out.exists() and out.samefile(source):
        raise BlpoError(f"{out}: --out is the TABLE itself, whose other rows would be lost; name another file")
    if out.exists() and not journal_folder(out).is_dir():
        raise BlpoError(
            f"{out}: this file was not written by `blpo label` and would be overwritten; name another --out, and give "
            "this file as the TABLE to label the rest of it"
        )
