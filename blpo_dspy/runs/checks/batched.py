"""What is measured after a search, by way of a provider's batch endpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blpo_dspy.errors import BlpoError
from blpo_dspy.models.batches import check_batched
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.batches.api import BatchApi, Waiting
from blpo_dspy.predictions.batches.submission import Batches
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.runs.jobs import Search
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.watch import Watch
from blpo_dspy.workspace.workers import Workers
from blpo_dspy.workspace.workspace import current_workspace


def check_search(search: Search, judge: VisualJudge, models: Models, log_dir: Path | None) -> None:
    """Checks that what comes after a search can go through a batch endpoint, if it is to.

    Raises:
        BlpoError: If there is no folder for what is under way, no endpoint, or a cap that such a run can't keep.
    """
    if not search.batch_api:
        return
    if log_dir is None:
        raise BlpoError(
            "batch_api=True needs run_dir=…, so that batches under way are found again", option=("batch_api", "run_dir")
        )
    for name in ("max_tokens", "max_seconds"):
        if getattr(search, name) is not None:
            raise BlpoError(
                f"{name}={getattr(search, name)} can't be kept with batch_api=True; cap calls or dollars instead",
                option=(name, "batch_api"),
            )
    for role in judge.roles:
        check_batched(getattr(models, role))


class BatchedAnswers:
    """The answers for the measurements of a run, bought in batches.

    Attributes:
        meter: Hands the answers out.
    """

    def __init__(self, job: Job, search: Search, watch: Watch) -> None:
        self._search = search

        def show(waiting: Waiting) -> None:
            watch.show("waiting for batches", waiting.completed, str(waiting))

        api = BatchApi(prices=current_workspace().prices, on_submit=lambda offer: watch.say(str(offer)), on_wait=show)
        self._batches = Batches(api, job, max_outage=current_workspace().max_outage)
        self.meter = self._batches.meter

    def buy(
        self,
        judge: VisualJudge,
        models: Models,
        workers: Workers,
        inputs: Sequence[Mapping[str, Any]],
        spent: Ledger,
        reserve: int,
    ) -> None:
        """Buys answers for inputs as far as the caps allow it, `reserve` calls being kept for what comes after these.

        Raises:
            ModelError: As `Batches.buy`.
        """
        total, budget = spent.total, self._search.budget()
        if budget is not None and budget.max_calls is not None:
            self._batches.max_calls = self._batches.submitted + max(0, budget.max_calls - total.calls - reserve)
        if budget is not None and budget.max_usd is not None:
            kept = reserve * total.usd / max(1, total.calls)
            self._batches.max_usd = self.meter.ledger.total.usd + max(0.0, budget.max_usd - total.usd - kept)

        def rows(wanted: Collection[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            yield from ((number, dict(inputs[number])) for number in sorted(wanted))

        self._batches.buy(judge, models, workers, rows, range(len(inputs)), "both")
