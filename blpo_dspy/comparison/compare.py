"""Every optimizer on the same labels, with the same models and the same number of LM calls, in one table."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.agreement.intervals import agreement_intervals, plain_intervals
from blpo_dspy.agreement.verdicts import Verdict, agreement_of, compare_verdicts
from blpo_dspy.comparison.methods import Method, chosen
from blpo_dspy.comparison.needs import Terms, check_methods
from blpo_dspy.comparison.progress import ComparisonProgress
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.data.examples import dataset_fingerprint, item_prints, reasons_fingerprint
from blpo_dspy.data.fields import IMAGE
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.splits import Splits
from blpo_dspy.errors import BlpoError, ModelError, brief
from blpo_dspy.files import RESULTS, write_json
from blpo_dspy.models.failures import FATAL_ERRORS
from blpo_dspy.models.lm import Models, identity
from blpo_dspy.models.prices import check_priced
from blpo_dspy.notebook import html_table, one_line, share
from blpo_dspy.optimizers.bench.records import BLPOResult
from blpo_dspy.optimizers.bench.setup import dataset
from blpo_dspy.predictions.given import models_of
from blpo_dspy.predictions.labelling import inputs_of, label_images
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import ROLES
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.outages import Outages
from blpo_dspy.workspace.watch import watching
from blpo_dspy.workspace.workers import Workers
from blpo_dspy.workspace.workspace import current_workspace

_MOST_LOST = 0.5  # of the calls of a search


@dataclass(frozen=True, repr=False)
class Comparison:
    """The rows of a comparison, what they share, and the human labels of the test images."""

    rows: tuple[ComparisonRow, ...]
    about: Mapping[str, Any]
    truth: Sequence[Label] = ()

    @property
    def labels(self) -> LabelSpace:
        """The label space."""
        return LabelSpace.from_dict(self.about["student"]["labels"])

    def __repr__(self) -> str:
        methods, seeds = ({getattr(row, name) for row in self.rows} for name in ("method", "seed"))
        about = f"{len(seeds)} seeds, max_calls={self.about.get('max_calls')}"
        return one_line(self, f"{about}: {', '.join(sorted(methods))}")

    def _repr_html_(self) -> str:
        rows = [["method", "seed", "test macro-F1", "test kappa", "calls", ""]]
        for row in self.rows:
            figures = [share((row.test or {}).get(name)) for name in ("macro_f1", "kappa")]
            rows.append([row.method, str(row.seed), *figures, f"{row.spent:,}", brief(row.error, 80)])
        return html_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {"about": dict(self.about), "truth": list(self.truth), "rows": [asdict(row) for row in self.rows]}


def compare(
    student: VisualJudge,
    *,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example],
    testset: Sequence[dspy.Example],
    max_calls: int,
    max_usd: float | None = None,
    optimizers: str | Mapping[str, Method] | None = None,
    seeds: Sequence[int] = (0,),
    out: str | os.PathLike[str],
) -> Comparison:
    """Compiles the student with every method and seed and measures each once on the sealed test set.

    Every method has the same data, models, threads and one hard cap on LM calls. An answer that one method paid for
    is not paid for again when another asks the same, but counts against that other's cap all the same; DSPy's own cache
    is off, since it would make some calls free. The cap is on the search: the two final measurements of each returned
    program, on the validation and on the test set, come on top. Methods have sizes that no usual cap pays for; a row
    says if one ended by itself all the same (`capped`).

    For the same data, seeds and answers our own optimizers return the same, whatever the number of threads; of DSPy's
    own see `DSPyAdapter`.

    The store holds every answer and one record per run, written as it ends; `results.json` is brought up
    to date with each. The same call with the same folder continues an interrupted comparison; more methods or seeds may
    be added to it. A run that failed, whose cap was partly used up by failed calls, or whose measurement lacks answers
    because of an outage, is made again from the answers that are there.

    Args:
        student: The judge to begin with.
        trainset: Labelled examples to search on.
        valset: Labelled examples to pick the returned program on.
        testset: Labelled examples that no method sees.
        max_calls: The most judge, verbalizer and optimizer calls of a method.
        max_usd: The most US dollars of a method, if that is capped too.
        optimizers: Names of `METHODS`, comma-separated; all of them if None. Or methods of your own by name; a name
            stands for the same method whenever the folder is used. "none" is always among them.
        seeds: One run of every method for each.
        out: Folder for `results.json`, and for the store where no `Workspace` has one. The workspace's `progress` is
            called with each `ComparisonRow` as it is finished, also with those of an earlier session.

    Raises:
        BlpoError: If methods are unknown or cannot run, a cap pays for nothing or can't be kept, or the folder holds
            another comparison. Nothing was spent then.
        ModelError: If a model cannot be used at all; what was finished is kept.
    """
    if isinstance(optimizers, Mapping):
        methods = {**chosen("none" if optimizers else ""), **optimizers}
    else:
        methods = chosen(optimizers)
    terms = Terms(models_of(student), Budget(max_calls, max_usd=max_usd))
    return compared(student, (trainset, valset, testset), terms, methods, seeds, Path(out))


def compared(
    student: VisualJudge,
    examples: tuple[Sequence[dspy.Example], Sequence[dspy.Example], Sequence[dspy.Example]],
    terms: Terms,
    methods: Mapping[str, Method],
    seeds: Sequence[int],
    out: Path,
) -> Comparison:
    """Returns the comparison of methods by name on training, validation and test examples; see `compare`."""
    if not seeds:
        raise BlpoError("a comparison needs at least one seed")
    train, val, test = (list(dataset(student, part, None, "label").examples) for part in examples)
    sets = Splits(train, val, test, student.labels, how="given")
    # What DSPy's cache holds from earlier runs would be free for some methods only.
    models = Models(*(getattr(terms.models, role).copy(cache=False) for role in ROLES))
    terms, workspace = replace(terms, models=models), current_workspace()
    check_priced(terms.budget.max_usd, [getattr(models, role) for role in ROLES], workspace.prices)
    check_methods(methods, terms, student, sets.train, sets.val)
    about, max_usd = _about(student, sets, models, terms.budget.max_calls), terms.budget.max_usd
    about |= {} if max_usd is None else {"max_usd": max_usd}
    truth = [example.label for example in sets.test]
    rows: list[ComparisonRow] = []
    job: Job = workspace.job("comparison", {"comparison": about}, out, counting="none")
    seeds = tuple(dict.fromkeys(seeds))
    with closing(job), watching(resumes=out) as watch:
        arena = _Arena(student, sets, terms, job)
        progress = ComparisonProgress(watch, len(methods) * len(seeds), terms.budget.max_calls or 0)
        for seed in seeds:
            baseline: ComparisonRow | None = None
            for name, method in methods.items():
                row = arena.finished(name, seed)
                if row is None:
                    progress.start(name, seed)
                    row = arena.run(name, method, seed, progress.calls)
                row = arena.scored(row, baseline)
                baseline = baseline or row
                rows.append(row)
                write_json(out / RESULTS, Comparison(tuple(rows), about, truth).to_dict())
                progress.row(row)
        job.end("done")
    return Comparison(tuple(rows), about, truth)


def _about(student: VisualJudge, sets: Splits[dspy.Example], models: Models, max_calls: int | None) -> dict[str, Any]:
    """What two sessions of one comparison have in common."""
    return {
        "max_calls": max_calls,
        **{name: dataset_fingerprint(getattr(sets, name)) for name in ("train", "val", "test")},
        "test_prints": item_prints(sets.test),
        **({"reasons": reasons} if (reasons := reasons_fingerprint(sets.train)) else {}),
        "student": {
            "judge": student.instruction,
            "verbalizer": student.verbalizer_instruction,
            "labels": student.labels.to_dict(),
            "evidence": student.evidence,
            "reasoning": student.reasoning,
            **({} if student.images == (IMAGE,) else {"images": list(student.images)}),
            "context": list(student.context),
        },
        "models": {role: identity(getattr(models, role)) for role in ROLES},
    }


@dataclass(frozen=True)
class _Arena:
    """What every method of a comparison is run with."""

    student: VisualJudge
    sets: Splits[dspy.Example]
    terms: Terms
    job: Job

    def finished(self, name: str, seed: int) -> ComparisonRow | None:
        """Returns the row of an earlier session, unless it is to be made again: failed calls took something from it."""
        data = self.job.recorded(name, seed)
        row = None if data is None else ComparisonRow(**data)
        return None if row is None or row.error or row.outages or row.cut_short else row

    def run(self, name: str, method: Method, seed: int, on_calls: Callable[[int], None]) -> ComparisonRow:
        """Runs one method and writes its row down."""
        try:
            program, record = self._compiled(name, method, seed, on_calls)
        except Exception as error:
            if _is_fatal(error):
                raise
            # A method, ours or another library's, may fail in any way: its row says how, and the others run.
            row = ComparisonRow(name, seed, error=f"{type(error).__name__}: {error}")
        else:
            row = _with_record(self._measured(ComparisonRow(name, seed), program), record, len(self.sets.val))
        self.job.record(name, seed, asdict(row))
        return row

    def scored(self, row: ComparisonRow, baseline: ComparisonRow | None) -> ComparisonRow:
        """Returns the row with its comparison with no optimization, whose own row may have been made again."""
        if baseline is None or not baseline.predicted or not row.predicted:
            return row
        paired = compare_verdicts(self.student.labels, self.sets.test, baseline.verdicts, row.verdicts, seed=0)
        curve = [[0.0, baseline.score], *row.curve] if row.curve and baseline.score is not None else row.curve
        return replace(row, paired=None if paired is None else paired.to_dict(), curve=curve)

    def _run(self, name: str, seed: int, on_calls: Callable[[int], None] = lambda calls: None) -> Job:
        """The view that one run has of the answers that all share: each counts once as if this run had paid for it.

        Which run an attempt of an earlier session failed in makes no difference: it counts for none.
        """
        return self.job.another("run", name=f"{name}:{seed}", counting="all", on_calls=on_calls)

    def _compiled(
        self, name: str, method: Method, seed: int, on_calls: Callable[[int], None]
    ) -> tuple[VisualJudge, BLPOResult | None]:
        student = method.student(self.student)
        job = self._run(name, seed, on_calls)
        optimizer = self.terms.optimizer(method, seed, job)
        if optimizer is None:
            job.end("done")
            return student, None
        program = optimizer.compile(student, trainset=self.sets.train, valset=self.sets.val)
        job.end("done")
        record: BLPOResult = program.detailed_results
        _check_searched(record)
        return program, record

    def _measured(self, row: ComparisonRow, program: VisualJudge) -> ComparisonRow:
        """The row with the measurements on both sets, outside the cap; a call that failed is not an answer."""
        with Workers(None) as workers:
            val, test = (self._verdicts(row, program, part, workers) for part in (self.sets.val, self.sets.test))
        labels = self.student.labels
        agreement = agreement_of(labels, self.sets.test, test)
        answered = [(e.label, v.label) for e, v in zip(self.sets.val, val, strict=True) if not v.failure]
        losses = [labels.loss(label, predicted) for label, predicted in answered]
        return replace(
            row,
            val=agreement_of(labels, self.sets.val, val).to_dict(),
            test={**agreement.to_dict(), "intervals": plain_intervals(agreement_intervals(agreement))},
            instructions={"judge": program.instruction, "verbalizer": program.verbalizer_instruction},
            predicted=[verdict.label for verdict in test],
            failed=[i for i, verdict in enumerate(test) if verdict.failure],
            outages=sum(verdict.outage for verdict in (*val, *test)),
            score=1 - sum(losses) / len(losses) if losses else None,
        )

    def _verdicts(
        self, row: ComparisonRow, program: VisualJudge, examples: Sequence[dspy.Example], workers: Workers
    ) -> list[Verdict]:
        job = self.job.another("measurement", name=f"{row.method}:{row.seed}", counting="all")
        outages = Outages(current_workspace().max_outage, known=program is not self.student)
        meter = Meter(num_threads=workers.num_threads, job=job, outages=outages)
        verdicts = label_images(program, self.terms.models, inputs_of(examples), workers=workers, meter=meter)
        job.end("done")
        return verdicts


def _check_searched(record: BLPOResult) -> None:
    """Refuses a search whose cap was used up by failed calls: what it returned says nothing about the method."""
    total = record.ledger.total
    if record.capped and total.failed > _MOST_LOST * total.calls:
        raise ModelError(
            f"{total.failed} of {total.calls} calls of the search failed, and they count against its cap; repeat the "
            "comparison with the same folder to search again"
        )


def _with_record(row: ComparisonRow, record: BLPOResult | None, images: int) -> ComparisonRow:
    """The row with the record of a search that had so many validation images."""
    if record is None:
        return row
    searched = replace(
        row,
        calls=record.ledger.calls(),
        images=record.ledger["optimizer"].images,
        tokens=record.ledger.total.tokens,
        lm_seconds=record.ledger.total.seconds,
        stop_reason=record.stop_reason,
        capped=record.capped,
        lost=record.ledger.total.failed,
    )
    return replace(searched, curve=_curve(record, searched, images))


def _is_fatal(error: BaseException) -> bool:
    """Whether no other method could do better: the model refuses the key, say."""
    cause: BaseException | None = error
    while isinstance(cause, ModelError):
        cause = cause.__cause__
    return isinstance(cause, FATAL_ERRORS)


def _curve(record: BLPOResult, row: ComparisonRow, images: int) -> list[list[float]]:
    """The best score so far on the validation set by calls, once there were any, and what was returned.

    A score on a part of the set cannot be compared with the others.
    """
    validated = sorted(
        [float(v.spent), v.score] for v in record.validations if 0 < v.spent < row.spent and v.examples == images
    )
    best = itertools.accumulate((score for _, score in validated), max)
    curve = [[spent, score] for (spent, _), score in zip(validated, best, strict=True)]
    return [] if row.score is None else [*curve, [float(row.spent), row.score]]


def load_comparison(folder: str | os.PathLike[str]) -> Comparison:
    """Returns the comparison that `compare` wrote to a folder.

    Raises:
        BlpoError: If there is none, or it isn't readable.
    """
    path = Path(folder) / RESULTS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Comparison(tuple(ComparisonRow(**row) for row in data["rows"]), data["about"], data["truth"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BlpoError(f"{path}: not the results of a comparison ({error}); run `blpo compare` again") from error
