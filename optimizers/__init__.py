"""The teleprompters."""

from blpo_dspy.optimizers.blpo import BLPO
from blpo_dspy.optimizers.records import Batch, BLPOResult, Instructions, Judgement, Rejection, Round, Trial, Validation
from blpo_dspy.optimizers.updates import MergeUpdates, UpdateJudge, UpdateVerbalizer

__all__ = [
    "BLPO",
    "BLPOResult",
    "Batch",
    "Instructions",
    "Judgement",
    "MergeUpdates",
    "Rejection",
    "Round",
    "Trial",
    "UpdateJudge",
    "UpdateVerbalizer",
    "Validation",
]
