"""What processes that judge shards hear of each other."""

from __future__ import annotations

from typing import Any

from blpo_dspy.predictions.shards.line import Remote


class _Line(Remote):
    """A line that keeps what it sends, of a process without caps."""

    def __init__(self) -> None:
        super().__init__(every=0.0)
        self.sent: list[tuple[Any, ...]] = []

    def send(self, *message: Any) -> None:
        """Keeps a message."""
        self.sent.append(message)

    def ask(self, ledger: Any, under_way: int) -> Any:
        """Is not called here."""
        raise NotImplementedError


def test_a_shard_that_begins_during_a_pause_hears_of_it() -> None:
    """One of another process, or of the shard that this process judged before; only of those that are not over."""
    line, heard = _Line(), list[str]()
    line.take_pause("other", 60.0)
    line.paused("own", 60.0)
    line.take_pause("over", 0.0)
    assert line.sent == [("pause", "own", 60.0)]
    line.on_pause(lambda quota, seconds: heard.append(quota) if seconds > 30 else None)
    assert heard == ["other", "own"]
    line.take_pause("later", 60.0)
    assert heard == ["other", "own", "later"]
