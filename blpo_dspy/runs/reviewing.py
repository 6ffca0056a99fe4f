"""What a run leaves for people to look at again: doubtful labels, pictures it still gets wrong, and disagreements."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.examples import item_prints
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.files import write_json
from blpo_dspy.report.run.to_review import (
    DISAGREEMENT,
    DOUBTFUL,
    FORMAT,
    REVIEW,
    WRONG,
    ReviewCase,
    ReviewData,
    ReviewTables,
    by_example,
)
from blpo_dspy.runs.data.sets import Origin, Sets
from blpo_dspy.runs.record import Aligned

# What `Data` and `ReviewTables` say alike of how a table is read.
_READ_BY = (
    *("images", "image_column", "label_column", "group_column", "reason_column"),
    *("allow_outside", "require_labels"),
)


def write_review(
    folder: Path,
    aligned: Aligned,
    sets: Sets,
    tested: tuple[Sequence[dspy.Example], Sequence[Verdict]],
    models: Mapping[str, str],
    api_base: str | None,
) -> None:
    """Writes to a run's folder what people are to look at again; `tested` is what the compiled judge said.

    The names of the models and their server are for the command that compiles again.

    Raises:
        BlpoError: If it cannot be written.
    """
    labels = aligned.judge.labels
    splits = {str(example.id): name for name, examples in sets.named().items() for example in examples}
    cases = [
        *_doubtful(aligned, sets),
        *_wrong(labels, aligned.validated, splits),
        *_wrong(labels, list(zip(*tested, strict=True)) if tested[1] else [], splits),
        *_disagreements(sets, splits),
    ]
    data = ReviewData(
        format=FORMAT,
        run="" if sets.seal is None else sets.seal.run,
        labels=labels.to_dict(),
        task=aligned.record.start.judge,
        tables=None if sets.origin is None else _tables(folder, sets.origin),
        ids={name: tuple(str(example.id) for example in examples) for name, examples in sets.named().items()},
        cases=by_example(cases),
        models=models,
        api_base=api_base,
    )
    write_json(folder / REVIEW, asdict(data))


def _tables(folder: Path, origin: Origin) -> ReviewTables:
    base = folder.resolve()
    data, raters = origin.data, origin.data.raters
    ratings: dict[str, Any] = {}
    if raters is not None:
        ratings = {"rater_columns": raters.rater_columns or (), "repeated": raters.rater_columns is None}
        ratings |= {"rater_column": raters.rater_column, "rule": raters.rater_rule}
    return ReviewTables(
        paths={name: Path(os.path.relpath(path.resolve(), base)).as_posix() for name, path in origin.tables.items()},
        context=tuple(data.context or ()),
        **{name: getattr(data, name) for name in _READ_BY},
        **ratings,
    )


def _doubtful(aligned: Aligned, sets: Sets) -> Iterator[ReviewCase]:
    known = {str(example.id): example for example in sets.train}
    for error in aligned.checks.label_errors:
        yield ReviewCase(
            "train",
            error.id,
            DOUBTFUL,
            error.label,
            error.judged,
            error.description,
            error.reasoning,
            print=item_prints([known[error.id]]),
        )


def _wrong(
    labels: LabelSpace, judged: Sequence[tuple[dspy.Example, Verdict]], splits: dict[str, str]
) -> Iterator[ReviewCase]:
    """What the compiled judge still gets wrong, the farthest labels first; a failed call is not a wrong answer."""
    answered = [(example, verdict) for example, verdict in judged if not verdict.failure]
    wrong = [(e, v) for e, v in answered if not labels.right(e.label, v.label)]
    for example, verdict in sorted(wrong, key=lambda pair: -labels.loss(pair[0].label, pair[1].label)):
        yield ReviewCase(
            splits.get(str(example.id), ""),
            str(example.id),
            WRONG,
            example.label,
            verdict.label,
            verdict.description or "",
            verdict.reasoning,
            print=item_prints([example]),
        )


def _disagreements(sets: Sets, splits: dict[str, str]) -> Iterator[ReviewCase]:
    if sets.people is None:
        return
    known = {str(example.id): example for examples in sets.named().values() for example in examples}
    several = sets.origin is not None and len(set(sets.origin.tables.values())) > 1
    for found in sets.people.agreement.disagreements:
        name = found.item.partition(": ")[2] if several else found.item
        example = known.get(name)
        label = None if example is None else example.label
        prints = "" if example is None else item_prints([example])
        yield ReviewCase(
            splits.get(name, ""),
            name,
            DISAGREEMENT,
            label,
            people=found.ratings,
            print=prints,
        )
