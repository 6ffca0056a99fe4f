"""Labelled images as DSPy examples, every bad row named at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.fields import IMAGE, InputFields, images_of, texts_of
from blpo_dspy.data.images.prepare import (
    ImageError,
    ImageSource,
    PixelPolicy,
    PreparedImage,
    fingerprint,
    try_prepare_all,
)
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace, check_space
from blpo_dspy.data.ratings import Combined, combine_raters, ratings_from_rows
from blpo_dspy.data.reasons import joined, reason_of
from blpo_dspy.data.rows import Draft, RowReader, TableColumns, assign_ids, unusable
from blpo_dspy.data.splits import Splits, check_disjoint, split_examples
from blpo_dspy.data.tables import Table, TableSource, read_folder, read_table, require_columns
from blpo_dspy.errors import DataError, notice

__all__ = [
    "Rated",
    "Splits",
    "check_disjoint",
    "contradictions",
    "dataset_fingerprint",
    "item_prints",
    "load_examples",
    "load_images",
    "load_rated",
    "reasons_fingerprint",
    "split_examples",
]

# Hex digits; two sets of 10,000 images share one by chance with a probability below one in a million.
_PRINT = 12
_LONGEST_NAME = 500
_OF_ONE_LABEL = ("images", "image", "label", "context", "group", "id", "reason")


def load_examples(
    source: TableSource,
    *,
    labels: LabelSpace,
    columns: Columns = Columns(),
    policy: PixelPolicy | None = None,
    allow_outside: bool = False,
    require_labels: bool = False,
) -> list[dspy.Example]:
    """Returns one example per row: its images, the context texts, `label`, a unique `id`, perhaps `group`, `reason`.

    The inputs are the images and the context texts. An image is a path, an http(s) or gs URL (passed on, never
    fetched), a data URI, bytes, the {bytes, path} that `datasets` stores, or in memory a PIL image or a NumPy array.

    Args:
        source: A .csv, .tsv, .jsonl or .parquet file, a folder with one sub-folder of images per label, a
            `pandas.DataFrame`, a list of dictionaries or a `datasets.Dataset`.
        labels: The closed set of labels.
        columns: Which columns hold what, as in `Columns(label="rating", context=["prompt"])`.
        policy: How images are prepared; the default policy if None.
        allow_outside: Whether image paths may leave the folder of the table (by "..", an absolute path or a link).
            Paths in a Dataset's `Image` column, and `pathlib.Path`s, are the caller's own and always used; texts of a
            table in memory start from the current folder.
        require_labels: Whether a row without a label is refused; if not, it is left out, and a warning counts them.

    Raises:
        DataError: If the table cannot be read, lacks a column, has no rows or no labels, or naming all rows that cannot
            be used.
        BlpoError: If an image or context column has a name that a DSPy input cannot have, or there are columns for
            several people's labels, which `load_rated` reads.
    """
    check_space(labels)
    named = TableColumns.labelled(columns)
    columns.check_read("load_examples", _OF_ONE_LABEL, "load_rated(…) makes one label of several people's")
    loaded = _load(source, named, labels, policy or PixelPolicy(), allow_outside, require_labels)
    return [example for _, example in loaded]


@dataclass(frozen=True)
class Rated:
    """Images that several people labelled.

    Attributes:
        examples: One per image whose ratings make a label; its `ratings`, no input, are pairs of rater and label.
        rows: (item, rater or None, label) for each rating, also those of images without a label.
        combined: How ratings became labels, and the items left out.
    """

    examples: list[dspy.Example]
    rows: tuple[tuple[str, str | None, Label], ...]
    combined: Combined


def load_rated(
    source: TableSource,
    *,
    labels: LabelSpace,
    columns: Columns = Columns(),
    rule: str = "majority",
    policy: PixelPolicy | None = None,
    allow_outside: bool = False,
    require_labels: bool = False,
) -> Rated:
    """Returns one example for each image that several people labelled; further arguments as for `load_examples`.

    Args:
        source: A table.
        labels: The closed set of labels.
        columns: Which columns hold what. Without `raters`, each row is one rating, and rows with the same images and
            context rate the same item; its reasons are joined, each with its rater and label.
        rule: How ratings become a label, as `combine_raters` takes it.
        policy: How images are prepared; the default policy if None.
        allow_outside: Whether image paths may leave the folder of the table.
        require_labels: Whether a row without a label is refused.

    Raises:
        DataError: As for `load_examples`; or if a person rated an item twice, or no item gets a label.
        BlpoError: As for `load_examples`, or if the rule is unknown or asks for the mean of labels without order.
    """
    check_space(labels)
    named = TableColumns.labelled(columns)
    reasons: dict[str, list[tuple[str | None, Label | None, str]]] = {}
    found: dict[str, tuple[dspy.Example, list[tuple[str | None, Label]]]] = {}
    for draft, example in _load(source, named, labels, policy or PixelPolicy(), allow_outside, require_labels):
        item = example.id if named.raters else _content(example, label=False)
        found.setdefault(item, (example, []))[1].extend(draft.ratings)
        if draft.reason is not None:
            rater = draft.ratings[0][0] if draft.label is not None else None
            reasons.setdefault(item, []).append((rater, draft.label, draft.reason))
    rows = tuple((example.id, *rating) for example, given in found.values() for rating in given)
    if not rows:
        raise DataError(f"{source}: nobody rated any image; {', '.join(named.raters)} are empty in all rows")
    if not named.raters and all(len(given) < 2 for _, given in found.values()):
        notice("no image has labels of several people, so their agreement cannot be measured")
    unrated = tuple(example.id for example, given in found.values() if not given)
    combined = replace(combine_raters(ratings_from_rows(labels, rows), rule), unrated=unrated)
    examples = [
        example.copy(
            label=combined.labels[example.id],
            ratings=given,
            **({"reason": joined(reasons[item])} if item in reasons else {}),
        )
        for item, (example, given) in found.items()
        if example.id in combined.labels
    ]
    if not examples:
        raise DataError(f"{source}: no image gets a label by the rule {rule!r}, as the raters are tied on each")
    return Rated(examples, rows, combined)


def load_images(
    source: TableSource,
    *,
    images: Sequence[str] = (IMAGE,),
    context: Sequence[str] = (),
    policy: PixelPolicy | None = None,
    allow_outside: bool = False,
) -> list[dspy.Example]:
    """Returns unlabelled examples, as `load_examples` does; in a folder, images may lie anywhere."""
    columns = TableColumns.of(InputFields.of(images, context))
    return [example for _, example in _load(source, columns, None, policy or PixelPolicy(), allow_outside)]


def contradictions(examples: Iterable[dspy.Example]) -> list[str]:
    """Returns one line for each image that has different labels with the same context; people do disagree."""
    found: dict[str, list[dspy.Example]] = {}
    for example in examples:
        found.setdefault(_content(example, label=False), []).append(example)
    return [
        "the same image has different labels: " + ", ".join(f"{e.id} is {e.label}" for e in same)
        for same in found.values()
        if len({e.label for e in same}) > 1
    ]


def dataset_fingerprint(examples: Iterable[dspy.Example]) -> str:
    """Returns a SHA-256 in hex over image contents, labels and context texts; the order of examples doesn't matter."""
    return hashlib.sha256("\n".join(sorted(_content(e, label=True) for e in examples)).encode()).hexdigest()


def reasons_fingerprint(examples: Iterable[dspy.Example]) -> str:
    """Returns a SHA-256 in hex over the reasons and what they are about, "" if there is none."""
    given = sorted(f"{_content(e, label=True)} {reason}" for e in examples if (reason := reason_of(e)))
    return hashlib.sha256("\n".join(given).encode()).hexdigest() if given else ""


def item_prints(examples: Iterable[dspy.Example]) -> str:
    """Returns for each different image with its context texts 12 hex digits, sorted, with a space between two."""
    contents = {_content(example, label=False) for example in examples}
    return " ".join(sorted(hashlib.sha256(content.encode()).hexdigest()[:_PRINT] for content in contents))


def _content(example: dspy.Example, *, label: bool) -> str:
    prints = {name: [fingerprint(image) for image in images] for name, images in images_of(example).items()}
    alone = [each for several in prints.values() for each in several]
    pictured = alone[0] if len(alone) == 1 else prints  # an image alone is the same by any name
    values = [pictured, texts_of(example), str(example.get("label")) if label else None]
    return json.dumps(values, sort_keys=True)


def _load(
    source: TableSource,
    columns: TableColumns,
    labels: LabelSpace | None,
    policy: PixelPolicy,
    allow_outside: bool,
    require_labels: bool = True,
) -> list[tuple[Draft, dspy.Example]]:
    """The rows of a table, each with its example."""
    table, drafts = read_rows(source, columns, labels, allow_outside, require_labels)
    prepared = iter(try_prepare_all([source for draft in drafts for _, source in draft.images], policy))
    examples = []
    for draft in drafts:
        images = []
        for (name, given), image in zip(draft.images, prepared, strict=False):
            if isinstance(image, ImageError):
                draft.problems.append(_reason(draft, name, given, image))
            else:
                images.append(image)
        if len(images) == len(draft.images) and len(draft.sources) == len(columns.images):
            examples.append((draft, _example(draft, images)))
    _raise_problems(table, drafts)
    for line in table.notes:
        notice(f"{Path(table.name).resolve().name}: {line}")  # without the path, as the record of the run keeps it
    return examples


def read_rows(
    source: TableSource, columns: TableColumns, labels: LabelSpace | None, allow_outside: bool, require_labels: bool
) -> tuple[Table, list[Draft]]:
    """Returns a table, and what its rows say before any image is opened, each with its id and perhaps `problems`."""
    table = _table(source, columns, allow_outside)
    reader = RowReader(columns, labels, table.base, allow_outside, require_labels)
    drafts = [reader.read(row) for row in table.rows if not reader.is_unlabelled(row)]
    _note_unlabelled(table, len(drafts), columns.label)
    assign_ids(drafts, given=columns.id is not None)
    return table, drafts


def _note_unlabelled(table: Table, labelled: int, column: str | None) -> None:
    """Issues a warning that counts rows without a label."""
    left = len(table.rows) - labelled
    if not left:
        return
    if not labelled:
        raise DataError(f"{table.name}: no row has a label in column {column!r}; label some of the images first")
    rows = "1 row has" if left == 1 else f"{left} rows have"
    notice(f"{Path(table.name).name}: {rows} no label and {'is' if left == 1 else 'are'} left out ({labelled} remain)")


def _table(source: TableSource, columns: TableColumns, allow_outside: bool) -> Table:
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        column, *others = columns.images
        if others or columns.images[column].several:
            raise DataError(
                f"{source}: a folder has one image per example, but there are the inputs {', '.join(columns.images)}; "
                "name a table with a column for each",
                option="images",
            )
        table = read_folder(Path(source), column, columns.label, follow_links=allow_outside)
    else:
        table = read_table(source, columns.names)
    named = _options_for(columns, table.columns)
    written = ", ".join(f"{option.removesuffix('_column')}=…" for option in named)
    advice = f"name yours with columns=Columns({written})" if named else ""
    require_columns(table.name, table.columns, columns.names, advice=advice, option=named)
    if not table.rows and not table.problems:
        raise DataError(f"{table.name}: no rows below the header; a judge needs images to work on")
    return table


def _options_for(columns: TableColumns, seen: Sequence[str]) -> list[str]:
    """The options that name the columns of the only image and of the label, where the table lacks these columns."""
    image = next(iter(columns.images)) if len(columns.images) == 1 else None
    asked = {"image_column": image, "label_column": columns.label}
    return [option for option, name in asked.items() if name is not None and name not in seen]


def _raise_problems(table: Table, drafts: Sequence[Draft]) -> None:
    lines = [f"{draft.where}: {problem}" for draft in drafts for problem in draft.problems]
    if table.problems or lines:
        bad = len(table.problems) + sum(bool(draft.problems) for draft in drafts)
        total = len(table.problems) + len(drafts)
        raise unusable(table.name, bad, total, [*table.problems, *lines], table.base)


def _reason(draft: Draft, name: str, source: ImageSource, error: ImageError) -> str:
    """Why an image cannot be used; it is named unless the row's name does."""
    if len(draft.images) == 1:
        return error.reason if draft.place == draft.where else f"{draft.place}: {error.reason}"
    named = Path(source).name if isinstance(source, (str, os.PathLike)) and len(str(source)) <= _LONGEST_NAME else ""
    return f"{name}: {named}: {error.reason}" if named else f"{name}: {error.reason}"


def _example(draft: Draft, images: Sequence[PreparedImage]) -> dspy.Example:
    values: dict[str, Any] = {**draft.filled(images), **draft.context, "id": draft.id}
    if draft.label is not None:
        values["label"] = draft.label
    if draft.group is not None:
        values["group"] = draft.group
    if draft.reason is not None:
        values["reason"] = draft.reason
    return dspy.Example(**values).with_inputs(*draft.sources, *draft.context)
