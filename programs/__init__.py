"""The DSPy programs: a verbalizer and a judge, chained."""

from blpo_dspy.programs.batching import BatchStoppedError
from blpo_dspy.programs.cascade import Cascade
from blpo_dspy.programs.confidence import Confidence
from blpo_dspy.programs.pairs import BothOrders
from blpo_dspy.programs.program_judge import ProgramJudge
from blpo_dspy.programs.signatures import JudgeImage, VerbalizeImage
from blpo_dspy.programs.visual_judge import Evidence, VisualJudge

__all__ = [
    "BatchStoppedError",
    "BothOrders",
    "Cascade",
    "Confidence",
    "Evidence",
    "JudgeImage",
    "ProgramJudge",
    "VerbalizeImage",
    "VisualJudge",
]
