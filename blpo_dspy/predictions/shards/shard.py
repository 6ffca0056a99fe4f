"""One shard of a prediction, as a process that judges it is given it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import dspy

from blpo_dspy.data.inputs import Inputs
from blpo_dspy.data.labels.space import Orders
from blpo_dspy.errors import BlpoError
from blpo_dspy.models.prices import Prices
from blpo_dspy.models.specs import ModelSpecs
from blpo_dspy.programs.visual_judge import VisualJudge


@dataclass(frozen=True)
class Shard:
    """What a process needs to judge one shard; it can be pickled, and holds no key.

    Attributes:
        number: Which one it is.
        part: The file that its verdicts go to, with its journal next to it.
        fingerprint: What verdicts depend on apart from the rows.
        judge: The judge, and DSPy's adapter if one was set, pickled.
        models: Its models.
        inputs: The rows.
        keys: The content of each row.
        contents: All contents of the shard, also those that no row has any more.
        num_threads: The most LM calls under way at once.
        max_outage: Seconds to wait for a server that has stopped answering.
        orders: In how many orders a judge of pairs is asked.
        patience: Seconds to wait for another process that still writes the shard.
        answered: Whether the models have answered before, so that a failure is an outage and no wrong address.
        prices: What tokens cost where DSPy's tables lack it.
    """

    number: int
    part: Path
    fingerprint: Mapping[str, Any]
    judge: bytes
    models: ModelSpecs
    inputs: Inputs
    keys: tuple[str, ...]
    contents: tuple[str, ...]
    num_threads: int | None
    max_outage: float
    orders: Orders
    patience: float = 60.0
    answered: bool = False
    prices: Prices | None = None


def packed(judge: VisualJudge) -> bytes:
    """Returns a judge without its models, and DSPy's adapter, for another process."""
    bare = judge.deepcopy()
    for _, predictor in bare.named_predictors():
        predictor.lm = None
    return bytes(cloudpickle.dumps((bare, dspy.settings.adapter)))


def unpacked(data: bytes) -> tuple[VisualJudge, dspy.Adapter | None]:
    """Returns what `packed` was given.

    Raises:
        BlpoError: If the program of the judge cannot be imported in this process.
    """
    try:
        judge, adapter = cloudpickle.loads(data)
    except (ImportError, AttributeError) as error:
        raise BlpoError(f"the judge's program cannot be loaded where it judges ({error}); install it there") from error
    assert isinstance(judge, VisualJudge)
    return judge, adapter
