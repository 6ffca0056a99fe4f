"""Tests of the registry of sources and of what every task says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources import SOURCES, open_source
from blpo_dspy.errors import BlpoError

NEEDED: dict[str, dict[str, Any]] = {
    "agin": {"local_dir": "."},
    "agiqa3k": {"local_dir": "."},
    "huggingface": {"id": "some/one", "labels": LabelSpace("a", "b"), "instruction": "Judge."},
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_opens_and_states_its_task(name: str) -> None:
    """Nothing is read before a draw; a task has all that a judge starts from, and no output format in its words."""
    source = open_source(name, **NEEDED.get(name, {}))
    task = source.task
    assert source.page.startswith("https://")
    assert len(task.labels) >= 2
    assert "{" not in f"{task.instruction} {task.verbalizer_instruction}"
    assert "json" not in task.instruction.lower()
    assert task.size % len(task.labels) == 0
    assert task.evidence == "both"


@pytest.mark.parametrize(
    ("name", "size", "labels"),
    [("unsafebench", 110, 2), ("seetrue", 200, 2), ("imagereward", 140, 7), ("agin", 100, 5)],
)
def test_the_sizes_are_those_of_the_papers_protocol(name: str, size: int, labels: int) -> None:
    """Appendix A: 10 per category of 11, 100 of each label, 20 of each of 7 and of 5 levels."""
    task = open_source(name, **NEEDED.get(name, {})).task
    assert (task.size, len(task.labels)) == (size, labels)


def test_a_task_makes_a_judge() -> None:
    """Labels, instructions, context and evidence are what VisualJudge takes."""
    from blpo_dspy.programs import VisualJudge

    task = open_source("seetrue").task
    judge = VisualJudge(
        task.labels,
        instruction=task.instruction,
        verbalizer_instruction=task.verbalizer_instruction,
        context=task.context,
        evidence=task.evidence,
    )
    assert judge.context == ("text",)


def test_an_unknown_source_or_option_lists_the_known_ones() -> None:
    """And so does one that lacks what it needs."""
    with pytest.raises(BlpoError, match="no source 'imagenet'; the sources are unsafebench, seetrue"):
        open_source("imagenet")
    with pytest.raises(BlpoError, match="'seetrue': no option split; its options are revision, token, local_dir"):
        open_source("seetrue", split="train")
    with pytest.raises(BlpoError, match="'huggingface': needs instruction, labels; its options are"):
        open_source("huggingface", id="some/one")


def test_listing_the_sources_imports_nothing_heavy() -> None:
    """The command line can name them in its help."""
    heavy = "{'dspy', 'datasets', 'PIL', 'sklearn'} & set(sys.modules)"
    program = f"import sys, blpo_dspy.data.sources as s; assert s.SOURCES; print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
