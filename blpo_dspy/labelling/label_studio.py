"""Labels from Label Studio's exports as a table of ours, and verdicts as tasks with predictions for it."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from blpo_dspy.data.tables import TableSource, read_folder, require_columns
from blpo_dspy.errors import DataError, brief, counted
from blpo_dspy.labelling.items import path_cell
from blpo_dspy.predictions.reading import ADDED, LABEL, RATER, REASON, space_of, text_in, verdicts_in, whole_table

LOCAL_FILES = "/data/local-files/?d="
"""How Label Studio names a file below its document root, by local storage."""

_KINDS = {"choices": "choices", "rating": "rating", "number": "number", "pairwise": "selected"}
_TEXT = "textarea"
_OWN = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time")
_USUAL = (LABEL, "choice", "choices", "rating", "pairwise")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file


@dataclass(frozen=True)
class Imported:
    """Labels of an export.

    Attributes:
        columns: The columns of the table: images, what else the tasks hold, label, reason, rater.
        rows: A row for each label of each person.
        notes: What was left out, one line each.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Said:
    """What one person said of a task; `where` names it."""

    where: str
    data: Mapping[str, Any]
    values: Mapping[str, Any]
    rater: str


def from_label_studio(
    export: Path,
    folder: Path,
    out: Path,
    *,
    images: Sequence[str] = ("image",),
    label_tag: str | None = None,
    reason_tag: str | None = None,
) -> Imported:
    """Returns the labels of an export of Label Studio: JSON, JSON-MIN or CSV.

    An image is found by its name in a folder of yours; no path or address of the export is opened. Annotations that
    were skipped there, and those without a label, are left out.

    Args:
        export: The file.
        folder: Where the images are, in it or below.
        out: The table that the rows are for: paths of images start from its folder.
        images: The fields of a task with images.
        label_tag: The name of the control tag with the label; the only one of choices, a rating, a number or a pair if
            None.
        reason_tag: That of the text field with the reason; the only one if None, or none.

    Raises:
        DataError: If the export cannot be read, has no or several such tags, or naming all annotations that cannot be
            used: with several labels, or an image that is not in the folder.
    """
    said = _read(export, label_tag, reason_tag)
    files = _Files(folder, out)
    others = [name for one in said for name in one.data if name not in images]
    renamed = {name: f"given_{name}" if name in (LABEL, REASON, RATER) else name for name in dict.fromkeys(others)}
    rows, problems, empty = [], [], 0
    for one in said:
        try:
            found = _one(one.values.get(LABEL))
            if not found:
                empty += 1
                continue
            pictures = {name: files.cell(one.data.get(name)) for name in images}
            more = {new: _plain(one.data.get(name)) for name, new in renamed.items()}
            text = " ".join(_several(one.values.get(REASON)))
            rows.append({**pictures, **more, LABEL: found, REASON: text, RATER: one.rater})
        except DataError as error:
            problems.append(f"{one.where}: {error}")
    if problems:
        raise DataError(f"{export}: {len(problems)} of {len(said)} annotations cannot be used:", problems)
    if not rows:
        raise DataError(f"{export}: no annotation has a label")
    columns = (*images, *renamed.values(), LABEL, REASON, RATER)
    return Imported(
        columns, tuple(rows), (f"{counted(empty, 'annotation')} skipped or without a label left out",) if empty else ()
    )


def to_label_studio(
    predictions: TableSource,
    *,
    images: Sequence[str] = ("image",),
    prefix: str = LOCAL_FILES,
) -> tuple[list[dict[str, Any]], str]:
    """Returns verdicts as tasks with predictions that Label Studio imports, and the labelling interface for them.

    Args:
        predictions: What `blpo judge --out` wrote.
        images: The columns with images.
        prefix: What stands before the path of an image so that Label Studio finds it; an address stays as it is.

    Raises:
        DataError: If the table cannot be read, or naming all rows that cannot be used.
    """
    table = whole_table(predictions)
    require_columns(table.name, table.columns, images, advice="name the columns with images", option="images")
    labels = space_of((table, LABEL))
    verdicts = verdicts_in(table, labels)
    kept = [name for name in table.columns if name not in (*images, *ADDED)]
    tasks = []
    for row, said, sure in zip(table.rows, verdicts.labels, verdicts.confidence, strict=True):
        data = {name: _address(text_in(row.values, name), prefix) for name in images}
        data |= {name: text_in(row.values, name) for name in kept}
        value = {"from_name": LABEL, "to_name": images[0], "type": "choices", "value": {"choices": [str(said)]}}
        score = {} if sure is None else {"score": sure}
        found = [] if said is None else [{"model_version": "blpo-dspy", "result": [value], **score}]
        tasks.append({"data": data, "predictions": found})
    return tasks, interface(labels.names, images)


def interface(labels: Sequence[str], images: Sequence[str] = ("image",)) -> str:
    """Returns the labelling interface of a project that shows images and asks for a label and a reason."""
    shown = "".join(f"<Image name={quoteattr(name)} value={quoteattr('$' + name)}/>" for name in images)
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in labels)
    to = quoteattr(images[0])
    asked = f'<Choices name="{LABEL}" toName={to} choice="single-radio" showInLine="true">{choices}</Choices>'
    return f'<View>{shown}{asked}<TextArea name="{REASON}" toName={to}/></View>'


def _address(cell: str, prefix: str) -> str:
    return cell if "://" in cell or cell.startswith("data:") else prefix + quote(cell)


def _read(export: Path, label: str | None, reason: str | None) -> list[_Said]:
    """What people said, whatever the form of the export: the label as `label`, the reason as `reason`."""
    if not export.is_file():
        raise DataError(f"{export}: no such file; give an export of Label Studio, .json or .csv")
    try:
        with export.open(encoding="utf-8-sig", newline="") as file:
            rows: Any = list(csv.DictReader(file)) if export.suffix.lower() == ".csv" else json.load(file)
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError(f"{export}: cannot be read ({brief(error)}); export it again as JSON or CSV") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{export}: not a list of tasks; export the project as JSON, JSON-MIN or CSV")
    if any("annotations" in row for row in rows):
        return _of_tasks(export, rows, label, reason)
    return _of_rows(export, rows, label, reason)


def _of_tasks(export: Path, tasks: Sequence[Mapping[str, Any]], label: str | None, reason: str | None) -> list[_Said]:
    """The annotations of an export as JSON."""
    found: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
    for number, task in enumerate(tasks, 1):
        data, annotations = task.get("data"), task.get("annotations")
        if not isinstance(data, dict) or not isinstance(annotations, list):
            raise DataError(f"{export}: task {number} has no data or annotations; export the project as JSON")
        found += [(f"task {task.get('id', number)}", data, one) for one in annotations if isinstance(one, dict)]
    tags: Counter[tuple[str, str]] = Counter(
        (str(result.get("type")), str(result.get("from_name"))) for _, _, one in found for result in _results(one)
    )
    by_label = _tag(export, "label", label, [name for kind, name in tags if kind in _KINDS])
    texts = [name for kind, name in tags if kind == _TEXT]
    by_reason = _tag(export, "reason", reason, texts) if texts or reason is not None else None
    said = []
    for where, data, one in found:
        values = {}
        for result in _results(one):
            kind, name, value = result.get("type"), result.get("from_name"), result.get("value") or {}
            if name == by_label and kind in _KINDS:
                values[LABEL] = value.get(_KINDS[str(kind)])
            elif name == by_reason and kind == _TEXT:
                values[REASON] = value.get("text")
        said.append(_Said(where, data, values, _rater(one.get("completed_by"))))
    return said


def _results(annotation: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    results = annotation.get("result")
    if annotation.get("was_cancelled") or not isinstance(results, list):
        return
    for result in results:
        if isinstance(result, dict) and isinstance(result.get("value"), dict):
            yield result


def _of_rows(export: Path, rows: Sequence[Mapping[str, Any]], label: str | None, reason: str | None) -> list[_Said]:
    """The annotations of an export as CSV or JSON-MIN, where tags and fields are columns alike."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name))
    by_label = label or next((name for name in _USUAL if name in columns), None)
    by_reason = reason or (REASON if REASON in columns else None)
    for name, option in ((by_label, "label"), (by_reason, "reason")):
        if name not in columns and (name is not None or option == "label"):
            there = ", ".join(map(brief, columns))
            raise DataError(
                f"{export}: nothing says which column is the {option}: there are {there}; name it: {option}_tag=…",
                option=f"{option}_tag",
            )
    assert by_label is not None
    apart = {*_OWN, by_label, by_reason}
    said = []
    for number, row in enumerate(rows, 1):
        data = {name: value for name, value in row.items() if name and name not in apart}
        values = {LABEL: _parsed(row.get(by_label)), REASON: _parsed(row.get(by_reason or ""))}
        said.append(_Said(f"row {number}", data, values, _rater(row.get("annotator"))))
    return said


def _tag(export: Path, what: str, given: str | None, names: Sequence[str]) -> str:
    """The control tag with the label or reason: the one that is given, or the only one."""
    there = list(dict.fromkeys(names))
    if given in there or (given is None and len(there) == 1):
        return given or there[0]
    found = f"there are {', '.join(map(brief, there))}" if there else "there is none that is read"
    name = f"{what}_tag"
    raise DataError(f"{export}: nothing says which control tag is the {what}: {found}; name it: {name}=…", option=name)


def _parsed(value: Any) -> Any:
    """A cell of a CSV with several values is JSON."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    return next(iter(value.values()), None) if isinstance(value, dict) and len(value) == 1 else value


def _several(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for each in values if (text := _plain(each))]


def _one(value: Any) -> str:
    found = _several(value)
    if len(found) > 1:
        raise DataError(f"{len(found)} labels ({brief(', '.join(found))}); an image has one")
    return found[0] if found else ""


def _plain(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _rater(value: Any) -> str:
    """The name of a person: an address, or the number that Label Studio has given them."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    text = _plain(value)
    return f"annotator {text}" if text.isdecimal() else text or "annotator"


class _Files:
    """The images of a folder by name: what an export says is looked up among them, never opened."""

    def __init__(self, folder: Path, out: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; name the one with the images", option="images")
        self._folder, self._out = folder, out
        names = [row.where for row in read_folder(folder, "image", None).rows]
        self._names = frozenset(names)
        self._by_name: dict[str, list[str]] = {}
        for name in names:
            self._by_name.setdefault(PurePosixPath(name).name, []).append(name)

    def cell(self, reference: Any) -> str:
        """Returns the path of an image as the table states it.

        Raises:
            DataError: If no image of the folder is meant, or several could be.
        """
        text = _plain(reference)
        parts = [part for part in PurePosixPath(_path_in(text)).parts if part not in ("/", "..")]
        for start in range(len(parts)):
            if (name := "/".join(parts[start:])) in self._names:
                return path_cell(self._folder / name, self._out)
        last = parts[-1] if parts else ""
        found = self._by_name.get(last) or self._by_name.get(_UPLOAD.sub("", last, count=1)) or []
        if len(found) == 1:
            return path_cell(self._folder / found[0], self._out)
        if not found:
            raise DataError(f"{brief(text) or 'no image'} is not in {self._folder}; put the file there")
        raise DataError(f"{brief(text)} could be {' or '.join(map(brief, found[:2]))}; rename one of them")


def _path_in(reference: str) -> str:
    """The path in an address, or in Label Studio's name for a local file."""
    try:
        address = urlsplit(reference)
    except ValueError:
        return reference
    if address.path.endswith("/local-files/") and (named := parse_qs(address.query).get("d")):
        return named[0]
    return unquote(address.path) if address.scheme or reference.startswith("/data/") else reference
