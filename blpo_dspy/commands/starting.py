"""What compile, estimate and compare begin with: the first judge and the labelled examples."""

from __future__ import annotations

from blpo_dspy.commands.screen import Screen, noting, working
from blpo_dspy.drawing import draw_sets
from blpo_dspy.options import EvidenceOption, Start
from blpo_dspy.programs.signatures import DEFAULT_VERBALIZER_INSTRUCTION
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.sets import Sets, load_sets
from blpo_dspy.sources.tasks import Task
from blpo_dspy.splits import check_labels


def begin(start: Start, seed: int, screen: Screen) -> tuple[VisualJudge, Sets]:
    """Returns the judge to start from and the labelled examples; what a source shows of itself is noted.

    Raises:
        DataError: If examples cannot be used, or are too few.
        BlpoError: If an option doesn't fit the others.
    """
    if start.data.source is None:
        task = _task_of_table(start)
        with noting(screen):
            sets = load_sets(start, task.labels, seed)
    else:
        with working(screen) as watch:
            task, sets, seen = draw_sets(start, seed, watch)
        for line in seen:
            screen.note(line)
    with noting(screen):
        check_labels([example.label for example in sets.train], task.labels)
    return first_judge(task, reasoning=start.reasoning), sets


def first_judge(task: Task, *, reasoning: bool = False) -> VisualJudge:
    """Returns the judge that a task starts from; with `reasoning` it states its evidence before the label."""
    return VisualJudge(
        task.labels,
        instruction=task.instruction,
        verbalizer_instruction=task.verbalizer_instruction,
        context=task.context,
        evidence=task.evidence,
        reasoning=reasoning,
    )


def _task_of_table(start: Start) -> Task:
    labels, instruction = start.labels, start.task
    assert labels is not None
    assert instruction is not None
    return Task(
        labels=labels,
        instruction=instruction,
        verbalizer_instruction=start.verbalizer_instruction or DEFAULT_VERBALIZER_INSTRUCTION,
        context=start.data.columns.context or (),
        evidence=(start.evidence or EvidenceOption.BOTH).value,
    )
