"""The logger `blpo_dspy`: one line for each event of a run, with its figures as fields; off until it gets a handler."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("blpo_dspy")
LOGGER.addHandler(logging.NullHandler())


def log_event(event: str, text: str, **figures: int | float | str | None) -> None:
    """Logs an event at level INFO.

    Args:
        event: Its kind: "round", "validation", "stop", "retry", "outage", "answered again" or "judged".
        text: One line; neither images nor keys.
        **figures: Plain values, which a formatter finds on the record by these names, next to `event`.
    """
    LOGGER.info("%s", text, extra={"event": event, **figures})
