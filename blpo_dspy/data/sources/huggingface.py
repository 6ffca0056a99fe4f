"""Any dataset on the Hugging Face Hub with one image and one label a row, by its columns."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blpo_dspy.data.fields import check_context
from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.hub.source import RowKey, RowSource
from blpo_dspy.data.sources.records import BadRow, Record, text_of
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError


@dataclass(frozen=True, kw_only=True)
class HuggingFace(RowSource):
    """Rows of a dataset, read by column names.

    Args:
        id: The id of the dataset, "owner/name".
        labels: The closed set of labels.
        instruction: The judge instruction to start from.
        image_column: The column with the images: image bytes, or base64 text.
        label_column: The column with the labels.
        label_names: Which label stands for what is in the label column, where they differ: {0: "Safe", 1: "Unsafe"}.
        context: Columns with further text inputs.
        group_column: Rows with the same value here are never split up.
        verbalizer_instruction: The verbalizer instruction to start from.

    Raises:
        BlpoError: If a context column has a name that an input cannot have, or `label_names` names an unknown label.
    """

    name = "huggingface"

    id: str
    labels: LabelSpace
    instruction: str
    image_column: str = "image"
    label_column: str = "label"
    label_names: Mapping[Any, Label] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    group_column: str | None = None
    verbalizer_instruction: str | None = None

    def __post_init__(self) -> None:
        check_context(self.context)
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
        return Task(self.labels, self.instruction, self.verbalizer_instruction, tuple(self.context))

    @property
    def _image(self) -> str:
        return self.image_column

    @property
    def _needed(self) -> tuple[str, ...]:
        group = () if self.group_column is None else (self.group_column,)
        return (self.label_column, *self.context, *group)

    def _record(self, id_: str, key: RowKey, row: Mapping[str, Any]) -> Record:
        label = self._label(row[self.label_column])
        context = {name: text_of(row[name], f"no {name}") for name in self.context}
        group = None if self.group_column is None else row[self.group_column]
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
