"""What `blpo judge --batch-api` shows: what batches cost before they are submitted, and how far they are."""

from __future__ import annotations

from dataclasses import replace

from blpo_dspy.cli.jobs import JudgeJob
from blpo_dspy.cli.screen import Screen
from blpo_dspy.errors import BlpoError
from blpo_dspy.predictions.batches.api import BatchApi, Offer, Waiting, batch_api_of
from blpo_dspy.workspace.watch import Watch


class BatchScreen:
    """The batches of one command on the screen."""

    watch: Watch

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._last: Waiting | None = None

    def offer(self, offer: Offer) -> None:
        """Says what requests cost that are about to be submitted."""
        self._screen.remark(str(offer))

    def wait(self, waiting: Waiting) -> None:
        """Shows how far batches are."""
        new, self._last = self._last is None or self._last.ids != waiting.ids, waiting
        self.watch.show("waiting", waiting.completed, str(waiting))
        if not waiting.ids:
            return
        if new:
            self._screen.remark(f"Waiting for {', '.join(waiting.ids)}; Ctrl-C ends the wait, not the batches")
        else:
            self._screen.pulse(f"waiting, {waiting}")

    def under_way(self) -> str:
        """Returns a sentence about batches that go on without this command; empty if there are none."""
        ids = () if self._last is None else self._last.ids
        if not ids:
            return ""
        return f" Under way: {', '.join(ids)}; the same command takes their answers in."


def batch_asked(job: JudgeJob, shown: BatchScreen) -> BatchApi | None:
    """Returns how the batch endpoint is used, None for plain calls.

    Raises:
        BlpoError: If there are options of it without it, or it without a file to resume from.
    """
    how = job.batching
    given = {"--poll": how.poll, "--abandon": how.abandon or None}
    if not how.batch_api:
        if stray := [name for name, value in given.items() if value is not None]:
            raise BlpoError(f"{' and '.join(stray)}: only for --batch-api; give that too, or leave this out")
        return None
    if job.out is None:
        raise BlpoError("--batch-api needs --out, so that batches under way are found again")
    api = BatchApi(abandon=how.abandon, on_submit=shown.offer, on_wait=shown.wait)
    return batch_api_of(api if how.poll is None else replace(api, poll=how.poll), job.shared.prices)
