"""A judge as the metric of another DSPy program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Protocol

import dspy

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, brief, check_kind
from blpo_dspy.text import as_data

_SHOWN_ANSWER = 200


class Judge(Protocol):
    """What a metric needs of a judge."""

    labels: LabelSpace
    fields: InputFields

    def __call__(self, **inputs: Any) -> dspy.Prediction:
        """Judges an image."""


def judge_metric(
    judge: Judge, *, fields: Mapping[str, str] | None = None, scores: Mapping[Label, float] | None = None
) -> Callable[..., dspy.Prediction]:
    """Returns `metric(example, prediction, trace=None, pred_name=None, pred_trace=None)` for DSPy's optimizers.

    The metric judges an image that the program produced (or was given) and returns a `dspy.Prediction` with `score` in
    [0, 1] and `feedback`, the judge's evidence in words, as `dspy.GEPA` reads it, and the `label`. An answer without a
    valid label (None) scores 0, and the feedback states it.

    The judge runs on its own LM (`judge.set_lm(…)`), or on the configured one, which within an optimizer is the
    program's. `dspy.BootstrapFewShot` takes every such prediction for a success unless it is given a
    `metric_threshold`.

    Args:
        judge: The judge.
        fields: For an input of the judge, an image or a text, the name of the field that holds it, looked up in the
            prediction first, then in the example; the same name unless given.
        scores: The score of each label. An ordinal scale runs from 0 (lowest) to 1 (highest) unless given; nominal
            labels have no order, so theirs must be given. A range of scores runs from 0 to 1, too.

    Raises:
        BlpoError: If the scores are missing for nominal labels, name an unknown label, or leave [0, 1], or if
            `fields` names an input that the judge doesn't have.
    """
    worth, best = _worth(judge.labels, scores)
    holders = holders_of(judge.fields, fields)
    images = {image.name for image in judge.fields.images}

    def metric(
        example: Any, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None
    ) -> dspy.Prediction:
        inputs = {name: _field(holder, prediction, example) for name, holder in holders.items()}
        inputs = {name: _image(value) if name in images else value for name, value in inputs.items()}
        # Optimizers read the program's own steps off the trace.
        with dspy.context(trace=None):
            verdict = judge(**inputs)
        if verdict.label is None:
            answer = as_data(verdict.answer)[:_SHOWN_ANSWER]
            feedback = f"The judge gave no valid label (it wrote {answer!r})."
            return dspy.Prediction(score=0.0, feedback=feedback, label=None)
        evidence = [as_data(verdict[key]) for key in ("reasoning", "description") if verdict.get(key)]
        feedback = " ".join([f"The judge's label is {verdict.label}; the best is {best}.", *evidence])
        return dspy.Prediction(score=worth(verdict.label), feedback=feedback, label=verdict.label)

    return metric


def holders_of(inputs: InputFields, fields: Mapping[str, str] | None) -> dict[str, str]:
    """Returns for each input of a judge the name of what holds it: that in `fields`, else its own."""
    if fields is not None:
        check_kind("fields", fields, Mapping, "dictionary", "fields={'image': 'render'}")
    if unknown := [name for name in fields or () if name not in inputs.names]:
        raise BlpoError(f"the judge has no input {brief(unknown)}; it has {list(inputs.names)}")
    return {name: (fields or {}).get(name, name) for name in inputs.names}


def _worth(labels: LabelSpace, scores: Mapping[Label, float] | None) -> tuple[Callable[[Label], float], str]:
    """The score of a label, and the best label in words."""
    found = labels.score_range
    if found is not None:
        if scores is not None:
            raise BlpoError(
                f"scores are for labels of a closed set, but the judge gives {labels.describe()}; leave them out"
            )
        return (lambda label: found.part(labels.score(label))), str(found.high)
    listed = _scores(labels, scores)
    best = ", ".join(str(label) for label, score in listed.items() if score == max(listed.values()))
    return listed.__getitem__, best


def _scores(labels: LabelSpace, scores: Mapping[Label, float] | None) -> dict[Label, float]:
    if scores is None:
        if not labels.ordered:
            raise BlpoError(
                f"nominal labels have no order: pass scores={{{labels.labels[0]!r}: 1.0, …}} with a score for each of "
                f"{labels.describe()}"
            )
        return {label: position / (len(labels) - 1) for position, label in enumerate(labels.labels)}
    check_kind("scores", scores, Mapping, "dictionary", f"scores={{{labels.labels[0]!r}: 1.0, …}}")
    numbers = all(isinstance(score, Real) and 0 <= score <= 1 for score in scores.values())
    if set(scores) != set(labels.labels) or not numbers:
        raise BlpoError(f"scores {brief(dict(scores))} must give a number in [0, 1] to each of {labels.describe()}")
    return dict(scores)


def _image(value: Any) -> Any:
    """The image to judge, or a list; text may come from a model, and is never used as a path or an address."""
    if isinstance(value, (list, tuple)):
        return [_image(part) for part in value]
    if isinstance(value, str):
        raise BlpoError(f"the image to judge is text ({value[:80]!r}); make it a dspy.Image, PIL image, bytes or Path")
    return value


def _field(name: str, prediction: Any, example: Any) -> Any:
    for holder in (prediction, example):
        value = holder.get(name) if hasattr(holder, "get") else getattr(holder, name, None)
        if value is not None:
            return value
    raise BlpoError(f"neither the prediction nor the example has a field {name!r} for the judge to read")
