"""Any dataset on the Hugging Face Hub with one image and one label a row, by its columns."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.fields import IMAGE, check_context
from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.hub.source import RowKey, RowSource
from blpo_dspy.data.sources.records import BadRow, Record, text_of
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError, check_kind


@dataclass(frozen=True, kw_only=True)
class HuggingFace(RowSource):
    """Rows of a dataset, read by column names.

    Args:
        id: The id of the dataset, "owner/name".
        labels: The closed set of labels.
        instruction: The judge instruction to start from.
        columns: Which columns hold what: `image` (image bytes, or base64 text), `label`, `context` and `group`.
        label_names: Which label stands for what is in the label column, where they differ: {0: "Safe", 1: "Unsafe"}.
        verbalizer_instruction: The verbalizer instruction to start from.

    Raises:
        BlpoError: If a context column has a name that an input cannot have, there are other columns, or `label_names`
            names an unknown label.
    """

    name = "huggingface"

    id: str
    labels: LabelSpace
    instruction: str
    columns: Columns = Columns()
    label_names: Mapping[Any, Label] = field(default_factory=dict)
    verbalizer_instruction: str | None = None

    def __post_init__(self) -> None:
        check_kind("columns", self.columns, Columns, "Columns", "columns=Columns(label='verdict')")
        instead = "a row of the Hub has one image and one label; write other rows to a table for load_examples(…)"
        self.columns.check_read("huggingface", ("image", "label", "context", "group"), instead)
        check_context(self.columns.context)
        for label in self.label_names.values():
            self.labels.index(label)

    @property
    def identity(self) -> str:
        """The name of this source in a manifest: the id of the dataset."""
        return self.id

    @property
    def _repository(self) -> str:
        return self.id

    @property
    def task(self) -> Task:
        """The task of a judge, as the options define it."""
        return Task(self.labels, self.instruction, self.verbalizer_instruction, tuple(self.columns.context))

    @property
    def _image(self) -> str:
        return self.columns.image or IMAGE

    @property
    def _needed(self) -> tuple[str, ...]:
        columns = self.columns
        return (columns.label, *columns.context, *(() if columns.group is None else (columns.group,)))

    def _record(self, id_: str, key: RowKey, row: Mapping[str, Any]) -> Record:
        label = self._label(row[self.columns.label])
        context = {name: text_of(row[name], f"no {name}") for name in self.columns.context}
        group = None if self.columns.group is None else row[self.columns.group]
        return Record(id_, label, key, str(label), None if group is None else str(group), context)

    def _label(self, cell: object) -> Label:
        if cell is None or cell == "":
            raise BadRow("no label")
        named = {str(written): label for written, label in self.label_names.items()}
        try:
            return named[str(cell)] if named else self.labels.coerce(cell)
        except (KeyError, BlpoError):
            raise BadRow("odd label", repr(cell)[:80]) from None

    def _decode(self, cell: object) -> bytes | ImageError:
        if not isinstance(cell, str):
            return super()._decode(cell)
        try:
            return base64.b64decode(cell.partition(",")[2] if cell.startswith("data:") else cell, validate=True)
        except (binascii.Error, ValueError):
            return ImageError("text that is not base64; paths and URLs are not followed")
