"""One call for the whole way: labelled images in; an aligned judge, its measurements and its report out."""

from __future__ import annotations

import difflib
import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy.agreement.intervals import flips_in_words
from blpo_dspy.agreement.label_errors import FILE_NAME as LABEL_ERRORS
from blpo_dspy.agreement.label_errors import with_examples, write_label_errors
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.examples import check_disjoint
from blpo_dspy.data.splits import check_labels
from blpo_dspy.errors import BlpoError, check_kind, notice
from blpo_dspy.files import writable_folder, write_json
from blpo_dspy.models.lm import Models
from blpo_dspy.notebook import html_table, one_line
from blpo_dspy.optimizers.bench.cards import known_prints
from blpo_dspy.predictions.given import models_of
from blpo_dspy.programs.program_judge import ProgramJudge
from blpo_dspy.programs.visual_judge import VisualJudge, single
from blpo_dspy.report import load_run, write_report, write_report_data
from blpo_dspy.report.html import relative_paths
from blpo_dspy.report.run.folder import RESULT, RunFolder, ShownError
from blpo_dspy.report.run.headline import headline_of, models_and_day
from blpo_dspy.report.run.measured import WHEN, agreement_in, measured_of
from blpo_dspy.runs.checks.costs import costs_after, not_paid_for
from blpo_dspy.runs.compiling import claim, compile_and_measure, measure_compiled
from blpo_dspy.runs.data.seal import run_of, seal
from blpo_dspy.runs.data.sets import Labelled, Sets, divided, is_list, loaded_set, origin_of, sizes_in_words
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.measure import own_data
from blpo_dspy.runs.record import Aligned, SplitAgreement, figure_rows, result
from blpo_dspy.runs.reviewing import write_review
from blpo_dspy.workspace.watch import watching
from blpo_dspy.workspace.workspace import current_workspace

JUDGE = "judge.json"
_OF_THE_WORKSPACE = ("models", "num_threads", "prices", "max_outage", "progress")

Judged = tuple[Sequence[dspy.Example], Sequence[Verdict], Sequence[Verdict]]


@dataclass(frozen=True)
class Alignment:
    """A judge aligned with human labels, and everything that was measured on the way.

    Attributes:
        judge: The compiled judge.
        folder: The folder with its record, which `Alignment.load` reads; of a run without one a temporary folder, which
            is removed with this object.
    """

    judge: VisualJudge
    folder: Path
    _temporary: object = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, run_dir: str | Path) -> Alignment:
        """Returns what `align(…, run_dir=…)`, `blpo compile --run-dir` or `blpo demo --out` left in a folder.

        Raises:
            BlpoError: If the folder holds no run, or a file of it is damaged.
        """
        folder = Path(run_dir)
        load_run(folder)  # so that a damaged record is refused here
        return cls(VisualJudge.load(folder / JUDGE), folder)

    @classmethod
    def of(
        cls,
        compiled: VisualJudge,
        *,
        testset: Labelled,
        trainset: Labelled = (),
        valset: Labelled = (),
        run_dir: str | Path | None = None,
    ) -> Alignment:
        """Measures a judge that `BLPO.compile` returned, and what it was compiled from, so that it can be reported.

        Args:
            compiled: The judge as `compile` returned it, with its `detailed_results`.
            testset: Labelled images that neither training nor validation used; each is judged before and after.
            trainset: What it was compiled with: labels that the compiled judge contradicts are looked for.
            valset: What it was picked on.
            run_dir: A folder for record and report, which `load` reads.

        Raises:
            DataError: If examples cannot be used, or an image is in two of the sets.
            BlpoError: If the judge was not compiled in this process.
        """
        check_kind("compiled", compiled, VisualJudge, "judge", "BLPO(…).compile(start, trainset=…)")
        record = getattr(compiled, "detailed_results", None)
        if record is None:
            raise BlpoError("the judge has no record of its search (detailed_results): pass what compile returned")
        start = compiled.deepcopy()
        for predictor, text in ((start.judge, record.start.judge), (start.verbalizer, record.start.verbalizer)):
            predictor.signature, predictor.demos = predictor.signature.with_instructions(text), []
        given = {"train": trainset, "val": valset, "test": testset}
        parts = {name: loaded_set(compiled, name, part) for name, part in given.items() if not is_list(part) or part}
        check_disjoint(**parts)
        models, search = models_of(compiled), Search()
        folder = None if run_dir is None else writable_folder(Path(run_dir))
        train, val, test = (parts.get(name, []) for name in given)
        sets = Sets(train, val, test, sizes_in_words(parts, compiled.labels))
        with watching(resumes=None) as watch:
            aligned = measure_compiled(start, compiled, sets, models, search, watch)
        return _written(aligned, sets, models, watch.warnings, folder)

    @cached_property
    def run(self) -> RunFolder:
        """The record as it was written: options, rounds, trials, validations, verdicts on test images."""
        return load_run(self.folder)

    @property
    def before(self) -> SplitAgreement:
        """Agreement of the start with people, on validation and on test images."""
        return self._agreement("before")

    @property
    def after(self) -> SplitAgreement:
        """Agreement of the compiled judge with people."""
        return self._agreement("after")

    def _agreement(self, when: str) -> SplitAgreement:
        record = self.run.result[when]
        return SplitAgreement(agreement_in(record, "val"), agreement_in(record, "test"))

    @property
    def label_errors(self) -> tuple[ShownError, ...]:
        """Training labels that the compiled judge contradicts, for people to look at again."""
        return self.run.doubtful

    @property
    def cost(self) -> dict[str, float | None]:
        """LM calls, tokens and dollars over all roles, and seconds; dollars are None where no price is known."""
        parts = self.run.result["ledger"]
        roles = [usage for part in ("beforehand", "compile", "measure") for usage in parts[part].values()]
        dollars = [role["usd"] for role in roles]
        return {
            "calls": sum(role["calls"] for role in roles),
            "tokens": sum((role["prompt_tokens"] or 0) + (role["completion_tokens"] or 0) for role in roles),
            "usd": None if dollars and all(usd is None for usd in dollars) else sum(usd or 0.0 for usd in dollars),
            "seconds": self.run.result["seconds"],
        }

    def summary(self) -> str:
        """Returns the result in a few lines: the verdict, agreement before and after, cost and models."""
        found = headline_of(measured_of(self.run))
        lines = [found.title]
        if found.figures is not None:
            before, after = found.figures
            counts = "" if "→" in found.measure else f"{before.value} → {after.value} "
            lines.append(f"{counts}{found.measure}")
        header, *rows = self._table()
        for cells in (header, *rows):
            spaced = [f"{cell:>{len(name) + 2}}" for cell, name in zip(cells[1:], header[1:], strict=True)]
            lines.append(f"{cells[0]:<12}{''.join(spaced)}")
        for when in WHEN:
            tested = self._agreement(when).test
            if tested is not None and tested.flips is not None:
                lines.append(f"{when}: {flips_in_words(tested.flips)}")
        cost = self.cost
        spent = "" if cost["usd"] is None else f", ${cost['usd']:,.2f}"
        lines.append(f"{cost['calls']:,} LM calls{spent}, {cost['seconds']:.0f} s")
        lines.append(models_and_day(self.run.result["models"], self.run.on))
        return "\n".join(lines)

    def report(self, path: str | Path, *, images: bool = True) -> Path:
        """Writes the report as one HTML file that loads nothing, and returns its path.

        Args:
            path: The file.
            images: Whether it shows pictures of test images.

        Raises:
            BlpoError: If the file cannot be written.
        """
        return write_report(self.run, Path(path), images=images)

    def __repr__(self) -> str:
        return one_line(self, f"{headline_of(measured_of(self.run)).title.lower()}: {self.folder}")

    def _repr_html_(self) -> str:
        found = headline_of(measured_of(self.run))
        return f"<p><b>{html.escape(found.title)}</b></p>{html_table(self._table())}"

    def _table(self) -> list[list[str]]:
        """Agreement by set and judge, the header first."""
        sets = ("val", "test")
        return figure_rows({f"{name} {when}": getattr(self._agreement(when), name) for name in sets for when in WHEN})


def align(
    start: VisualJudge,
    *,
    train: Labelled,
    val: Labelled | None = None,
    test: Labelled | None = None,
    run_dir: str | Path | None = None,
    sizes: tuple[int, int, int] | None = None,
    **options: Any,
) -> Alignment:
    """Aligns a judge with human labels: compiles it by BLPO, and measures it before and after on sealed test images.

    Each set is a list of examples, or a table as `load_examples` takes it. If `train` is a table and neither `val` nor
    `test` is given, it is split into all three. Without a validation set of any kind the returned judge is picked on
    the training images, and a warning says that their figures are too good; without a test set nothing is measured on
    new images.

    Args:
        start: The judge to begin with: labels, the question, what it reads.
        train: What mistakes are drawn from; 100 to 200 images work well.
        val: What the returned judge is picked on.
        test: Judged once before and once after the search.
        run_dir: A folder for judge, record and report, that of the `Workspace` if None: the same call resumes an
            interrupted run there, and pays for no answer twice. Without either a run cannot be resumed.
        sizes: How many images of a table train, validate and test.
        **options: Options of the search, as `blpo_dspy.runs.jobs.Search` lists them: `rounds`, `max_calls`, `max_usd`,
            `max_seconds`, `seed`, `fidelity`, … Models, threads and prices are the workspace's.

    Raises:
        DataError: If examples cannot be used, or are too few.
        ModelError: If a model cannot be used, or stops answering.
        BlpoError: If an option is unknown or cannot be used, or a cap was reached before anything was measured.
    """
    check_kind("start", start, VisualJudge, "judge", "VisualJudge(labels, instruction=…)")
    start, search = single(start), search_of(options)
    if search.fidelity and isinstance(start, ProgramJudge):
        raise BlpoError(
            "fidelity is measured with a VisualJudge; leave it out for a program of your own", option="fidelity"
        )
    sets = _sets(start, train, val, test, sizes, search.seed)
    for line in own_data(start, [*sets.val, *sets.test]):
        notice(f"the start was compiled with {line}")
    models = models_of(start)
    folder = run_dir or current_workspace().folder
    log_dir = None if folder is None else writable_folder(Path(folder))
    search = search.within(current_workspace().room("plan", log_dir))
    sets = replace(sets, seal=seal(sets.test, run_of(start, sets, search), run_dir=log_dir))
    if sets.seal is not None and sets.seal.warning is not None:
        notice(sets.seal.warning)
    for line in not_paid_for(start, search, costs_after(start, sets, search), sets):
        notice(line, option="max_calls")
    claim(start, sets, models, search, log_dir)
    with watching(resumes=log_dir) as watch:
        aligned = compile_and_measure(start, sets, models, search, watch, log_dir=log_dir)
    return _written(aligned, sets, models, watch.warnings, log_dir)


def _written(aligned: Aligned, sets: Sets, models: Models, warned: Sequence[str], folder: Path | None) -> Alignment:
    """What was measured, written to a folder, which is a temporary one if none is named."""
    temporary = None
    if folder is None:
        temporary = tempfile.TemporaryDirectory(prefix="blpo-")
        folder = Path(temporary.name)
    names = {role: getattr(models, role).model for role in ("judge", "verbalizer", "optimizer")}
    server = next((base for lm in vars(models).values() if (base := lm.kwargs.get("api_base"))), None)
    write_run(folder, aligned, sets, {**result(aligned, sets, names), "warnings": list(warned)}, api_base=server)
    return Alignment(aligned.judge, folder, temporary)


def search_of(options: Mapping[str, Any]) -> Search:
    """Returns the search with these options.

    Raises:
        BlpoError: If one is unknown.
    """
    known = [option.name for option in fields(Search)]
    for name in options:
        if name not in known:
            if name in _OF_THE_WORKSPACE:
                raise BlpoError(
                    f"{name} is an option of the workspace: with Workspace({name}=…): align(…)", option=name
                )
            near = next(iter(difflib.get_close_matches(name, known, 1)), None)
            meant = f"; did you mean {near}?" if near else f"; the options are {', '.join(known)}"
            raise BlpoError(f"align has no option {name!r}{meant}", option=name)
    return Search(**options)


def _sets(
    start: VisualJudge,
    train: Labelled,
    val: Labelled | None,
    test: Labelled | None,
    sizes: tuple[int, int, int] | None,
    seed: int,
) -> Sets:
    given = {"train": train, "val": val, "test": test}
    loaded = {name: loaded_set(start, name, source) for name, source in given.items() if source is not None}
    table = None if is_list(train) else str(train) if isinstance(train, (str, Path)) else "the table"
    if table is not None and val is None and test is None:
        sets, how = divided(loaded["train"], start.labels, seed=seed, sizes=sizes, known=known_prints(start))
        how = f"{table}: {how}"
    elif sizes is not None:
        raise BlpoError("sizes are for one table that is split; leave them out, or val and test", option="sizes")
    else:
        sets = {name: loaded.get(name, []) for name in given}
        how = ", ".join(f"{name} {len(examples)}" for name, examples in loaded.items())
    check_disjoint(**sets)
    check_labels([example.label for example in sets["train"]], start.labels)
    in_words = f"{sizes_in_words(sets, start.labels)}; {how}"
    return Sets(sets["train"], sets["val"], sets["test"], in_words, origin=origin_of(start, given))


def write_run(
    folder: Path,
    aligned: Aligned,
    sets: Sets,
    record: Mapping[str, Any],
    judged: Judged | None = None,
    command: Sequence[str] = (),
    api_base: str | None = None,
) -> list[Path]:
    """Fills a run's folder with judge, record, doubtful labels and report, and returns the last two.

    The report shows the examples in `judged`, with the verdicts before and after; those of the test set if None.

    Raises:
        BlpoError: If the folder cannot be written to.
    """
    data = {**record["data"], "how": relative_paths(sets.how, folder)}
    write_judge([folder / JUDGE, folder / RESULT], aligned.judge, {**record, "data": data})
    errors = aligned.checks.label_errors
    write_label_errors(folder / LABEL_ERRORS, errors)
    write_report_data(
        folder,
        aligned.judge.labels,
        *(judged or (sets.test, *aligned.verdicts)),
        doubtful=with_examples(errors, sets.train),
        command=command,
    )
    tested = (sets.test, aligned.verdicts[1]) if judged is None else (judged[0], judged[2])
    write_review(folder, aligned, sets, tested, record["models"], api_base)
    return [folder / LABEL_ERRORS, write_report(load_run(folder), folder / "report.html")]


def write_judge(files: Sequence[Path], judge: VisualJudge, record: Mapping[str, Any]) -> None:
    """Writes a judge to the first file and, if there is a second, the record to it.

    Raises:
        BlpoError: If one cannot be written.
    """
    try:
        judge.save(files[0])
        for file in files[1:]:
            write_json(file, record)
    except OSError as error:
        raise BlpoError(f"{error.filename or files[0]}: cannot be written ({error.strerror or error})") from error
