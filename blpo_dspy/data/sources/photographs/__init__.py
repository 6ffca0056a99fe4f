"""Rated photographs: crops with known degradations, rated by a known taste."""

from blpo_dspy.data.sources.photographs.dataset import DatasetPaths, RatedPhotograph, rated_photographs, write_dataset
from blpo_dspy.data.sources.photographs.edits import RatedEdit, rated_edits
from blpo_dspy.data.sources.photographs.pairs import RatedPair, rated_pairs
from blpo_dspy.data.sources.photographs.raters import RATERS, Rater, ceiling_instruction, ceiling_verbalizer_instruction

__all__ = [
    "RATERS",
    "DatasetPaths",
    "RatedEdit",
    "RatedPair",
    "RatedPhotograph",
    "Rater",
    "ceiling_instruction",
    "ceiling_verbalizer_instruction",
    "rated_edits",
    "rated_pairs",
    "rated_photographs",
    "write_dataset",
]
