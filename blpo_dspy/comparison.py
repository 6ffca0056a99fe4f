"""Every optimizer on the same labels, with the same models and the same number of LM calls, in one table."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.agreement import Agreement, measure_agreement
from blpo_dspy.budget import Budget
from blpo_dspy.data import dataset_fingerprint
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.journal import Journal
from blpo_dspy.labelling import Verdict, label_images
from blpo_dspy.ledger import Usage
from blpo_dspy.metering import Answer, Meter
from blpo_dspy.methods import Method, chosen
from blpo_dspy.models import Models
from blpo_dspy.optimizers.records import BLPOResult
from blpo_dspy.optimizers.setup import dataset
from blpo_dspy.optimizers.workers import Workers
from blpo_dspy.programs.artifact import write_json
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.statistics import agreement_intervals, compare_paired

RESULTS = "results.json"


@dataclass(frozen=True)
class Row:
    """One method with one seed.

    Attributes:
        method: Its name.
        seed: Its seed.
        val: Agreement on the validation set, as data; None if the method failed.
        test: Agreement on the sealed test set, with "intervals" by figure.
        paired: The paired comparison with no optimization on the test set; None for that row itself.
        calls: LM calls by role that count against the cap.
        images: Images sent to the optimizer LM.
        tokens: Prompt and completion tokens.
        seconds: Wall time of the search.
        stop_reason: Why it ended.
        instructions: Judge and verbalizer instruction at the end.
        curve: (LM calls spent, validation score) of the candidates the method validated, in order.
        predicted: The test labels, None for an invalid answer.
        error: What went wrong, "" if nothing did.
    """

    method: str
    seed: int
    val: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    paired: Mapping[str, Any] | None = None
    calls: Mapping[str, int] | None = None
    images: int = 0
    tokens: int = 0
    seconds: float = 0.0
    stop_reason: str = ""
    instructions: Mapping[str, str] | None = None
    curve: Sequence[Sequence[float]] = ()
    predicted: Sequence[Any] = ()
    error: str = ""

    @property
    def spent(self) -> int:
        """Judge, verbalizer and optimizer calls together."""
        return sum(count for role, count in (self.calls or {}).items() if role != "cached")


@dataclass(frozen=True)
class Comparison:
    """The rows of a comparison and what they share."""

    rows: tuple[Row, ...]
    about: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {"about": dict(self.about), "rows": [asdict(row) for row in self.rows]}


def compare(
    student: VisualJudge,
    *,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example],
    testset: Sequence[dspy.Example],
    models: Models,
    max_calls: int,
    optimizers: str | None = None,
    seeds: Sequence[int] = (0,),
    out: str | os.PathLike[str],
    num_threads: int | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> Comparison:
    """Compiles the student with every method and seed and measures each once on the sealed test set.

    Every method has the same data, models, threads and one hard cap on LM calls. An answer that one method paid for
    is not paid for again when another asks the same, but counts against that other's cap all the same. Rows are
    written as they come; the same call with the same folder continues an interrupted comparison.

    Args:
        student: The judge to begin with.
        trainset: Labelled examples to search on.
        valset: Labelled examples to pick the returned program on.
        testset: Labelled examples that no method sees.
        models: The models by role.
        max_calls: The most judge, verbalizer and optimizer calls of a method.
        optimizers: Names of `METHODS`, comma-separated; all of them if None.
        seeds: One run of every method for each.
        out: Folder for the answers, the rows and `results.json`.
        num_threads: LM calls under way at once.
        on_row: Called with each row as it is finished, also with those of an earlier session.

    Raises:
        BlpoError: If a method is unknown or the folder holds another comparison.
        ModelError: If a model cannot be used at all.
    """
    methods = chosen(optimizers)
    trainset, valset, testset = (dataset(student, s, None, "label").examples for s in (trainset, valset, testset))
    about = {
        "max_calls": max_calls,
        "train": dataset_fingerprint(trainset),
        "val": dataset_fingerprint(valset),
        "test": dataset_fingerprint(testset),
        "student": {
            "judge": student.instruction,
            "verbalizer": student.verbalizer_instruction,
            "labels": student.labels.to_dict(),
            "evidence": student.evidence,
            "context": list(student.context),
        },
        "models": {role: getattr(models, role).model for role in ("judge", "verbalizer", "optimizer")},
    }
    journal = Journal(out, {"comparison": about})
    try:
        arena = _Arena(student, trainset, valset, testset, models, max_calls, num_threads, journal)
        rows: list[Row] = []
        for seed in seeds:
            baseline: Row | None = None
            for name, method in methods.items():
                row = arena.finished(name, seed) or arena.run(name, method, seed, baseline)
                baseline = baseline or row
                rows.append(row)
                if on_row is not None:
                    on_row(row)
    finally:
        journal.close()
    comparison = Comparison(tuple(rows), about)
    write_json(Path(out) / RESULTS, comparison.to_dict())
    return comparison


class _SharedAnswers:
    """One run's view of the answers that all runs share: each is counted once as if this run had paid for it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._claimed: set[str] = set()

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        known = self._journal.get(key)
        if known is None:
            return None
        usage = Usage(cached=1) if key in self._claimed else known[0].usage
        self._claimed.add(key)
        return known[0], usage

    def put(self, key: str, role: str, answer: Answer) -> None:
        self._claimed.add(key)
        self._journal.put(key, role, answer)

    def put_failed(self, role: str, usage: Usage) -> None:
        self._journal.put_failed(role, usage)

    def failed(self) -> dict[str, Usage]:
        """Nothing: which run an attempt of an earlier session failed in is not known."""
        return {}


class _Arena:
    """What every method of a comparison is run with."""

    def __init__(
        self,
        student: VisualJudge,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example],
        testset: Sequence[dspy.Example],
        models: Models,
        max_calls: int,
        num_threads: int | None,
        journal: Journal,
    ) -> None:
        self._student, self._models = student, models
        self._train, self._val, self._test = trainset, valset, testset
        self._max_calls, self._num_threads, self._journal = max_calls, num_threads, journal

    def finished(self, name: str, seed: int) -> Row | None:
        """Returns the row of an earlier session; one that failed is run again."""
        data = self._journal.recorded(name, seed)
        return None if data is None or data["error"] else Row(**data)

    def run(self, name: str, method: Method, seed: int, baseline: Row | None) -> Row:
        """Runs one method and writes its row down."""
        began = time.monotonic()
        try:
            program, record = self._compiled(method, seed)
        except ModelError:
            raise
        except Exception as error:
            # A method, ours or another library's, may fail in any way: its row says how, and the others go on.
            row = Row(name, seed, seconds=time.monotonic() - began, error=f"{type(error).__name__}: {error}")
        else:
            row = self._measured(Row(name, seed, seconds=time.monotonic() - began), program, record, baseline)
        self._journal.record(name, seed, asdict(row))
        return row

    def _compiled(self, method: Method, seed: int) -> tuple[VisualJudge, BLPOResult | None]:
        student = method.student(self._student)
        if method.make is None:
            return student, None
        optimizer = method.make(
            prompt_model=self._models.optimizer,
            task_model=self._models.judge,
            verbalizer_model=self._models.verbalizer,
            budget=Budget(max_calls=self._max_calls),
            seed=seed,
            num_threads=self._num_threads,
            answers=_SharedAnswers(self._journal),
            **method.options,
        )
        program = optimizer.compile(student, trainset=self._train, valset=self._val)
        return program, program.detailed_results

    def _measured(self, row: Row, program: VisualJudge, record: BLPOResult | None, baseline: Row | None) -> Row:
        labels = self._student.labels
        val, _ = self._agreement(program, self._val)
        test, predicted = self._agreement(program, self._test)
        intervals = {name: i and asdict(i) for name, i in agreement_intervals(test).items()}
        truth = [example.label for example in self._test]
        paired = None
        if baseline is not None and len(baseline.predicted) == len(truth):
            paired = compare_paired(labels, truth, baseline.predicted, predicted).to_dict()
        ledger = None if record is None else record.ledger
        return Row(
            row.method,
            row.seed,
            val=val.to_dict(),
            test={**test.to_dict(), "intervals": intervals},
            paired=paired,
            calls=None if ledger is None else ledger.calls(),
            images=0 if ledger is None else ledger["optimizer"].images,
            tokens=0 if ledger is None else ledger.total.tokens,
            seconds=row.seconds,
            stop_reason="" if record is None else record.stop_reason,
            instructions={"judge": program.instruction, "verbalizer": program.verbalizer_instruction},
            curve=() if record is None else _curve(record),
            predicted=predicted,
        )

    def _agreement(self, program: VisualJudge, examples: Sequence[dspy.Example]) -> tuple[Agreement, list[Any]]:
        """Agreement outside the cap; an LM failure is left out of it and stands as None among the labels."""
        with Workers(self._num_threads) as workers:
            meter = Meter(num_threads=workers.num_threads, store=_SharedAnswers(self._journal))
            inputs = [dict(example.inputs().items()) for example in examples]
            verdicts: list[Verdict] = label_images(program, self._models, inputs, workers=workers, meter=meter)
        answered = [(e.label, v.label) for e, v in zip(examples, verdicts, strict=True) if not v.failure]
        failed = len(verdicts) - len(answered)
        agreement = measure_agreement(
            self._student.labels, [label for label, _ in answered], [label for _, label in answered], failed=failed
        )
        return agreement, [verdict.label for verdict in verdicts]


def _curve(record: BLPOResult) -> list[list[float]]:
    points = sorted([float(v.spent), v.score] for v in record.validations)
    best, curve = 0.0, []
    for spent, score in points:
        best = max(best, score)
        curve.append([spent, best])
    return curve


def load_comparison(folder: str | os.PathLike[str]) -> Comparison:
    """Returns the comparison that `compare` wrote to a folder.

    Raises:
        BlpoError: If there is none, or it isn't readable.
    """
    path = Path(folder) / RESULTS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Comparison(tuple(Row(**row) for row in data["rows"]), data["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BlpoError(f"{path}: not the results of a comparison ({error}); run `blpo compare` again") from error
