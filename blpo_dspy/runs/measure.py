"""How far a judge agrees with people on labelled images, and how two judges compare on the same ones."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.agreement.figures import table_figures
from blpo_dspy.agreement.intervals import Interval, PairedComparison, agreement_intervals
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.agreement.verdicts import Verdict, agreement_of, compare_verdicts
from blpo_dspy.data.examples import dataset_fingerprint, item_prints
from blpo_dspy.errors import BlpoError, check_kind, notice
from blpo_dspy.models.lm import Models
from blpo_dspy.notebook import html_table, one_line
from blpo_dspy.optimizers.bench.cards import ancestors_of, prints_of, sets_of
from blpo_dspy.predictions.given import given_models
from blpo_dspy.predictions.labelling import inputs_of, label_images
from blpo_dspy.programs.cascade import stages_of
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.data.sets import Labelled, loaded_set
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.meter import GRACE, Meter
from blpo_dspy.workspace.watch import Watch, watching
from blpo_dspy.workspace.workers import Workers
from blpo_dspy.workspace.workspace import current_workspace


@dataclass(frozen=True, repr=False)
class Measurement:
    """A judge measured on labelled images.

    Attributes:
        agreement: With people.
        intervals: By figure a 95 % interval, None where the figure is undefined.
        verdicts: One per image, in order.
        ledger: The LM calls by role.
        against: The agreement of the judge that it was compared with, None if there is none.
        paired: The comparison of the two on the images that both answered: from that judge to this one.
    """

    agreement: Agreement
    intervals: Mapping[str, Interval | None]
    verdicts: tuple[Verdict, ...]
    ledger: Ledger
    against: Agreement | None = None
    paired: PairedComparison | None = None

    def summary(self) -> str:
        """Returns the figures with their intervals in a few lines."""
        lines = [" ".join(filter(None, cells)) for cells in self._table()[1:]]
        if self.paired is not None:
            lines += textwrap.wrap(self.paired.wording, 100)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return one_line(self, "; ".join(self.summary().splitlines()))

    def _repr_html_(self) -> str:
        return html_table(self._table()) + ("" if self.paired is None else f"<p>{self.paired.wording}</p>")

    def _table(self) -> list[list[str]]:
        """The figures, one row each, the header first."""
        rows = [["figure", "value", "95 % interval"]]
        names = {"spearman": "Spearman", **table_figures(self.agreement.labels)}
        for name, interval in self.intervals.items():
            value = getattr(self.agreement, name, None)
            if value is not None:
                ends = "" if interval is None else f"({interval.low:.2f} to {interval.high:.2f})"
                rows.append([names.get(name, name.replace("_", " ")), f"{value:.2f}", ends])
        rows.append(["images", f"{self.agreement.n:,}", ""])
        for name in ("invalid", "failed"):
            if count := getattr(self.agreement, name):
                rows.append([name, f"{count:,}", ""])
        return rows


def measure(
    judge: VisualJudge,
    testset: Labelled,
    *,
    against: VisualJudge | None = None,
    seed: int = 0,
    run_dir: str | Path | None = None,
) -> Measurement:
    """Measures how far a judge agrees with people, and, with `against`, how it compares with another judge.

    A warning is issued where the judge was compiled with, or calibrated on, some of these images.

    Args:
        judge: The judge.
        testset: Labelled examples, or a table as `load_examples` takes it.
        against: A second judge with the same labels and inputs, which judges the same images.
        seed: Of the intervals.
        run_dir: A folder for the answers, where no `Workspace` has one: a request that it holds the answer to, as
            after an interruption, is not paid for again, whether or not DSPy's cache knows it.

    Raises:
        DataError: If examples cannot be used.
        ModelError: If a model cannot be used, or stops answering.
        BlpoError: If the two judges differ in their labels or inputs.
    """
    for name, each in (("judge", judge), *([] if against is None else [("against", against)])):
        check_kind(name, each, VisualJudge, "judge", "VisualJudge.load('judge.json')")
    if against is not None and (against.labels, against.fields) != (judge.labels, judge.fields):
        raise BlpoError("the two judges differ in their labels or inputs; only judges of the same task can be compared")
    examples = loaded_set(judge, "testset", testset)
    for line in own_data(judge, examples):
        notice(f"the judge was compiled with {line}")
    for line in calibration_data(judge, examples):
        notice(f"the judge was calibrated on {line}")
    judges = [judge] if against is None else [judge, against]
    asked = [(each, given_models(each), examples) for each in judges]
    folder = None if run_dir is None else Path(run_dir)
    with watching(resumes=folder or current_workspace().folder) as watch:
        return measured(asked, watch, seed=seed, run_dir=folder)


def measured(
    asked: Sequence[tuple[VisualJudge, Models | Sequence[Models], Sequence[dspy.Example]]],
    watch: Watch,
    *,
    seed: int,
    run_dir: Path | None,
) -> Measurement:
    """Returns the measurement of the first of one or two judges, each asked with its models about the same images.

    Further arguments and errors are those of `measure`.
    """
    labels, said = asked[0][0].labels, []
    about = {"judges": [judge.identity() for judge, _, _ in asked], "test": dataset_fingerprint(asked[0][2])}
    with asking(run_dir, "evaluate", about) as (workers, job):
        meter = Meter(num_threads=workers.num_threads, job=job)
        for judge, models, examples in asked:
            watch.begin("judging", len(examples))
            how: dict[str, Any] = {"workers": workers, "meter": meter, "done": watch.advance, "orders": judge.orders}
            said.append(label_images(judge, models, inputs_of(examples), **how))
    sets = [examples for _, _, examples in asked]
    agreement, *others = (agreement_of(labels, *pair) for pair in zip(sets, said, strict=True))
    return Measurement(
        agreement=agreement,
        intervals=agreement_intervals(agreement, seed=seed),
        verdicts=tuple(said[0]),
        ledger=meter.ledger,
        against=others[0] if others else None,
        paired=compare_verdicts(labels, sets[0], said[1], said[0], seed=seed) if others else None,
    )


@contextlib.contextmanager
def asking(run_dir: Path | None, kind: str, about: Mapping[str, Any]) -> Iterator[tuple[Workers, Job]]:
    """Yields threads for LM calls, and the job of this kind: in the workspace, in a folder, or in memory.

    A job about other things continues one in the same folder, as answers are known by their requests.

    Raises:
        StoreError: If it cannot be written.
    """
    with contextlib.closing(current_workspace().job(kind, about if run_dir is None else {}, run_dir)) as job:
        with Workers(None, grace=0.0 if job.path is None else GRACE) as workers:
            yield workers, job
        job.end("done")


def own_data(judge: VisualJudge, examples: Sequence[dspy.Example]) -> Iterator[str]:
    """Yields a remark for each set that a judge, or one that it was compiled from, was compiled with images of."""
    for which_set, prints in known_sets(judge):
        if which_ones := _shared(prints, examples):
            yield f"{which_ones} ({which_set}): its figures here are too good"


def calibration_data(judge: VisualJudge, examples: Sequence[dspy.Example]) -> Iterator[str]:
    """Yields a remark if a judge, or a judge of a cascade, was calibrated on some of these images."""
    cards = (each.card.get("calibration") for each in (judge, *stages_of(judge)))
    data = [card["data"] for card in cards if isinstance(card, dict) and isinstance(card.get("data"), dict)]
    if which_ones := _shared(frozenset().union(*map(prints_of, data)), examples):
        yield f"{which_ones}: its threshold was chosen by them, so that agreement on what it labels is too good here"


def _shared(prints: frozenset[str], examples: Sequence[dspy.Example]) -> str:
    """How many of the images are known, in words; "" for none."""
    images = frozenset(item_prints(examples).split())
    shared = len(images & prints)
    if not shared:
        return ""
    return "exactly these images" if shared == len(images) else f"{shared} of these {len(images)} images"


def known_sets(judge: VisualJudge) -> Iterator[tuple[str, frozenset[str]]]:
    """Yields the sets that a judge, or one that it was compiled from, was compiled with: their name, and their images.

    Those of the judges of a cascade are its own.
    """
    for stage in stages_of(judge):
        own = {which: prints_of(part) for which, part in sets_of(stage.card).items()}
        earlier: dict[str, frozenset[str]] = {}
        for sets in ancestors_of(stage.card):
            for which, part in sets.items():
                earlier[which] = earlier.get(which, frozenset()) | prints_of(part)
        for whose, known in (("its {}", own), ("the {} of a judge that it was compiled from", earlier)):
            for which, prints in known.items():
                yield whose.format("train and val set" if which == "folds" else f"{which} set"), prints
