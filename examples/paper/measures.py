"""The measures that the authors of the datasets report, over human labels and a judge's answers.

Each takes the truth, the answers in the same order (None where the judge gave no valid one) and, where it is defined
within groups, their names; it returns None where it is undefined.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from blpo_dspy.data.labels.normalize import Label

Answers = Sequence["Label | None"]
Groups = Sequence["str | None"]


@dataclass(frozen=True)
class AuthorMetric:
    """A measure of the authors, and which fields of an example it reads.

    Args:
        name: Its name in tables.
        compute: Called with truth, answers and groups.
        truth: The field of an example that holds the truth.
        groups: The field that holds the group; None if there are none.
    """

    name: str
    compute: Callable[[Sequence[Any], Answers, Groups | None], float | None]
    truth: str = "label"
    groups: str | None = None

    def measure(self, examples: Sequence[Any], answers: Answers) -> float | None:
        """Returns the measure of a judge's answers to these examples, in their order."""
        truth = [example[self.truth] for example in examples]
        groups = None if self.groups is None else [example.get(self.groups) for example in examples]
        return self.compute(truth, answers, groups)


def unsafe_f1(truth: Sequence[Label], answers: Answers, groups: Groups | None = None) -> float | None:
    """Returns the F1 of the class "Unsafe" in [0, 1]; an invalid answer counts as the wrong label.

    UnsafeBench's authors give an unsure answer a random label instead, which makes scores depend on a seed.
    """
    from sklearn.metrics import f1_score  # noqa: PLC0415 - slow to import

    if "Unsafe" not in truth:
        return None
    settled = [answer or _other(label, ("Safe", "Unsafe")) for label, answer in zip(truth, answers, strict=True)]
    return float(f1_score(truth, settled, pos_label="Unsafe"))


def auc_of_answers(truth: Sequence[int], answers: Answers, groups: Groups | None = None) -> float | None:
    """Returns the ROC-AUC in [0, 1] of answers 0 or 1, the mean over groups that hold both labels.

    SeeTRUE's authors rank alignment scores; of answers alone the area is the mean of both classes' recall. An invalid
    answer counts as the wrong label.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    found = []
    for members in _by_group(groups, len(truth)):
        labels = [truth[i] for i in members]
        if len(set(labels)) == 2:
            scores = [_other(truth[i], (0, 1)) if answers[i] is None else answers[i] for i in members]
            found.append(float(roc_auc_score(labels, scores)))
    return sum(found) / len(found) if found else None


def pairwise_accuracy(truth: Sequence[float], answers: Answers, groups: Groups | None = None) -> float | None:
    """Returns the share in [0, 1] of pairs within a group that are answered in the human order.

    As in ImageReward's test: pairs that people found equal are left out, and a tie between answers is wrong; so is a
    pair with an invalid answer.

    Args:
        truth: Higher is better.
        answers: Higher is better.
        groups: Pairs are only formed within a group.
    """
    right = total = 0
    for members in _by_group(groups, len(truth)):
        for i, j in combinations(members, 2):
            if truth[i] != truth[j]:
                total += 1
                better, worse = (answers[i], answers[j]) if truth[i] > truth[j] else (answers[j], answers[i])
                right += better is not None and worse is not None and float(better) > float(worse)
    return right / total if total else None


def srcc(truth: Sequence[float], answers: Answers, groups: Groups | None = None) -> float | None:
    """Returns Spearman's rank correlation in [-1, 1] over the valid answers."""
    from scipy.stats import spearmanr  # noqa: PLC0415

    x, y = _valid(truth, answers)
    return float(spearmanr(x, y).statistic) if _vary(x, y) else None


def plcc(truth: Sequence[float], answers: Answers, groups: Groups | None = None) -> float | None:
    """Returns Pearson's correlation in [-1, 1] over the valid answers, after the usual 4-parameter logistic fit.

    If the fit does not converge, the raw answers are correlated.
    """
    from scipy.optimize import OptimizeWarning, curve_fit  # noqa: PLC0415
    from scipy.stats import pearsonr  # noqa: PLC0415

    x, y = _valid(truth, answers)
    if not _vary(x, y):
        return None
    start = (x.max(), x.min(), y.mean(), y.std())
    try:
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            fitted = _logistic(y, *curve_fit(_logistic, y, x, p0=start, maxfev=2000)[0])
    except (RuntimeError, TypeError):  # no convergence; fewer points than parameters
        fitted = y
    return float(pearsonr(x, fitted if np.ptp(fitted) > 0 else y).statistic)


def _logistic(y: Any, top: float, bottom: float, middle: float, width: float) -> Any:
    return bottom + (top - bottom) / (1 + np.exp(-(y - middle) / max(abs(width), 1e-6)))


def _other(label: Any, labels: tuple[Any, Any]) -> Any:
    return labels[1] if label == labels[0] else labels[0]


def _by_group(groups: Groups | None, count: int) -> list[list[int]]:
    """Positions by group; without groups, all items form one, and an item without a group is left out."""
    if groups is None:
        return [list(range(count))]
    found: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        if group is not None:
            found.setdefault(group, []).append(position)
    return list(found.values())


def _valid(truth: Sequence[float], answers: Answers) -> tuple[Any, Any]:
    pairs = [(float(t), float(a)) for t, a in zip(truth, answers, strict=True) if a is not None]
    return np.array([t for t, _ in pairs]), np.array([a for _, a in pairs])


def _vary(x: Any, y: Any) -> bool:
    return len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0


_OF_SCORES = (AuthorMetric("SRCC", srcc, truth="score"), AuthorMetric("PLCC", plcc, truth="score"))
MEASURES: dict[str, tuple[AuthorMetric, ...]] = {
    "unsafebench": (AuthorMetric("F1 of Unsafe", unsafe_f1),),
    "seetrue": (AuthorMetric("ROC-AUC of answers, mean over sources", auc_of_answers, groups="dataset_source"),),
    "imagereward": (
        AuthorMetric("accuracy over pairs of a prompt", pairwise_accuracy, truth="preference", groups="group"),
    ),
    "agin": _OF_SCORES,
    "agiqa3k": _OF_SCORES,
}
"""By the name of a source, the measures that its authors report."""
