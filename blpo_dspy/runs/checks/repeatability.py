"""How far a judge agrees with itself on the same images, which no instruction can repair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import dspy

from blpo_dspy.agreement.figures import pair_figure
from blpo_dspy.agreement.intervals import Interval
from blpo_dspy.agreement.raters import human_agreement, rater_intervals
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.ratings import ratings_from_columns
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.labelling import inputs_of, label_images
from blpo_dspy.programs.visual_judge import VisualJudge
from blpo_dspy.workspace.budget import CAPS
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers

IMAGES = 10
"""How many images are judged repeatedly, where there are as many."""


@dataclass(frozen=True)
class Repeatability:
    """A judge's agreement with itself.

    Attributes:
        images: How many images it judged.
        times: How often each.
        unanimous: Images that got the same label every time, or scores that count as the same.
        kappa: Mean Cohen's kappa between two passes, quadratic weights for ordinal labels; None if undefined, and of
            scores.
        interval: Of the kappa, or of spearman.
        without_label: Answers that state no label, and failed calls.
        calls: LM calls that this took.
        spearman: Of scores, the mean rank correlation between two passes.
    """

    images: int
    times: int
    unanimous: int
    kappa: float | None
    interval: Interval | None
    without_label: int
    calls: int
    spearman: float | None = None

    @property
    def summary(self) -> str:
        """The figures in a sentence."""
        ends = "" if self.interval is None else f", {self.interval.low:.2f} to {self.interval.high:.2f}"
        figures = {"kappa": self.kappa, "Spearman": self.spearman}
        found = [f" ({name} {value:.2f}{ends})" for name, value in figures.items() if value is not None]
        missing = f"; {self.without_label} answers gave no label" if self.without_label else ""
        return (
            f"asked {self.times} times about {self.images} images, the judge gave the same label each time for "
            f"{self.unanimous} of them{''.join(found)}{missing}; {self.calls} calls"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {**asdict(self), "summary": self.summary}


def repeatability(
    judge: VisualJudge,
    models: Models,
    examples: Sequence[dspy.Example],
    *,
    times: int,
    workers: Workers,
    meters: Callable[[int], Meter],
) -> Repeatability:
    """Asks a judge several times about the same ten images, of all labels in turn; no cache answers.

    `meters` returns for each turn, from 0, the meter of its calls: one for each, as a meter remembers answers.

    Raises:
        ModelError: If a model cannot be used at all.
        RunStoppedError: If a meter refused a call.
    """
    chosen = _of_all_labels(examples, judge.labels)
    # Not by DSPy's rollout ids, which are ignored at temperature 0.
    fresh = replace(models, judge=models.judge.copy(cache=False), verbalizer=models.verbalizer.copy(cache=False))
    columns: dict[str, list[Label | None]] = {}
    calls = 0
    for turn in range(times):
        meter = meters(turn)
        verdicts = label_images(judge, fresh, inputs_of(chosen), workers=workers, meter=meter)
        refused = [verdict.failure for verdict in verdicts if verdict.stopped]
        if refused:
            raise RunStoppedError(refused[0], option=CAPS)
        columns[str(turn)] = [verdict.label for verdict in verdicts]
        calls += meter.ledger.total.calls
    answers = list(zip(*columns.values(), strict=True))
    ratings = ratings_from_columns(judge.labels, list(map(str, range(len(chosen)))), columns)
    found = human_agreement(ratings)
    return Repeatability(
        images=len(chosen),
        times=times,
        unanimous=sum(_same(judge.labels, given) for given in answers),
        kappa=found.kappa,
        interval=rater_intervals(ratings)[pair_figure(judge.labels)],
        without_label=sum(label is None for given in answers for label in given),
        calls=calls,
        spearman=found.spearman,
    )


def _same(labels: LabelSpace, given: Sequence[Label | None]) -> bool:
    """Whether answers are labels, and count as the same."""
    stated = [label for label in given if label is not None]
    return len(stated) == len(given) and all(labels.right(a, b) for a, b in combinations(stated, 2))


def _of_all_labels(examples: Sequence[dspy.Example], labels: LabelSpace) -> list[dspy.Example]:
    """Ten examples, of all labels (of scores, bins) in turn."""
    seen: Counter[Label] = Counter()
    turns = []
    for position, stratum in enumerate(labels.strata([example.label for example in examples])[1]):
        turns.append((seen[stratum], position))
        seen[stratum] += 1
    return [examples[position] for _, position in sorted(turns)[:IMAGES]]
