"""Descriptions that a judge is going to need, asked for ahead of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import dspy
from dspy.utils.exceptions import LMError

from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.failures import is_outage
from blpo_dspy.workspace.meter import asking_ahead
from blpo_dspy.workspace.workers import Workers


class Ahead:
    """The descriptions of a step, for as many of the next images as there are threads.

    A task that has an image described and then judges it keeps its thread for two calls, so that the last tasks of a
    step leave threads idle for two. With the calls apart, a step takes as long as its number of calls says. The judge's
    own request for a description is answered from the run's memory, or waits for the one under way: no call is made
    twice, none that the judge would not have made, and the ledger is the same.

    Args:
        program: What judges; descriptions are known to be needed if it is a `VisualJudge` that reads them.
        examples: All examples of the run.
        positions: Those of the step that have no description yet, in the order in which they are judged.
        workers: Where the calls run.
    """

    def __init__(
        self,
        program: dspy.Module,
        examples: Sequence[dspy.Example],
        positions: Sequence[int],
        workers: Workers,
    ) -> None:
        self._program, self._examples, self._workers = program, examples, workers
        # As many images as threads or fewer are described at once anyway.
        worth = _reads_descriptions(program) and len(positions) > workers.num_threads
        self._left = iter(positions if worth else ())
        self._asked: dict[int, Future[LMError | None]] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        """Drops what has not begun: where the step failed, nothing is judged any more."""
        for asked in self._asked.values():
            asked.cancel()

    def keep_up(self) -> None:
        """Asks for further descriptions before a task that judges is started."""
        for _ in range(1 if self._asked else self._workers.num_threads):
            if (position := next(self._left, None)) is not None:
                (self._asked[position],) = self._workers.submit(self._describe, [position])

    def check(self, position: int) -> None:
        """Waits for the description of an example, if it was asked for.

        Raises:
            LMError: If an outage took it; it is not requested once more at once.
        """
        asked = self._asked.get(position)
        error = None if asked is None else asked.result()
        if error is not None and is_outage(error):
            raise error

    def _describe(self, position: int) -> LMError | None:
        assert isinstance(self._program, VisualJudge)
        with dspy.context(trace=None), asking_ahead():
            try:
                self._program.describe(**self._examples[position].inputs())
            except LMError as error:
                return error
        return None


def _reads_descriptions(program: dspy.Module) -> bool:
    """Whether a program asks for a description of each example before it judges it."""
    return (
        isinstance(program, VisualJudge)
        and type(program).forward is VisualJudge.forward
        and program.evidence != "image"
    )
