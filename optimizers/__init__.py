"""The teleprompters."""

from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.baselines.apo import APO
from blpo_dspy.optimizers.baselines.dspy_adapters import COPRO, GEPA, SIMBA, MIPROv2
from blpo_dspy.optimizers.baselines.opro import OPRO
from blpo_dspy.optimizers.baselines.textgrad import TextGrad
from blpo_dspy.optimizers.bench.records import (
    Batch,
    BLPOResult,
    Instructions,
    Judgement,
    Rejection,
    Round,
    Trial,
    Validation,
)
from blpo_dspy.optimizers.blpo.algorithm import BLPO
from blpo_dspy.optimizers.blpo.prompts import UpdateJudge, UpdateVerbalizer
from blpo_dspy.optimizers.proposals.guards import Guards
from blpo_dspy.optimizers.rounds import RoundOptimizer

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
