"""The labelled examples of a run: from one table that is split, from tables of their own, or drawn from a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

import dspy

from blpo_dspy.agreement.people import People
from blpo_dspy.agreement.raters import human_agreement
from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import Rated, check_disjoint, item_prints, load_examples, load_rated, split_examples
from blpo_dspy.data.fields import InputFields, image_prints
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.ratings import ratings_from_rows
from blpo_dspy.data.sources.drawn import Manifest
from blpo_dspy.data.splits import DEFAULT_FRACTIONS, NAMES, histogram, thinned
from blpo_dspy.data.tables import TableSource, in_memory, read_table
from blpo_dspy.errors import DataError, check_kind
from blpo_dspy.optimizers.bench.cards import known_prints
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.options.start import Data, RaterChoice, Start

Labelled: TypeAlias = "Sequence[dspy.Example] | TableSource"
"""Labelled images: examples, or a table as `load_examples` takes it."""

_MOST_NAMED = 3


@dataclass(frozen=True)
class Use:
    """One earlier run or comparison that was measured on images of a test set.

    Attributes:
        file: The record or judge that shows it, by the name of its folder and its own.
        on: The day (UTC), None if the file doesn't state it.
        run: The identity of the run.
        times: How often this very test set had been used with that run; 1 if it shares some images alone.
        images: How many of its images that run used.
    """

    file: str
    on: str | None
    run: str
    times: int
    images: int


@dataclass(frozen=True)
class Seal:
    """A test set before its use.

    Attributes:
        n: Its examples.
        sha256: Its fingerprint.
        run: The identity of this run.
        earlier: Other runs that were measured on images of it.
        used: How many of its different images any of them used, and how many there are.
    """

    n: int
    sha256: str
    run: str
    earlier: tuple[Use, ...] = ()
    used: tuple[int, int] = (0, 0)

    @property
    def times(self) -> int:
        """How often it has been used once this run has."""
        return 1 + max([len(self.earlier), *(use.times for use in self.earlier)])

    @property
    def warning(self) -> str | None:
        """A warning about earlier uses, None if there are none."""
        if not self.earlier:
            return None
        named = [use.file + (f" on {use.on}" if use.on else "") for use in self.earlier[:_MOST_NAMED]]
        more = len(self.earlier) - len(named)
        files = ", ".join(named) + (f" and {more} more" if more else "")
        used, images = self.used
        whole = f"this test set ({self.n} images) has"
        lead = whole if used == images else f"{used} of the {images} images of this test set have"
        return (
            f"{lead} been used before, by {files}: it is no longer sealed. A judge that is picked by its "
            "figures looks better than it is; label new test images for a figure to report"
        )

    def card(self, *, judged: bool) -> dict[str, Any]:
        """Returns what a judge's card says."""
        used = "once, after compiling" if judged else "not used"
        times = self.times if judged else self.times - 1
        return {"n": self.n, "sha256": self.sha256, "used": used, "times": times, "run": self.run}

    def to_dict(self, *, judged: bool) -> dict[str, Any]:
        """Returns plain data for the record of the run: the card's, the day, and the earlier uses."""
        on = datetime.now(timezone.utc).date().isoformat() if judged else None
        earlier = [asdict(use) for use in self.earlier]
        return {**self.card(judged=judged), "on": on, "earlier": earlier, "warning": self.warning}


# What is split off where one of the two has a table of its own.
WITHOUT_TEST = (0.7, 0.3, 0.0)
_WITHOUT_VAL = (0.5, 0.0, 0.5)
MOST_EXAMPLES = (200, 100, 400)
"""The most examples for train, val and test that are used of a table unless sizes are given, so that it stays
affordable."""


@dataclass(frozen=True)
class Origin:
    """The tables that labelled examples were read from.

    Attributes:
        tables: By set its table; the same one for several sets if it was split.
        data: How they were read.
    """

    tables: Mapping[str, Path]
    data: Data


@dataclass(frozen=True)
class Sets:
    """The labelled examples of a run.

    Attributes:
        train: What mistakes are drawn from.
        val: What the returned judge is picked on.
        test: Sealed: judged once, at the end.
        how: Where they come from, in words.
        people: What several people said about them; None if each image has one label.
        manifest: Which images of a source they are; None for tables.
        seal: The test set before its use; None where no run is recorded.
        origin: The tables that they were read from, if they were.
    """

    train: Sequence[dspy.Example]
    val: Sequence[dspy.Example]
    test: Sequence[dspy.Example]
    how: str
    people: People | None = None
    manifest: Manifest | None = None
    seal: Seal | None = None
    origin: Origin | None = None

    def named(self) -> dict[str, Sequence[dspy.Example]]:
        """Returns the examples by the name of their set."""
        return {"train": self.train, "val": self.val, "test": self.test}


def load_sets(start: Start, labels: LabelSpace, seed: int, parent: VisualJudge | None = None) -> Sets:
    """Returns train, val and test; what has no table of its own is split off the first one.

    With a parent, a judge that is compiled further, images are prepared as it takes them, and those that it was
    compiled with are split off for train.

    Raises:
        DataError: Naming all rows of all tables that cannot be used, the images that are in more than one of the
            sets, or the labels that are too few to split.
    """
    table, val, test = start.data.table, start.val, start.test
    assert table is not None
    policy = None if parent is None else parent.pixel_policy
    loaded, people = _load([table, *filter(None, (val, test))], labels, start.data, policy)
    if val is not None and test is not None:
        sets = {"train": loaded[table], "val": loaded[val], "test": loaded[test]}
        how = "; ".join(f"{name} {path}" for name, path in zip(sets, (table, val, test), strict=True))
    else:
        fractions = WITHOUT_TEST if test is not None else _WITHOUT_VAL if val is not None else DEFAULT_FRACTIONS
        parts, split = divided(
            loaded[table],
            labels,
            seed=seed,
            sizes=start.sizes,
            balanced=not start.unbalanced,
            fractions=fractions,
            known=frozenset() if parent is None else known_prints(parent),
        )
        sets = {
            "train": parts["train"],
            "val": parts["val"] if val is None else loaded[val],
            "test": parts["test"] if test is None else loaded[test],
        }
        own = [f"{name} {path}" for name, path in (("val", val), ("test", test)) if path is not None]
        how = "; ".join([f"{table}: {split}", *own])
    check_disjoint(**sets)
    whence = how if people is None else f"{how}; {people.describe()}"
    origin = Origin({"train": table, "val": val or table, "test": test or table}, start.data)
    in_words = f"{sizes_in_words(sets, labels)}; {whence}"
    return Sets(sets["train"], sets["val"], sets["test"], in_words, people, origin=origin)


def divided(
    examples: Sequence[dspy.Example],
    labels: LabelSpace,
    *,
    seed: int,
    sizes: tuple[int, int, int] | None = None,
    balanced: bool = True,
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
    known: frozenset[str] = frozenset(),
) -> tuple[dict[str, list[dspy.Example]], str]:
    """Returns train, val and test, of these sizes or else of these shares up to `MOST_EXAMPLES`, and how in words.

    Examples that are known, by their `item_prints`, to have compiled the start, and what must stay with them, can be
    no test: they are added to train.

    Raises:
        DataError: If there are too few examples.
    """
    seen, fresh = _apart(examples, known)
    if seen:
        if not fresh:
            raise DataError(f"the start was compiled with all {len(seen)} images; label new ones to compile it further")
        parts, how = divided(fresh, labels, seed=seed, sizes=sizes, balanced=balanced, fractions=fractions)
        return {**parts, "train": [*seen, *parts["train"]]}, f"{how}, and {len(seen)} known to the start added to train"
    if sizes is not None:
        splits = split_examples(examples, labels=labels, seed=seed, sizes=sizes, balanced=balanced)
        return dict(zip(NAMES, splits.parts, strict=True)), splits.how
    splits = split_examples(examples, labels=labels, seed=seed, fractions=fractions)
    kept = [thinned(part, most, labels) for part, most in zip(splits.parts, MOST_EXAMPLES, strict=True)]
    return dict(zip(NAMES, kept, strict=True)), f"{splits.how}{_aside(splits.parts, kept)}"


def _apart(examples: Sequence[dspy.Example], known: frozenset[str]) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """The known examples with all that share an image or group with one of them, and the others."""
    seen: list[dspy.Example] = []
    fresh = list(examples)
    found = [example for example in fresh if known and item_prints([example]) in known]
    while found:
        ids = {example.id for example in found}
        seen, fresh = [*seen, *found], [example for example in fresh if example.id not in ids]
        pictures = {each for example in found for each in image_prints(example)}
        groups = {example.get("group") for example in found} - {None}
        found = [
            example for example in fresh if example.get("group") in groups or pictures & set(image_prints(example))
        ]
    return seen, fresh


def _aside(split: Sequence[Sequence[dspy.Example]], kept: Sequence[Sequence[dspy.Example]]) -> str:
    """What the default split of a large table leaves aside, in words."""
    there, used = (sum(map(len, parts)) for parts in (split, kept))
    if there == used:
        return ""
    most = "/".join(map(str, MOST_EXAMPLES))
    return f", {there - used} of {there} examples left aside (at most {most} are used unless sizes are given)"


def load_set(
    data: Data, labels: LabelSpace, fields: InputFields, policy: PixelPolicy
) -> tuple[list[dspy.Example], People | None]:
    """Returns all labelled images of one table for a judge's inputs, and what several people said about them.

    Raises:
        DataError: Naming all rows that cannot be used.
    """
    table = data.table
    assert table is not None
    images = tuple(map(str, fields.images))
    loaded, people = _load([table], labels, replace(data, images=images, context=fields.context), policy)
    return loaded[table], people


def sizes_in_words(sets: dict[str, list[dspy.Example]], labels: LabelSpace) -> str:
    """Returns how many examples of each label every set holds, in words."""
    return ", ".join(f"{name} {_counted(examples, labels)}" for name, examples in sets.items())


def _counted(examples: Sequence[dspy.Example], labels: LabelSpace) -> str:
    counts = Counter(example.label for example in examples)
    each = {counts[label] for label in labels.labels}
    return f"{len(examples)} ({f'{each.pop()} per label' if len(each) == 1 else histogram(examples, labels)})"


def _load(
    tables: Sequence[Path], labels: LabelSpace, data: Data, policy: PixelPolicy | None = None
) -> tuple[dict[Path, list[dspy.Example]], People | None]:
    loaded: dict[Path, list[dspy.Example]] = {}
    rated: dict[Path, Rated] = {}
    errors: list[DataError] = []
    for number, table in enumerate(tables):
        try:
            options = _options(_with_reasons(data, table) if number else data, policy)
            if data.raters is None:
                loaded[table] = load_examples(table, labels=labels, **options)
                continue
            rated[table] = load_rated(table, labels=labels, rule=data.raters.rater_rule, **options)
            loaded[table] = rated[table].examples
        except DataError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise DataError(
            f"{len(errors)} tables cannot be used; repair them:",
            [line for error in errors for line in error.problems or (str(error),)],
        )
    return loaded, None if data.raters is None else _people(rated, labels, data.raters)


def _with_reasons(data: Data, table: Path) -> Data:
    """The data as read from the table for validation or test, where reasons are for the report and may be missing."""
    column = data.reason_column
    if column is None or (table.is_file() and column in read_table(table, [column]).columns):
        return data
    return replace(data, reason_column=None)


def _options(data: Data, policy: PixelPolicy | None) -> dict[str, Any]:
    """How a table is read, as `load_examples` and `load_rated` take it."""
    return {
        "columns": data.columns,
        "policy": policy,
        "allow_outside": data.allow_outside,
        "require_labels": data.require_labels,
    }


def _people(rated: dict[Path, Rated], labels: LabelSpace, choice: RaterChoice) -> People:
    """What people said in all tables; where there are several, an item is named with its table."""
    lead = {table: f"{table.name}: " if len(rated) > 1 else "" for table in rated}
    ratings = ratings_from_rows(
        labels, [(lead[table] + item, who, label) for table, part in rated.items() for item, who, label in part.rows]
    )
    return People(
        rule=choice.rater_rule,
        raters=len(ratings.raters) or max(len(row) for row in ratings.table),
        agreement=human_agreement(ratings),
        labels={lead[table] + i: label for table, part in rated.items() for i, label in part.combined.labels.items()},
        tied=sum(len(part.combined.tied) for part in rated.values()),
        unrated=sum(len(part.combined.unrated) for part in rated.values()),
    )


def is_list(source: Labelled) -> bool:
    """Whether a set is a list of examples, not a table."""
    return isinstance(source, Sequence) and not isinstance(source, (str, Path)) and not in_memory(source)


def loaded_set(judge: VisualJudge, name: str, source: Labelled) -> list[dspy.Example]:
    """Returns labelled examples for a judge's inputs, each with an id; messages call the set by its name.

    Raises:
        DataError: Naming all rows that cannot be used.
        BlpoError: If the list holds something else.
    """
    if not is_list(source):
        table: Any = source
        columns = Columns(images=judge.images, context=judge.context)
        return load_examples(table, labels=judge.labels, columns=columns, policy=judge.pixel_policy)
    examples: list[Any] = list(source)  # type: ignore[arg-type]
    for position, example in enumerate(examples):
        check_kind(f"{name}[{position}]", example, dspy.Example, "dspy.Example", f"{name}=splits.{name}")
    return [
        example if example.get("id") is not None else example.copy(id=f"{name} {position}")
        for position, example in enumerate(examples)
    ]


def origin_of(judge: VisualJudge, given: Mapping[str, Labelled | None]) -> Origin | None:
    """Returns the tables that a judge's labelled examples were read from; None if any is in memory.

    Args:
        judge: The judge, whose inputs are columns.
        given: By set what was given for it; what is None was split off the training examples, if there is any.
    """
    sources = [source for source in given.values() if source is not None]
    if not all(isinstance(source, (str, Path)) for source in sources):
        return None
    tables = {name: Path(str(given["train"] if source is None else source)) for name, source in given.items()}
    return Origin(tables, Data(table=tables["train"], images=judge.images, context=tuple(judge.context)))
