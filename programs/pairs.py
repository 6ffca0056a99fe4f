"""Pairs of images: the same pair in the other order, a balanced order for a search, and a verdict from both orders."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import dspy

from blpo_dspy.data.fields import InputFields, images_of
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace, Orders
from blpo_dspy.errors import BlpoError
from blpo_dspy.programs.metric import Judge

TRAIN = "train"
"""The name under which `to_swap` draws from the training examples."""


def check_pair(labels: LabelSpace, fields: InputFields) -> None:
    """Checks that a judge whose labels compare two images takes two."""
    if labels.paired and (len(fields.images) != 2 or any(image.several for image in fields.images)):
        raise BlpoError(
            f"the labels {labels.describe()} compare two images, but the image inputs are "
            f"{', '.join(map(str, fields.images))}; name two with images=…, such as left and right, each one image",
            option="images",
        )


def asked_in(labels: LabelSpace, orders: str = "both") -> int:
    """Returns in how many orders a judge of these labels is asked."""
    if orders not in get_args(Orders):
        raise BlpoError(f"orders={orders!r} is unknown; choose one of {', '.join(get_args(Orders))}")
    return 2 if labels.paired and orders == "both" else 1


def swapped(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Returns values in which those of two names have changed places."""
    first, second = names
    return {**values, first: values[second], second: values[first]}


def mirrored(example: dspy.Example, labels: LabelSpace, label_field: str = "label") -> dspy.Example:
    """Returns a labelled pair in the other order, with the label that then says the same."""
    images = images_of(example)
    if len(images) != 2 or any(len(several) != 1 for several in images.values()):
        raise BlpoError(f"it has the image inputs {', '.join(images) or 'none'}; a pair has two, each one image")
    values = {name: several[0] for name, several in images.items()}
    return example.copy(**swapped(values, list(images)), **{label_field: labels.mirror(example[label_field])})


def to_swap(labels: Sequence[Label], seed: int, name: str) -> frozenset[int]:
    """Returns the positions of the pairs that a search shows in the other order: half of those of each label.

    The seed draws them, for each name of a set others.
    """
    drawn: set[int] = set()
    for label in dict.fromkeys(labels):
        places = [i for i, one in enumerate(labels) if one == label]
        rng = random.Random(f"{seed}:order of pairs:{name}:{label}")
        drawn.update(rng.sample(places, (len(places) + rng.randrange(2)) // 2))
    return frozenset(drawn)


class BothOrders:
    """A judge of pairs that is asked twice about each pair: as it is given, and with the images in each other's place.

    The prediction has the label on which both orders agree, else the tie, or None where the labels have none. Its
    `inconsistent` is whether the label changed with the order, None where one of the two answers states no label. The
    description and the reasoning are those of the given order, the confidence is the lower one, and 0 where the label
    changes with the order.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge, self._names = judge, [image.name for image in judge.fields.images]

    def __call__(self, **inputs: Any) -> dspy.Prediction:
        """Judges a pair in both orders; errors are those of the judge."""
        given, other = self._judge(**inputs), self._judge(**swapped(inputs, self._names))
        return _combined(given, other, self._judge.labels)


def _combined(given: dspy.Prediction, other: dspy.Prediction, labels: LabelSpace) -> dspy.Prediction:
    inconsistent, label = None, None
    if given.label is not None and other.label is not None:
        inconsistent = given.label != labels.mirror(other.label)
        label = labels.tie if inconsistent else given.label
    agreed = inconsistent is False
    answer = given.answer if agreed else f"{given.answer} / in the other order: {other.answer}"
    found = {**dict(given.items()), "label": label, "answer": answer, "inconsistent": inconsistent}
    if "confidence" in given:
        both = (given.confidence, other.confidence)
        found["confidence"] = 0.0 if not agreed else None if None in both else min(both)
    if "escalate" in given:
        found["escalate"] = not agreed or given.escalate or other.escalate
    return dspy.Prediction(**found)
