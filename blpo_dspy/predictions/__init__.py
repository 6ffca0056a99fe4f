"""A judge over a folder or a table of images, in one process, over all cores or over a cluster."""

from blpo_dspy.predictions.predict import Progress, ShardPlan, judge_shard, plan_shards, predict
from blpo_dspy.predictions.ranking import rank
from blpo_dspy.predictions.shards import Report, Shard

__all__ = ["Progress", "Report", "Shard", "ShardPlan", "judge_shard", "plan_shards", "predict", "rank"]
