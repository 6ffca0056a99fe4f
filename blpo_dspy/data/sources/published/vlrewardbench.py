"""VL-RewardBench (Li et al., arXiv 2411.17451): which of two answers to a question about an image people prefer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.metrics import AuthorMetric, accuracy
from blpo_dspy.data.sources.records import BadRow, Record, text_of
from blpo_dspy.data.sources.rows import RowKey, RowSource
from blpo_dspy.data.sources.tasks import Task

VLREWARDBENCH = Task(
    labels=LabelSpace("first", "second"),
    instruction="Which answer to the query about this image is better, the first or the second?",
    verbalizer_instruction="Describe in detail what this image shows, as far as it bears on the query.",
    context=("query", "first_answer", "second_answer"),
    metrics=(AuthorMetric("accuracy", accuracy),),
    size=100,
)


@dataclass(frozen=True, kw_only=True)
class VLRewardBench(RowSource):
    """The Parquet files of MMInstruction/VL-RewardBench: 1,250 rows in the split "test".

    The answers keep the order they are published in; rows that rank both alike are skipped. Rows with the same query
    form a group.
    """

    name = "vl-rewardbench"
    repo = "MMInstruction/VL-RewardBench"
    task = VLREWARDBENCH
    _image = "image"
    _needed = ("query", "response", "human_ranking")

    split: str = "test"

    def _record(self, id_: str, key: RowKey, row: Mapping[str, Any]) -> Record:
        query = text_of(row["query"], "no query")
        answers, ranks = row["response"], row["human_ranking"]
        if not isinstance(answers, list) or not isinstance(ranks, list) or len(answers) != 2 or len(ranks) != 2:
            raise BadRow("not two answers")
        first, second = (text_of(answer, "no answer") for answer in answers)
        if ranks[0] == ranks[1]:
            raise BadRow("tie")
        label = "first" if ranks[0] < ranks[1] else "second"  # rank 0 is the better one
        context = {"query": query, "first_answer": first, "second_answer": second}
        return Record(id_, label, key, label, query, context)
