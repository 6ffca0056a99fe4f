"""The record that names the columns of a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blpo_dspy.cli.flags import with_flags
from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import load_examples, load_rated
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources import open_source
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.notebook import label_in_notebook

LABELS = LabelSpace("keep", "drop")
READERS: dict[str, Callable[[Any], object]] = {
    "load_examples": lambda columns: load_examples("t.csv", labels=LABELS, columns=columns),
    "load_rated": lambda columns: load_rated("t.csv", labels=LABELS, columns=columns),
    "huggingface": lambda columns: open_source(
        "huggingface", id="some/one", labels=LABELS, instruction="Judge.", columns=columns
    ),
    "label_in_notebook": lambda columns: label_in_notebook("t.csv", LABELS, out="o.csv", columns=columns),
}


def test_lists_and_tuples_name_the_same_columns() -> None:
    """So that they are equal, and usable as a key."""
    lists, tuples = (
        Columns(images=kind(["a", "b"]), context=kind(["c"]), raters=kind(["d"])) for kind in (list, tuple)
    )
    assert lists == tuples
    assert hash(lists) == hash(tuples)


def test_a_text_in_place_of_the_raters_is_refused() -> None:
    """Its letters are no columns."""
    with pytest.raises(BlpoError, match=r"raters is a list of names, got the text 'ann'; write raters=\['ann'\]"):
        Columns(raters="ann")


@pytest.mark.parametrize("reader", READERS)
def test_columns_of_another_type_are_refused(reader: str) -> None:
    """With what to write instead."""
    with pytest.raises(BlpoError, match=r"columns=\{'label': 'x'\} is not a Columns; write columns=Columns\("):
        READERS[reader]({"label": "x"})


@pytest.mark.parametrize(
    ("reader", "columns", "said"),
    [
        ("load_examples", Columns(raters=["a", "b"], rater="who"), r"raters=\('a', 'b'\), rater='who'\); load_rated\("),
        ("huggingface", Columns(label="x", id="key", reason="why"), r"id='key', reason='why'\); a row of the"),
        ("label_in_notebook", Columns(context=["x"], group="g", rater="who"), r"group='g', rater='who'\); the page"),
    ],
)
def test_columns_that_would_not_be_read_are_refused(reader: str, columns: Columns, said: str) -> None:
    """All of them at once, before the source is looked at."""
    with pytest.raises(BlpoError, match=rf"{reader} does not read Columns\(.*{said}"):
        READERS[reader](columns)


def test_ratings_of_one_row_have_the_id_of_their_column(tmp_path: Path) -> None:
    """As labels do."""
    image = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    rows = [{"image": image, "ann": "keep", "bob": "keep", "key": "k1"}]
    (example,) = load_rated(rows, labels=LABELS, columns=Columns(raters=["ann", "bob"], id="key")).examples
    assert (example.id, example.label) == ("k1", "keep")


@pytest.mark.parametrize(
    ("columns", "python", "flags"),
    [
        (Columns(image="i", label="l"), "columns=Columns(image=…, label=…)", "--image-column and --label-column"),
        (Columns(label="l"), "columns=Columns(label=…)", "name yours with --label-column"),
        (Columns(image="i", images=["a", "b"]), "image column 'i' is", "--image-column 'i' is"),
        (Columns(reason="image"), "reason column 'image' holds", "--reason-column 'image' holds"),
        (Columns(reason="x", context=["reason"]), "reason column 'x': an input", "--reason-column 'x': an input"),
    ],
)
def test_an_error_names_the_columns_as_python_does_and_as_the_command_line(
    columns: Columns, python: str, flags: str
) -> None:
    """One has a record, the other an option for each."""
    with pytest.raises(BlpoError) as raised:
        load_examples([{"image": "a.png", "label": "keep"}], labels=LABELS, columns=columns)
    assert python in str(raised.value)
    assert flags in with_flags(str(raised.value), raised.value.options)
