"""A judge compiled, and then measured once on the sealed test split."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dspy

from blpo_dspy.data import dataset_fingerprint
from blpo_dspy.journal import Journal
from blpo_dspy.labelling import Verdict, agreement_of, inputs_of, label_images
from blpo_dspy.ledger import Ledger
from blpo_dspy.metering import Meter, RunStoppedError
from blpo_dspy.models import Models
from blpo_dspy.optimizers.blpo import BLPO
from blpo_dspy.optimizers.workers import Workers
from blpo_dspy.options import Search
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.progress import CompileWatch, Watch
from blpo_dspy.results import Aligned, Measured, card
from blpo_dspy.sets import Sets

# The most of a cap on calls that may be set aside for the test split: the search needs the rest.
_TEST_SHARE = 0.5


def align(
    start: VisualJudge,
    sets: Sets,
    models: Models,
    search: Search,
    watch: Watch,
    told: VisualJudge | None = None,
    log_dir: Path | None = None,
) -> Aligned:
    """Returns the judge compiled from a start, its card filled in, with its agreement before and after.

    Args:
        start: The judge to begin with.
        sets: The labelled examples.
        models: The models by role.
        search: How BLPO searches.
        watch: Where progress shows.
        told: A judge that is told the truth, to be measured on the test split as the ceiling.
        log_dir: Where the journals go, so that the same call continues a run that was cut short.

    Raises:
        BlpoError: As `BLPO.compile`.
    """
    began = time.monotonic()
    reserved = cost_of_test(start, sets, search)
    optimizer = make_optimizer(models, search, reserved or 0, log_dir)
    compiled = _compile(optimizer, start, sets, watch)
    record = compiled.detailed_results
    left = None if search.max_calls is None else search.max_calls - record.ledger.total.calls
    with Workers(search.threads) as workers, _final_answers(log_dir, sets) as store:
        meter = Meter(num_threads=workers.num_threads, store=store, admit=_cap(left))

        def verdicts_on(what: str, judge: VisualJudge, examples: Sequence[dspy.Example]) -> list[Verdict]:
            watch.begin(f"judging {what}", len(examples))
            inputs = inputs_of(examples)
            return label_images(judge, models, inputs, workers=workers, meter=meter, done=watch.advance)

        validates = optimizer.select == "last" and left is None
        measured, verdicts = _measured(start, compiled, sets, verdicts_on, val=validates, test=reserved is not None)
        ceiling = None
        if told is not None:
            ceiling = agreement_of(start.labels, sets.test, verdicts_on("the ceiling", told, sets.test))
    seconds = time.monotonic() - began
    aligned = Aligned(
        start=start,
        judge=compiled,
        record=record,
        before=measured["before"],
        after=measured["after"],
        verdicts=(verdicts["before"], verdicts["after"]),
        ceiling=ceiling,
        final=meter.ledger,
        seconds=seconds,
    )
    compiled.card = card(aligned, sets)
    return aligned


def _measured(
    start: VisualJudge,
    compiled: VisualJudge,
    sets: Sets,
    verdicts_on: Callable[[str, VisualJudge, Sequence[dspy.Example]], list[Verdict]],
    *,
    val: bool,
    test: bool,
) -> tuple[dict[str, Measured], dict[str, list[Verdict]]]:
    """The agreement before and after and the test verdicts; what the search validated is not judged anew."""
    record = compiled.detailed_results
    measured: dict[str, Measured] = {}
    verdicts: dict[str, list[Verdict]] = {}
    for when, judge, validated in (("before", start, record.before), ("after", compiled, record.after)):
        on_val = None if validated is None else validated.agreement
        if val:
            on_val = agreement_of(start.labels, sets.val, verdicts_on(f"val {when}", judge, sets.val))
        verdicts[when] = verdicts_on(f"test {when}", judge, sets.test) if test else []
        on_test = agreement_of(start.labels, sets.test, verdicts[when]) if test else None
        measured[when] = Measured(on_val, on_test)
    return measured, verdicts


def cost_of_test(start: VisualJudge, sets: Sets, search: Search) -> int | None:
    """Returns the LM calls that the test split costs, before and after; None if the cap on calls doesn't pay for it."""
    cost = 2 * len(sets.test) * (1 if start.evidence == "image" else 2)
    return cost if search.max_calls is None or cost <= _TEST_SHARE * search.max_calls else None


@contextlib.contextmanager
def _final_answers(log_dir: Path | None, sets: Sets) -> Iterator[Journal | None]:
    """The journal of the measurements after the search, None without a log folder."""
    if log_dir is None:
        yield None
        return
    journal = Journal(
        log_dir / "measured", {"test": dataset_fingerprint(sets.test), "val": dataset_fingerprint(sets.val)}
    )
    try:
        yield journal
    finally:
        journal.close()


def make_optimizer(models: Models, search: Search, reserved: int, log_dir: Path | None = None) -> BLPO:
    """Returns the optimizer that a search is made with; `reserved` calls of its cap are kept for the test split."""
    make: Callable[..., BLPO] = BLPO.paper if search.paper else BLPO
    return make(
        prompt_model=models.optimizer,
        task_model=models.judge,
        verbalizer_model=models.verbalizer,
        seed=search.seed,
        num_threads=search.threads,
        budget=search.budget(reserved),
        log_dir=log_dir,
        **search.given(),
    )


def _compile(optimizer: BLPO, start: VisualJudge, sets: Sets, watch: Watch) -> VisualJudge:
    follow = CompileWatch(watch, optimizer, start.labels, sets.val if optimizer.select == "best" else sets.train)
    optimizer.on_round = follow.round
    watch.begin("compiling", optimizer.rounds * (optimizer.inner_steps + 1))
    with dspy.context(callbacks=[*dspy.settings.callbacks, follow]):
        compiled = optimizer.compile(start, trainset=sets.train, valset=sets.val)
    assert isinstance(compiled, VisualJudge)
    return compiled


def _cap(calls: int | None) -> Callable[[Ledger], None]:
    def admit(ledger: Ledger) -> None:
        if calls is not None and ledger.total.calls >= calls:
            raise RunStoppedError("the cap on LM calls is reached")

    return admit
