"""The columns of a table of labelled images, by what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from blpo_dspy.errors import BlpoError


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table hold what; columns that are not named here are not read.

    Args:
        images: The names of the image inputs, which are columns; "photos: list[dspy.Image]" names a list of images (in
            a text cell with "|" between two).
        image: The column of the only image, where it has another name than its input.
        label: The column with the human label; where several people label in rows of their own, that of such a row.
        context: Columns with further text inputs, such as the prompt an image was made from.
        group: Rows with the same value here are never split up; an empty cell is a group of its own.
        id: The column with a unique id; without it, the image's path serves, or else the row number.
        reason: The column with what the person wrote beside the label; an empty cell holds none. An optimizer reads the
            reasons of training examples; the judge and the verbalizer read none.
        raters: One column of labels per person, an empty cell being none.
        rater: Where each row is one rating: the column that names who gave it.

    Raises:
        BlpoError: If `raters` is a text.
    """

    images: Sequence[str] = ("image",)
    image: str | None = None
    label: str = "label"
    context: Sequence[str] = ()
    group: str | None = None
    id: str | None = None
    reason: str | None = None
    raters: Sequence[str] = ()
    rater: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.raters, str):
            raise BlpoError(f"raters is a list of names, got the text {self.raters!r}; write raters=[{self.raters!r}]")
        for name in ("images", "context", "raters"):
            if isinstance(getattr(self, name), list):  # as a tuple it is equal however it was written
                object.__setattr__(self, name, tuple(getattr(self, name)))

    def check_read(self, reader: str, names: Sequence[str], instead: str) -> None:
        """Refuses columns that a reader would not read.

        Args:
            reader: What reads the table.
            names: The fields that it reads.
            instead: What to do instead.

        Raises:
            BlpoError: Naming all fields that are given and not among them.
        """
        given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        if unread := [f"{name}={getattr(self, name)!r}" for name in given if name not in names]:
            raise BlpoError(f"{reader} does not read Columns({', '.join(unread)}); {instead}", option="columns")
