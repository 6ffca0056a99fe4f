"""The teleprompters."""

from blpo_dspy.optimizers.apo import APO
from blpo_dspy.optimizers.blpo import BLPO
from blpo_dspy.optimizers.guards import Guards
from blpo_dspy.optimizers.opro import OPRO
from blpo_dspy.optimizers.records import Batch, BLPOResult, Instructions, Judgement, Rejection, Round, Trial, Validation
from blpo_dspy.optimizers.textgrad import TextGrad
from blpo_dspy.optimizers.updates import MergeUpdates, UpdateJudge, UpdateVerbalizer

__all__ = [
    "APO",
    "BLPO",
    "OPRO",
    "BLPOResult",
    "Batch",
    "Guards",
    "Instructions",
    "Judgement",
    "MergeUpdates",
    "Rejection",
    "Round",
    "TextGrad",
    "Trial",
    "UpdateJudge",
    "UpdateVerbalizer",
    "Validation",
]
