"""K-fold over a small set: every image judged once by a judge that never saw it, and one judge compiled on all.

Where a single test split is too small to say anything, the out-of-fold verdicts say what compiling does on such data.
They are those of K judges, each compiled on the other folds, and not of the judge that is returned; and as the K share
most of their training images, their verdicts are less independent than the intervals take them to be (Bengio &
Grandvalet 2004, "No unbiased estimator of the variance of k-fold cross-validation", JMLR 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.agreement.figures import table_figures
from blpo_dspy.agreement.intervals import (
    Interval,
    MeanSd,
    PairedComparison,
    agreement_intervals,
    mean_sd,
    plain_intervals,
)
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.agreement.verdicts import Verdict, agreement_of, compare_verdicts
from blpo_dspy.data.examples import dataset_fingerprint, item_prints
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.splits import cut_folds, split_examples
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.checks.costs import costs_after
from blpo_dspy.runs.compiling import compile_and_measure
from blpo_dspy.runs.data.sets import WITHOUT_TEST, Sets, sizes_in_words
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.record import Aligned, SplitAgreement
from blpo_dspy.workspace.watch import Watch

OUT_OF_FOLD = (
    "out-of-fold estimates: every image was judged once, by a judge that was compiled in the same way on the other "
    "folds; this judge itself was compiled on all images and measured on none that it had not seen"
)


@dataclass(frozen=True)
class Folds:
    """What a small set is cut into.

    Attributes:
        folds: For each fold its images as the test set, and the others as train and val.
        whole: All images as train and val, for the judge that is returned; no test set.
    """

    folds: tuple[Sets, ...]
    whole: Sets

    def named(self) -> dict[str, Sequence[dspy.Example]]:
        """Returns the images of each fold by its name."""
        return {f"fold {number}": sets.test for number, sets in enumerate(self.folds, 1)}

    def all(self) -> list[dspy.Example]:
        """Returns all images, fold by fold."""
        return [example for sets in self.folds for example in sets.test]


def make_folds(examples: Sequence[dspy.Example], labels: LabelSpace, *, folds: int, seed: int = 0) -> Folds:
    """Returns folds of labelled examples, balanced by label, with groups and byte-identical images kept whole.

    Raises:
        DataError: If there are too few examples of a label.
        BlpoError: If that is not a valid number of folds.
    """
    parts = cut_folds(examples, labels=labels, folds=folds, seed=seed)
    rests = [[example for other in parts if other is not part for example in other] for part in parts]
    return Folds(
        tuple(_split(rest, part, labels, seed) for rest, part in zip(rests, parts, strict=True)),
        _split(examples, [], labels, seed),
    )


def _split(rest: Sequence[dspy.Example], test: list[dspy.Example], labels: LabelSpace, seed: int) -> Sets:
    splits = split_examples(rest, labels=labels, fractions=WITHOUT_TEST, seed=seed)
    named = {"train": splits.train, "val": splits.val, **({"test": test} if test else {})}
    return Sets(splits.train, splits.val, test, f"{sizes_in_words(named, labels)}; {splits.how}")


@dataclass(frozen=True)
class Folded:
    """A judge compiled on all images, and what judges compiled alike said about images that they had not seen.

    Attributes:
        cut: The folds.
        folds: What was compiled and measured for each of them.
        aligned: The judge compiled on all images; it has no test figures.
        seed: Of the cut and of the intervals.
    """

    cut: Folds
    folds: tuple[Aligned, ...]
    aligned: Aligned
    seed: int

    @property
    def labels(self) -> LabelSpace:
        """The label space."""
        return self.aligned.judge.labels

    def verdicts(self) -> tuple[list[Verdict], list[Verdict]]:
        """Returns the out-of-fold verdicts before and after on all images, in the order of `Folds.all`."""
        before, after = ([verdict for fold in self.folds for verdict in fold.verdicts[when]] for when in (0, 1))
        return before, after

    def pooled(self) -> dict[str, Agreement]:
        """Returns the agreement of the out-of-fold verdicts "before" and "after" with the labels."""
        examples = self.cut.all()
        named = zip(("before", "after"), self.verdicts(), strict=True)
        return {when: agreement_of(self.labels, examples, verdicts) for when, verdicts in named}

    def intervals(self) -> dict[str, dict[str, Interval | None]]:
        """Returns an interval for each pooled figure."""
        return {when: agreement_intervals(agreement, seed=self.seed) for when, agreement in self.pooled().items()}

    def paired(self) -> PairedComparison | None:
        """Returns before against after on the images that were answered both times; None if none was."""
        return compare_verdicts(self.labels, self.cut.all(), *self.verdicts(), seed=self.seed)

    def by_fold(self) -> dict[str, list[Agreement]]:
        """Returns the agreement "before" and "after" on each fold."""
        return {
            "before": [_on_fold(fold.before) for fold in self.folds],
            "after": [_on_fold(fold.after) for fold in self.folds],
        }

    def over_folds(self) -> dict[str, dict[str, MeanSd]]:
        """Returns mean and standard deviation of the figures "before" and "after" over the folds that define them."""
        return {
            when: {
                name: mean_sd(values)
                for name in table_figures(self.labels)
                if (values := [value for fold in measured if (value := getattr(fold, name)) is not None])
            }
            for when, measured in self.by_fold().items()
        }

    def calls(self) -> dict[str, int]:
        """Returns the LM calls of the folds by role, and under "cached" the unpaid answers."""
        counted = [fold.calls() for fold in self.folds]
        return {role: sum(calls[role] for calls in counted) for role in counted[0]}

    def card(self) -> dict[str, Any]:
        """Returns what the card of the judge that is saved says about its figures."""
        examples = self.cut.all()
        return {
            "n": len(self.folds),
            "images": len(examples),
            "sha256": dataset_fingerprint(examples),
            "prints": item_prints(examples),
            "figures": OUT_OF_FOLD,
            "agreement": {when: agreement.to_dict() for when, agreement in self.pooled().items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        pooled, intervals, paired = self.pooled(), self.intervals(), self.paired()
        return {
            "n": len(self.folds),
            "seed": self.seed,
            "images": len(self.cut.all()),
            "figures": OUT_OF_FOLD,
            **{
                when: {**agreement.to_dict(), "intervals": plain_intervals(intervals[when])}
                for when, agreement in pooled.items()
            },
            "paired": None if paired is None else paired.to_dict(),
            "over_folds": {
                when: {name: asdict(found) for name, found in named.items()}
                for when, named in self.over_folds().items()
            },
            "rows": [_row(n, *pair) for n, pair in enumerate(zip(self.folds, self.cut.folds, strict=True), 1)],
            "calls": self.calls(),
        }


def _on_fold(measured: SplitAgreement) -> Agreement:
    assert measured.test is not None  # `share` refuses a cap that doesn't pay for it
    return measured.test


def _row(number: int, fold: Aligned, sets: Sets) -> dict[str, Any]:
    said = zip(sets.test, *fold.verdicts, strict=True)
    return {
        "fold": number,
        "how": sets.how,
        "before": _on_fold(fold.before).to_dict(),
        "after": _on_fold(fold.after).to_dict(),
        "compiled": asdict(fold.record.returned),
        "stop_reason": fold.record.stop_reason,
        "calls": fold.calls(),
        "seconds": round(fold.seconds, 2),
        "images": [
            {"id": example.get("id"), "label": example.label, "before": before.label, "after": after.label}
            for example, before, after in said
        ],
    }


def share(search: Search, start: VisualJudge, cut: Folds) -> Search:
    """Returns the search of each of the K folds and of the whole, which get equal shares of the caps.

    Raises:
        BlpoError: If a share of the cap on calls doesn't pay for the images of a fold.
    """
    parts = len(cut.folds) + 1
    calls, tokens = (None if cap is None else cap // parts for cap in (search.max_calls, search.max_tokens))
    usd, seconds = (None if cap is None else cap / parts for cap in (search.max_usd, search.max_seconds))
    each = replace(search, max_calls=calls, max_tokens=tokens, max_usd=usd, max_seconds=seconds)
    largest = max(cut.folds, key=lambda sets: len(sets.test))
    if calls is not None and costs_after(start, largest, each).test is None:
        raise BlpoError(
            f"max_calls={search.max_calls} is too small for {len(cut.folds)} folds: shared out equally among "
            f"{parts} searches it leaves {calls} calls for each, and half of them don't pay for judging the "
            f"{len(largest.test)} images of a fold before and after; raise it, or take fewer folds",
            option="max_calls",
        )
    return each


def searches_of(each: Search, cut: Folds) -> list[tuple[Sets, Search]]:
    """Returns the sets and the search of each fold, and of the whole, where labels that may be wrong are looked for."""
    return [*((sets, replace(each, label_errors=0)) for sets in cut.folds), (cut.whole, each)]


def align_folds(
    start: VisualJudge,
    cut: Folds,
    models: Models,
    search: Search,
    watch: Watch,
    log_dir: Path | None = None,
) -> Folded:
    """Compiles the judge to keep on all images, and one like it for each fold, which is measured there.

    The caps of the search hold for all of them together. With a log folder, in which each fold has one of its own, the
    same call continues a run that was cut short.

    Raises:
        BlpoError: As `BLPO.compile`, or if the cap on calls is too small, or a fold could not be judged.
    """
    *folds, (whole, each) = searches_of(share(search, start, cut), cut)
    watch.say(f"All images: {whole.how}")
    # First, so that a log folder of another run is refused before anything is paid for.
    aligned = compile_and_measure(start, whole, models, each, watch, log_dir=log_dir)
    done = []
    for number, (sets, one) in enumerate(folds, 1):
        watch.say(f"Fold {number} of {len(cut.folds)}: {sets.how}")
        folder = None if log_dir is None else log_dir / f"fold-{number}"
        done.append(compile_and_measure(start, sets, models, one, watch, log_dir=folder))
        if not done[-1].verdicts[1]:
            raise BlpoError(
                f"fold {number} of {len(cut.folds)} was not judged (the warnings say why), so there are no figures "
                "over all folds; repeat the call with the same run folder, if it has one, to continue"
            )
    found = Folded(cut, tuple(done), aligned, search.seed)
    aligned.judge.card["folds"] = found.card()
    return found
