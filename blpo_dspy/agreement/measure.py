"""How far a judge agrees with people: scikit-learn's and SciPy's statistics, with invalid answers counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any, Literal

from blpo_dspy.agreement.outcomes import Outcomes
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace, check_space
from blpo_dspy.errors import BlpoError
from blpo_dspy.notebook import html_table, one_line, share


@dataclass(frozen=True)
class Flips:
    """Pairs of images with a label in both orders, and how many of them have another one in the other order."""

    pairs: int
    flipped: int

    @property
    def rate(self) -> float | None:
        """The share of flipped pairs in [0, 1], None without any pair."""
        return self.flipped / self.pairs if self.pairs else None


@dataclass(frozen=True, repr=False)
class Agreement:
    """Agreement of a judge with human labels; a statistic is None where it is undefined.

    Attributes:
        n: Examples that the judge answered, validly or not.
        accuracy: Share of right answers in [0, 1], of scores those within the tolerance (`LabelSpace.right`); an
            invalid answer is never right.
        macro_f1: Mean F1 in [0, 1] over the labels that occur in truth or predictions; None of scores.
        kappa: Cohen's kappa in [-1, 1]. Nominal: unweighted, "invalid" being one more category. Ordinal: quadratic
            weights, an invalid answer counting as the level farthest from the truth (the lowest of two equally far).
            None of scores, and where all true labels are the same, as it would be 0 (or 0/0) for any judge.
        invalid: Answers that state no label; without pairs that got none as their label changes with the order.
        invalid_rate: Their share of n.
        spearman: Rank correlation over the valid answers in [-1, 1]; of ordinal labels and scores.
        mae: Mean absolute error over the valid answers, in levels or points; of ordinal labels and scores.
        confusion: One row per true label; one column per label and a last one for no label. Empty of scores.
        labels: The labels, in the order of rows and columns.
        failed: Examples without an answer because the model call failed; not part of n.
        pearson: Linear correlation over the valid answers in [-1, 1]; of scores only.
        pairs: Of scores, the human score and the judge's (None if invalid) of each example.
        flips: How often the order of two images decided; None where none were judged in both orders.
    """

    n: int
    accuracy: float | None
    macro_f1: float | None
    kappa: float | None
    invalid: int
    invalid_rate: float | None
    spearman: float | None
    mae: float | None
    confusion: tuple[tuple[int, ...], ...]
    labels: LabelSpace
    failed: int = 0
    pearson: float | None = None
    pairs: tuple[tuple[Label, Label | None], ...] = ()
    flips: Flips | None = None

    @property
    def flip_rate(self) -> float | None:
        """The share of pairs whose label changes with the order of their images, in [0, 1]."""
        return None if self.flips is None else self.flips.rate

    @property
    def unlabelled(self) -> int:
        """Answers and pairs without a label."""
        return sum(row[-1] for row in self.confusion)

    def __repr__(self) -> str:
        return one_line(self, ", ".join(f"{name} {value}" for name, value in self.shown().items()))

    def _repr_html_(self) -> str:
        return html_table([list(self.shown()), list(self.shown().values())])

    def shown(self) -> dict[str, str]:
        """Returns the figures that such labels are measured by, ready to read, by their names."""
        if self.labels.kind == "scores":
            figures = {"within tolerance": self.accuracy, "Spearman": self.spearman, "mean error": self.mae}
        else:
            figures = {"accuracy": self.accuracy, "macro-F1": self.macro_f1, "kappa": self.kappa}
        counts = {"invalid": f"{self.invalid:,}", **({"failed": f"{self.failed:,}"} if self.failed else {})}
        return {"n": f"{self.n:,}", **{name: share(value) for name, value in figures.items()}, **counts}

    @property
    def mean_loss(self) -> float | None:
        """Mean loss in [0, 1], where an invalid answer loses 1 (`LabelSpace.loss`); None if nothing was answered."""
        if self.pairs:
            return sum(self.labels.loss(true, said) for true, said in self.pairs) / self.n
        outcomes = (*self.labels.labels, None)
        rows = zip(self.labels.labels, self.confusion, strict=True)
        lost = sum(
            count * self.labels.loss(true, said)
            for true, row in rows
            for said, count in zip(outcomes, row, strict=True)
        )
        return lost / self.n if self.n else None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON; `from_dict` reads it back."""
        plain: dict[str, Any] = {"labels": self.labels.to_dict()}
        if self.labels.kind == "scores":
            plain.update(pearson=self.pearson, pairs=[list(pair) for pair in self.pairs])
        else:
            plain["confusion"] = [list(row) for row in self.confusion]
        if self.flips is not None:
            plain.update(flips=asdict(self.flips), flip_rate=self.flip_rate)
        return {**{name: getattr(self, name) for name in _FIGURES}, **plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Agreement:
        """Returns the agreement that `to_dict` wrote.

        Raises:
            BlpoError: If the data is not of that form.
        """
        try:
            labels = LabelSpace.from_dict(data["labels"])
            figures = {name: data[name] for name in _FIGURES}
            if labels.kind == "scores":
                pairs = tuple((true, said) for true, said in data["pairs"])
                return cls(**figures, labels=labels, confusion=(), pearson=data["pearson"], pairs=pairs)
            confusion = tuple(tuple(int(count) for count in row) for row in data["confusion"])
            flips = Flips(**data["flips"]) if "flips" in data else None
            return cls(**figures, labels=labels, confusion=confusion, flips=flips)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BlpoError(f"not an agreement: {error!r}; expected what Agreement.to_dict() returns") from error


_FIGURES = ("n", "accuracy", "macro_f1", "kappa", "invalid", "invalid_rate", "spearman", "mae", "failed")


def measure_agreement(
    labels: LabelSpace, truth: Sequence[Label], predicted: Sequence[Label | None], *, failed: int = 0
) -> Agreement:
    """Compares predicted labels with the true ones; None stands for an answer that states no label.

    Args:
        labels: The label space of both.
        truth: Human labels.
        predicted: The judge's labels in the same order.
        failed: Examples left out because the model call failed.

    Raises:
        BlpoError: If the two differ in length, one has no order, such as a set, or a label is not in the space.
    """
    check_space(labels)
    _check_ordered(truth=truth, predicted=predicted)
    if len(truth) != len(predicted):
        raise BlpoError(f"{len(truth)} human labels but {len(predicted)} predictions; there must be one for each")
    pairs, n = tuple(zip(truth, predicted, strict=True)), len(truth)
    valid: list[tuple[float, float]]
    own: dict[str, Any]
    if labels.kind == "scores":
        valid = [(labels.score(true), labels.score(said)) for true, said in pairs if said is not None]
        own = {
            "macro_f1": None,
            "kappa": None,
            "confusion": (),
            "pearson": _correlation("pearsonr", valid),
            "pairs": pairs,
        }
    else:
        outcomes, size = Outcomes.of(labels), len(labels)
        true, guess = outcomes.true_positions(truth), outcomes.positions(predicted)
        valid = [(i, j) for i, j in zip(true, guess, strict=True) if j < size]
        own = {"macro_f1": _macro_f1(true, guess, size), "kappa": _kappa(labels, true, guess)}
        own["confusion"] = _confusion(true, guess, size)
    return Agreement(
        n=n,
        accuracy=sum(labels.right(true, said) for true, said in pairs) / n if n else None,
        invalid=n - len(valid),
        invalid_rate=(n - len(valid)) / n if n else None,
        spearman=_correlation("spearmanr", valid) if labels.ordered else None,
        mae=sum(abs(true - said) for true, said in valid) / len(valid) if labels.ordered and valid else None,
        labels=labels,
        failed=failed,
        **own,
    )


def _check_ordered(**given: object) -> None:
    """Refuses sets and the like: label and prediction belong together by their places, which these don't have."""
    found = [
        f"{name} is a {type(value).__name__}" for name, value in given.items() if isinstance(value, (Set, Mapping))
    ]
    if found:
        raise BlpoError(
            f"{' and '.join(found)}, which has no order to match labels with predictions by; give lists of labels, the "
            "prediction of an example at the place of its human label",
            option=tuple(given),
        )


def farthest(position: int, size: int) -> int:
    """Returns the end of a scale of `size` levels that is farther from a position, the lowest of two equally far."""
    return 0 if 2 * position >= size - 1 else size - 1


def _macro_f1(true: list[int], guess: list[int], size: int) -> float | None:
    from sklearn.metrics import f1_score  # noqa: PLC0415  (half a second that `import blpo_dspy` need not pay)

    occurring = sorted({*true, *guess} - {size})
    return float(f1_score(true, guess, labels=occurring, average="macro", zero_division=0.0)) if true else None


def _kappa(labels: LabelSpace, true: list[int], guess: list[int]) -> float | None:
    from sklearn.metrics import cohen_kappa_score  # noqa: PLC0415

    size = len(labels)
    if labels.ordered:
        guess = [farthest(i, size) if j == size else j for i, j in zip(true, guess, strict=True)]
    if len(set(true)) < 2:
        return None  # agreement with a constant is what chance gives, whatever the judge says
    weights = "quadratic" if labels.ordered else None
    return float(cohen_kappa_score(true, guess, labels=range(size + 1), weights=weights))


def _correlation(name: Literal["spearmanr", "pearsonr"], valid: Sequence[tuple[float, float]]) -> float | None:
    from scipy import stats  # noqa: PLC0415

    true, guess = [i for i, _ in valid], [j for _, j in valid]
    if len(set(true)) < 2 or len(set(guess)) < 2:
        return None  # a constant has no ranks, and no slope
    return float(getattr(stats, name)(true, guess).statistic)


def _confusion(true: list[int], guess: list[int], size: int) -> tuple[tuple[int, ...], ...]:
    from sklearn.metrics import confusion_matrix  # noqa: PLC0415

    if not true:
        return ((0,) * (size + 1),) * size
    return tuple(tuple(map(int, row)) for row in confusion_matrix(true, guess, labels=range(size + 1))[:size])
