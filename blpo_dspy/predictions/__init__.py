"""A judge over a folder or a table of images, in one process, over all cores or over a cluster."""

from blpo_dspy.predictions.chunk import Chunk, ChunkReport, judge_chunk
from blpo_dspy.predictions.plan import ChunkPlan, plan_chunks
from blpo_dspy.predictions.predict import predict
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.predictions.ranking import rank

__all__ = ["Chunk", "ChunkPlan", "ChunkReport", "Progress", "judge_chunk", "plan_chunks", "predict", "rank"]
