"""The offline engine and its rated photographs."""

from __future__ import annotations

from blpo_dspy.embedded.ceiling import ceiling_instruction, ceiling_verbalizer_instruction
from blpo_dspy.embedded.dataset import DatasetPaths, RatedPhotograph, RatedSplits, rated_photographs, write_dataset
from blpo_dspy.embedded.engine import AsyncEmbeddedEngine, EmbeddedEngine, embedded_lm
from blpo_dspy.embedded.flaws import FLAWS
from blpo_dspy.embedded.raters import RATERS, Rater
from blpo_dspy.embedded.senses import Traits

__all__ = [
    "FLAWS",
    "RATERS",
    "AsyncEmbeddedEngine",
    "DatasetPaths",
    "EmbeddedEngine",
    "RatedPhotograph",
    "RatedSplits",
    "Rater",
    "Traits",
    "ceiling_instruction",
    "ceiling_verbalizer_instruction",
    "embedded_lm",
    "rated_photographs",
    "write_dataset",
]
