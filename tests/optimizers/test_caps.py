"""A cap on calls, in every optimizer: never overrun, and what is returned is the best that was seen."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from typing import Any

import dspy
import pytest
from engines import Seen
from photographs import FIVE, photographs, student

from blpo_dspy.comparison.methods import METHODS
from blpo_dspy.embedded.engine import EmbeddedEngine
from blpo_dspy.optimizers.baselines.dspy_adapters import DSPyAdapter
from blpo_dspy.workspace.budget import Budget

pytestmark = pytest.mark.slow

CAP, THREADS, ROUNDS = 97, 4, 100
OPTIMIZERS = [name for name, method in METHODS.items() if method.make is not None]
# What these see of their candidates is the trainset, so that is where their best is the best.
ON_TRAINSET = ("copro",)


class Answered:
    """The embedded engine, with every request and answer on record."""

    def __init__(self) -> None:
        self._engine, self._lock = EmbeddedEngine(), threading.Lock()
        self.arrived = 0
        self.seen: list[tuple[Seen, str]] = []

    def complete(self, request: dspy.lm15.Request) -> dspy.lm15.Response:
        """Answers one request."""
        with self._lock:
            self.arrived += 1
        response = self._engine.complete(request)
        with self._lock:
            self.seen.append((Seen(request), response.message.text))
        return response

    def close(self) -> None:
        """Nothing to close."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Answered:
        return self


def capped(name: str, engine: Answered, evidence: str, **options: Any) -> Any:
    """Compiles with a method of the comparison under the cap."""
    lm = dspy.LM("embedded/answered", engine=engine, cache=False)
    method, sets = METHODS[name], photographs()
    roles = dict.fromkeys(("prompt_model", "task_model", "verbalizer_model"), lm)
    options = {
        **method.options,
        "budget": Budget(max_calls=CAP),
        "num_threads": THREADS,
        **roles,
        **options,
    }
    start = method.student(student(evidence=evidence))
    program = method.make(**options).compile(start, trainset=sets["trainset"], valset=sets["valset"])
    return program.detailed_results


def scores(engine: Answered, examples: list[dspy.Example]) -> dict[str, list[float]]:
    """By judge instruction the score of each of the examples that the engine judged with it."""
    labels = {example.image.url.partition("base64,")[2]: example.label for example in examples}
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for seen, answer in engine.seen:
        if seen.fields == ["label"] and seen.images[-1] in labels:
            said = FIVE.parse(re.search(r"## label ## \]\]\n(.*)", answer).group(1))
            found[words(seen.instruction)][seen.images[-1]] = 1 - FIVE.loss(labels[seen.images[-1]], said)
    return {instruction: list(by_image.values()) for instruction, by_image in found.items()}


def words(text: str) -> str:
    """An instruction without the indentation that a system prompt gives it."""
    return " ".join(text.split())


@pytest.mark.filterwarnings("ignore:.*hardly pays")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_cap_is_kept_to_the_call_by_every_optimizer(name: str) -> None:
    """As the engine counts them, retries of the optimizer's own making included; the run says why it ended."""
    engine = Answered()
    found = capped(name, engine, "both", **({"rounds": ROUNDS} if "rounds" in METHODS[name].options else {}))
    assert engine.arrived == found.ledger.total.calls <= CAP
    # SIMBA takes as many examples a step and as many steps as the cap certainly pays for, so it may end by itself; so
    # may MIPROv2, which has few combinations to try under this cap, and one that asks nothing new.
    assert found.capped or name in ("simba", "miprov2") or found.rounds[ROUNDS // 2].spent == found.rounds[-1].spent
    assert found.ledger.total.calls > CAP / 2


@pytest.mark.filterwarnings("ignore:.*hardly pays")
@pytest.mark.parametrize("name", ["blpo", "fixed", "opro", "apo-descriptions", "textgrad", "gepa", "miprov2", "copro"])
def test_what_a_cap_leaves_is_the_best_judge_seen(name: str) -> None:
    """By the answers that the engine gave about the examples on which the optimizer compares its candidates.

    SIMBA compares each step's on a batch of its own, and of the step that the cap cuts short nothing counts.
    """
    engine, sets = Answered(), photographs()
    ours = not issubclass(getattr(METHODS[name].make, "__self__", METHODS[name].make), DSPyAdapter)
    found = capped(name, engine, "image", **({"select": "best"} if ours else {}))
    examples = sets["trainset" if name in ON_TRAINSET else "valset"]
    tried = scores(engine, examples)
    means = {t: sum(x) / len(x) for t, x in tried.items() if len(x) == max(map(len, tried.values()))}
    assert len(means) > 1
    assert means[words(found.returned.judge)] == max(means.values())
