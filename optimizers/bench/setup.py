"""Fitting data, program and models together before a run."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import dspy

from blpo_dspy.data.fields import images_of
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.reasons import reason_of, with_note, without_reason
from blpo_dspy.errors import BlpoError, DataError, check_kind
from blpo_dspy.models.lm import identity
from blpo_dspy.optimizers.bench.bench import Predictors
from blpo_dspy.optimizers.bench.scoring import Metric
from blpo_dspy.programs.pairs import TRAIN, mirrored, to_swap


@dataclass(frozen=True)
class Dataset:
    """The examples of a run and which of them train and which validate.

    Attributes:
        examples: The examples as they are shown.
        train: The positions of those that train.
        validation: Likewise.
        swapped: Those of pairs whose images have changed places.
    """

    examples: tuple[dspy.Example, ...]
    train: tuple[int, ...]
    validation: tuple[int, ...]
    swapped: frozenset[int] = frozenset()

    @property
    def validated_on(self) -> Literal["val", "train"]:
        """The set that validates: the training examples themselves where there is no other."""
        return "train" if self.validation == self.train else "val"


def dataset(
    student: dspy.Module,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example] | None,
    label_field: str,
    *,
    reasons: bool = True,
) -> Dataset:
    """Returns the examples with their inputs prepared once (`student.prepare`, where the program has it).

    Reasons stay with training examples, if the optimizer reads them at all: nothing in a run sees those of others.

    Raises:
        BlpoError: If a set is not a list of examples.
        DataError: Naming every example without inputs or label, or whose inputs cannot be prepared.
    """
    for name, part, rows in (("trainset", "train", trainset), ("valset", "val", valset)):
        if rows is not None or part == "train":
            kind = list if isinstance(rows, (str, bytes)) else Sequence
            check_kind(name, rows, kind, "list of examples", f"{name}=splits.{part} or load_examples(…)")
    if not trainset:
        raise DataError("the trainset is empty; BLPO needs labelled examples, 100 to 200 work well")
    if valset is not None and not valset:
        raise DataError("the valset is empty; leave it out to pick the returned program on the trainset")
    problems: list[str] = []
    examples: list[dspy.Example] = []
    for name, rows in (("trainset", trainset), ("valset", valset or ())):
        for number, example in enumerate(rows):
            try:
                prepared = _prepared(student, example, label_field)
                kept = reasons and name == "trainset" and reason_of(prepared)
                examples.append(prepared if kept else without_reason(prepared))
            except BlpoError as error:
                problems.append(f"{name}[{number}]: {error}")
    if problems:
        raise DataError(f"{len(problems)} examples cannot be used; mend or remove them", problems)
    train = tuple(range(len(trainset)))
    return Dataset(tuple(examples), train, tuple(range(len(train), len(examples))) if valset is not None else train)


def in_balanced_order(data: Dataset, labels: LabelSpace | None, label_field: str, seed: int) -> Dataset:
    """Returns the data with half of the pairs of each label shown in the other order, with the label that fits.

    A judge that prefers a place gains nothing by it then. Without pairs the data is as it was.

    Raises:
        DataError: Naming every example that is not a pair.
    """
    if labels is None or not labels.paired:
        return data
    chosen: set[int] = set()
    for name, positions in ((TRAIN, data.train), ("val", data.validation)):
        if name == TRAIN or data.validated_on == "val":
            known = [data.examples[i][label_field] for i in positions]
            chosen |= {positions[i] for i in to_swap(known, seed, name)}
    examples, problems = list(data.examples), []
    for position, example in enumerate(data.examples):
        try:
            other = mirrored(example, labels, label_field)
        except BlpoError as error:
            problems.append(f"example {position}: {error}")
            continue
        if position in chosen:
            examples[position] = with_note(other, "written with the two in the other order")
    if problems:
        raise DataError(f"{len(problems)} examples are not pairs; correct or remove them", problems)
    return replace(data, examples=tuple(examples), swapped=frozenset(chosen))


def _prepared(student: dspy.Module, example: dspy.Example, label_field: str) -> dspy.Example:
    check_kind("example", example, dspy.Example, "dspy.Example", 'dspy.Example(image=…, label=…).with_inputs("image")')
    if example.get(label_field) is None:
        raise BlpoError(f"it has no {label_field!r}; give it one, or name the field with label_field=…")
    if getattr(example, "_input_keys", None) is None:
        raise BlpoError('its inputs are not marked; use example.with_inputs("image", …)')
    inputs = example.inputs()
    prepare = getattr(student, "prepare", None)
    if prepare is not None:
        return example.copy(**prepare(**dict(inputs.items())))
    if not images_of(example):
        kinds = ", ".join(f"{name} is a {type(value).__name__}" for name, value in inputs.items())
        raise BlpoError(f"none of its inputs is a dspy.Image or a list of them ({kinds}); make one dspy.Image(…)")
    forward = getattr(type(student), "forward", None)  # DSPy warns of whoever looks at the method of a module
    if forward is not None:
        _check_forward(forward, inputs)
    return example


def _check_forward(forward: Callable[..., Any], inputs: dspy.Example) -> None:
    """Refuses inputs of other names than a program's forward has."""
    try:
        inspect.signature(forward).bind(None, **dict(inputs.items()))
    except TypeError as error:
        names = ", ".join(inputs.keys())
        raise BlpoError(f"the program's forward doesn't take {names} ({error}); name inputs as forward does") from error


def label_space(
    labels: LabelSpace | None,
    student: dspy.Module,
    examples: Sequence[dspy.Example],
    label_field: str,
    metric: Metric | None,
) -> LabelSpace | None:
    """Returns the label space: as given, the student's, or the set of the examples' labels.

    None where there is a metric and no label space: then the metric alone says what is right.

    Raises:
        DataError: Naming every example whose label isn't in it.
        BlpoError: If it would be made of numbers, which may be a scale or mere names.
    """
    space = labels or getattr(student, "labels", None)
    if not isinstance(space, LabelSpace):
        if metric is not None:
            return None
        space = _derived({example[label_field] for example in examples})
    unknown = [
        f"example {number}: {example[label_field]!r}"
        for number, example in enumerate(examples)
        if example[label_field] not in space
    ]
    if unknown:
        raise DataError(f"{len(unknown)} labels are not in the label space ({space.describe()})", unknown)
    return space


def _derived(given: set[Any]) -> LabelSpace:
    # Two numbers are as far apart on a scale as two names are.
    if len(given) > 2 and all(type(label) in (int, float) for label in given):
        raise BlpoError(
            f"the labels are numbers from {min(given)} to {max(given)}: say whether they are a scale, "
            f"labels=LabelSpace.ordinal({min(given)}, {max(given)}) or LabelSpace.scores({min(given)}, {max(given)}), "
            "or mere names, labels=LabelSpace(…)"
        )
    return LabelSpace(*sorted(given, key=str))


def fingerprint(
    student: dspy.Module,
    data: Dataset,
    label_field: str,
    models: Mapping[str, dspy.BaseLM],
    metric: Metric | None,
    labels: LabelSpace | None,
) -> dict[str, Any]:
    """Returns what makes two runs the same run: data, program, models and metric, as JSON-ready data."""
    program = {
        name: {"instructions": predictor.signature.instructions, "fields": list(predictor.signature.fields)}
        for name, predictor in student.named_predictors()
    }
    return {
        "train": _digest([data.examples[i] for i in data.train], label_field),
        "validation": _digest([data.examples[i] for i in data.validation], label_field),
        "labels": None if labels is None else labels.to_dict(),
        "program": program,
        "models": {name: identity(lm) for name, lm in models.items()},
        "metric": None if metric is None else getattr(metric, "__qualname__", type(metric).__qualname__),
    }


def meta_prompt_digest(signature: type[dspy.Signature]) -> str:
    """Returns a short hash of what a meta-prompt says and asks for: its instructions and its fields."""
    fields = {
        name: [str(field.annotation), {key: str(value) for key, value in (field.json_schema_extra or {}).items()}]
        for name, field in signature.fields.items()
    }
    text = json.dumps([signature.instructions, list(fields.items())])
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _digest(examples: Sequence[dspy.Example], label_field: str) -> str:
    """A hash of labels, inputs and reasons in order; images count by their content."""
    digest = hashlib.sha256()
    for example in examples:
        urls = {
            name: [image.url for image in images] if isinstance(example[name], (list, tuple)) else images[0].url
            for name, images in images_of(example).items()
        }
        inputs = {name: urls.get(name, value) for name, value in sorted(example.inputs().items())}
        reasons = list(filter(None, [reason_of(example)]))
        digest.update(json.dumps([example[label_field], inputs, *reasons], default=repr).encode())
    return f"{len(examples)} examples, sha256 {digest.hexdigest()}"


def program_lms(
    student: dspy.Module, predictors: Predictors, task_model: dspy.BaseLM | None, verbalizer_model: dspy.BaseLM | None
) -> dict[str, tuple[dspy.BaseLM, str]]:
    """Returns for each predictor of the program its LM and the role that its calls are counted under.

    Raises:
        BlpoError: If a predictor has no LM and none is configured.
    """
    lms: dict[str, tuple[dspy.BaseLM, str]] = {}
    for name, predictor in student.named_predictors():
        is_verbalizer = name == predictors.verbalizer
        lm = (verbalizer_model if is_verbalizer else None) or task_model or predictor.lm or dspy.settings.lm
        if lm is None:
            raise BlpoError(
                f"the program's predictor {name!r} has no LM; pass task_model=dspy.LM(…) or call dspy.configure(lm=…)"
            )
        lms[name] = (lm, "verbalizer" if is_verbalizer else "judge")
    return lms
