"""People's labels of images of a judged collection: one label for each image, however many people labelled it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from blpo_dspy.data.examples import item_prints, load_images
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.ratings import combine_raters, ratings_from_rows
from blpo_dspy.data.tables import Table, TableSource
from blpo_dspy.errors import BlpoError, DataError, brief, counted
from blpo_dspy.optimizers.bench.cards import known_prints
from blpo_dspy.predictions.reading import LABEL, RATER, key_of, text_in
from blpo_dspy.programs.visual_judge import VisualJudge

_NOT_PREDICTED = "is not among the predictions"


@dataclass(frozen=True)
class ImageLabel:
    """What people say of an image.

    Attributes:
        key: By what it is known again.
        rows: The numbers of its rows; each may be another person's.
        people: How many labels they hold.
        label: That of the majority; None if there is no label, or people are tied.
        trained: Whether the judge, or one that it was compiled from, was compiled with the image.
    """

    key: str
    rows: tuple[int, ...]
    people: int
    label: Label | None
    trained: bool

    @property
    def counting(self) -> Label | None:
        """The label if it counts: of an image that the judge was compiled with, none does."""
        return None if self.trained else self.label


def labels_by_image(
    people: Table, labels: LabelSpace, key: Sequence[str], known: Collection[str], trained: frozenset[int]
) -> tuple[list[ImageLabel], list[str]]:
    """Returns what people say of each image, and a problem for each row that cannot be used.

    Rows with the same key are about the same image. Their labels are combined as `combine_raters` does.

    Args:
        people: The rows, with the column `label`, and `rater` where it is known who labels.
        labels: The closed set of labels.
        key: The columns by which an image is known.
        known: The keys of all images that may be labelled.
        trained: The numbers of the rows with an image that the judge was compiled with.
    """
    rows: dict[str, list[int]] = {}
    ratings: dict[tuple[str, str | int], Label] = {}
    problems = []
    for number, row in enumerate(people.rows):
        try:
            name, rater = key_of(row.values, key), text_in(row.values, RATER)
            label = labels.coerce(row.values[LABEL]) if text_in(row.values, LABEL) else None
            _check_row(name, rater, known, twice=label is not None and (name, rater) in ratings)
        except BlpoError as error:
            problems.append(f"{row.where}: {error}")
            continue
        rows.setdefault(name, []).append(number)
        if label is not None:
            ratings[name, rater or number] = label
    given = [(name, None if isinstance(who, int) else who, label) for (name, who), label in ratings.items()]
    counts = Counter(name for name, _, _ in given)
    try:
        combined = combine_raters(ratings_from_rows(labels, given)).labels
    except DataError as error:  # some rows name who labels, and others don't
        return [], [*problems, f"{RATER}: {error}"]
    found = [
        ImageLabel(name, tuple(own), counts[name], combined.get(name), not trained.isdisjoint(own))
        for name, own in rows.items()
    ]
    return found, problems


def refuse_unusable(people: Table, problems: Sequence[str], known: Iterable[str]) -> None:
    """Refuses labels of which some cannot be used; one that is known shows how the predictions name an image.

    Raises:
        DataError: If there are problems, naming all of them.
    """
    if not problems:
        return
    stray = any(problem.endswith(_NOT_PREDICTED) for problem in problems)
    such = next((brief(repr(name.replace("\x1f", ", "))) for name in known), "") if stray else ""
    named = f" (the predictions name an image as in {such})" if such else ""
    raise DataError(
        f"{people.name}: {counted(len(problems), 'row')} cannot be used{named}; repair or remove them:", problems
    )


def _check_row(name: str, rater: str, known: Collection[str], *, twice: bool) -> None:
    if not name:
        raise BlpoError("nothing says which image it is")
    shown = brief(name.replace("\x1f", ", "))
    if name not in known:
        raise BlpoError(f"{shown} {_NOT_PREDICTED}")
    if twice:
        raise BlpoError(f"{brief(rater)} labelled {shown} in another row already; keep one of the rows")


def people_notes(images: Sequence[ImageLabel]) -> list[str]:
    """Returns a sentence for each kind of label that is combined from several, or set aside."""
    own = sum(image.trained and image.people > 0 for image in images)
    several = sum(image.people > 1 and not image.trained for image in images)
    tied = sum(image.people > 0 and image.label is None and not image.trained for image in images)
    notes = {
        f"{counted(own, 'label')} set aside: the judge or an ancestor of it was compiled with the image": own,
        f"{counted(several, 'image')} labelled by several people; the label is that of the majority": several,
        f"{counted(tied, 'image')} of these left without a label, as people are tied": tied,
    }
    return [note for note, count in notes.items() if count]


def trained_rows(judge: VisualJudge, people: Table, labelled: TableSource, allow_outside: bool) -> frozenset[int]:
    """Returns the rows with an image that the judge, or one that it was compiled from, was compiled with.

    Raises:
        DataError: If an image cannot be read.
    """
    known = known_prints(judge)
    if not known:
        return frozenset()
    examples = load_images(
        labelled,
        images=judge.images,
        context=judge.context,
        policy=judge.pixel_policy,
        allow_outside=allow_outside,
    )
    assert len(examples) == len(people.rows)
    return frozenset(number for number, example in enumerate(examples) if item_prints([example]) in known)
