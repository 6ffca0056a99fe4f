"""A judge over a folder or a table of images, in one process, over all cores or over a cluster."""

from blpo_dspy.predictions.predict import predict
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.predictions.ranking import rank
from blpo_dspy.predictions.shards.line import Report
from blpo_dspy.predictions.shards.plan import ShardPlan, judge_shard, plan_shards
from blpo_dspy.predictions.shards.shard import Shard

__all__ = ["Progress", "Report", "Shard", "ShardPlan", "judge_shard", "plan_shards", "predict", "rank"]
