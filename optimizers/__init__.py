"""The teleprompters."""

from blpo_dspy.optimizers.apo import APO
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.blpo import BLPO
from blpo_dspy.optimizers.dspy_adapters import COPRO, GEPA, SIMBA, MIPROv2
from blpo_dspy.optimizers.guards import Guards
from blpo_dspy.optimizers.opro import OPRO
from blpo_dspy.optimizers.records import Batch, BLPOResult, Instructions, Judgement, Rejection, Round, Trial, Validation
from blpo_dspy.optimizers.rounds import RoundOptimizer
from blpo_dspy.optimizers.textgrad import TextGrad
from blpo_dspy.optimizers.updates import UpdateJudge, UpdateVerbalizer

__all__ = [
    "APO",
    "BLPO",
    "COPRO",
    "GEPA",
    "OPRO",
    "SIMBA",
    "BLPOResult",
    "Batch",
    "Guards",
    "Instructions",
    "JudgeOptimizer",
    "Judgement",
    "MIPROv2",
    "Rejection",
    "Round",
    "RoundOptimizer",
    "TextGrad",
    "Trial",
    "UpdateJudge",
    "UpdateVerbalizer",
    "Validation",
]
