"""Counts of a server in Prometheus' text format."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter

_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts requests by status and outcome, LM calls by role, and how long judging took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: Counter[int] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._seconds, self._buckets = 0.0, [0] * (len(_BOUNDS) + 1)

    def answered(self, status: int) -> None:
        """Counts the answer to a request."""
        with self._lock:
            self._statuses[status] += 1

    def judged(self, outcome: str, seconds: float, calls: dict[str, int]) -> None:
        """Counts a judged image: "labelled", "invalid", "failed" or "late", its time, and its LM calls by role."""
        with self._lock:
            self._outcomes[outcome] += 1
            self._calls.update(calls)
            self._seconds += seconds
            self._buckets[bisect_left(_BOUNDS, seconds)] += 1

    def text(self, *, waiting: int, running: int) -> str:
        """Returns all of it as Prometheus reads it."""
        with self._lock:
            lines = [
                *_counter("blpo_requests_total", "Requests by status.", "status", self._statuses),
                *_counter("blpo_judged_total", "Judged images by outcome.", "outcome", self._outcomes),
                *_counter("blpo_lm_calls_total", "LM calls by role.", "role", self._calls),
                *_gauge("blpo_waiting", "Requests that wait for their turn.", waiting),
                *_gauge("blpo_running", "Requests that are being judged.", running),
                "# HELP blpo_judge_seconds Time from the start of judging to its end.",
                "# TYPE blpo_judge_seconds histogram",
            ]
            total = 0
            for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self._buckets, strict=True):
                total += count
                lines.append(f'blpo_judge_seconds_bucket{{le="{bound}"}} {total}')
            lines += [f"blpo_judge_seconds_sum {self._seconds:.6f}", f"blpo_judge_seconds_count {total}"]
        return "\n".join(lines) + "\n"


def _counter(name: str, about: str, label: str, counts: Counter[int] | Counter[str]) -> list[str]:
    values = [
        f'{name}{{{label}="{key}"}} {count}' for key, count in sorted(counts.items(), key=lambda item: str(item[0]))
    ]
    return [f"# HELP {name} {about}", f"# TYPE {name} counter", *values]


def _gauge(name: str, about: str, value: int) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {value}"]
