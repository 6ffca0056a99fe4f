"""Label spaces and lists as the text of an option states them."""

from __future__ import annotations

import re

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError

_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_SCORES = re.compile(rf"({_NUMBER})\s*[-–]\s*({_NUMBER})(?:\s*:\s*({_NUMBER}))?")
_SCALE = re.compile(r"(\d{1,6})\s*[-–]\s*(\d{1,6})")


def names(text: str) -> tuple[str, ...]:
    """Returns the names of a comma-separated list; the empty text lists none."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def parse_labels(
    labels: str | None,
    scale: str | None,
    scores: str | None = None,
    tolerance: float | None = None,
    pairs: str | None = None,
) -> LabelSpace:
    """Returns the label space that `--labels`, `--scale`, `--scores` or `--pairs` states.

    Raises:
        BlpoError: If more than one or none of them is given, or the one given states no label space.
    """
    stated = {"labels": labels, "scale": scale, "scores": scores, "pairs": pairs}
    given = [flag for flag, text in stated.items() if text is not None]
    if len(given) > 1:
        raise BlpoError(f"--{' and --'.join(given)} exclude each other: give the one that the labels are")
    if scores is not None:
        return parse_scores(scores, tolerance)
    if tolerance is not None:
        raise BlpoError("--tolerance is how far an answer may be off of --scores, such as --scores 0-100")
    if pairs is not None:
        return parse_pairs(pairs)
    if labels is not None:
        listed = _labels(labels)
        if "" in listed:
            raise BlpoError(
                f'--labels {labels!r} has an empty label; with spaces in it, put it in quotes: "Safe, Unsafe"'
            )
        if len(listed) == 1:
            raise BlpoError(f'--labels {labels!r} is a single label; separate labels by commas, as in "Safe,Unsafe"')
        return LabelSpace(*listed)
    if scale is None:
        raise BlpoError(
            'the labels are missing: give --labels "Safe,Unsafe", a scale such as --scale 1-5, or --scores 0-100'
        )
    match = _SCALE.fullmatch(scale.strip())
    if match is None or not int(match[1]) < int(match[2]):
        raise BlpoError(
            f"--scale {scale!r} is not a scale: write it from its lowest to its highest whole number, such as 1-5 or "
            "0-10; one with numbers below zero can be made in Python, LabelSpace.ordinal(-2, 2)"
        )
    return LabelSpace.ordinal(int(match[1]), int(match[2]))


def parse_pairs(pairs: str) -> LabelSpace:
    """Returns the labels of pairs that `--pairs` states.

    Raises:
        BlpoError: If it doesn't.
    """
    listed = _labels(pairs)
    if not 2 <= len(listed) <= 3 or "" in listed:
        raise BlpoError(
            f"--pairs {pairs!r} is not FIRST,SECOND or FIRST,SECOND,TIE: write the label for the first image, that for "
            'the second, and that for neither if there is one, as in "A,B,tie"'
        )
    return LabelSpace.pairwise(listed[0], listed[1], tie=listed[2] if len(listed) > 2 else None)


def parse_scores(text: str, tolerance: float | None = None) -> LabelSpace:
    """Returns the scores that `--scores LOW-HIGH[:STEP]` states.

    Raises:
        BlpoError: If it states no range of scores.
    """
    match = _SCORES.fullmatch(text.strip())
    if match is None:
        raise BlpoError(
            f"--scores {text!r} is not a range of scores: write it from its lowest to its highest number, such as "
            "0-100, and with the step where not every decimal is a score, such as 0-10:0.5"
        )
    try:
        low, high, step = (None if number is None else float(number) for number in match.groups())
        assert low is not None
        assert high is not None
        return LabelSpace.scores(low, high, step, tolerance=tolerance)
    except BlpoError as error:
        raise BlpoError(f"--scores {text!r}: {error}") from error


def _labels(text: str) -> list[Label]:
    """The labels of a list; whole numbers where all of them are ("1,0" means the same as 1.0 in a table)."""
    names = [name.strip() for name in text.split(",")]
    return (
        [int(name) for name in names]
        if all(re.fullmatch(r"0|-?[1-9]\d{0,15}", name) for name in names)
        else list(names)
    )


def three_sizes(text: str | None) -> tuple[int, int, int] | None:
    """Returns the sizes of train, val and test that `--sizes` states; None without it.

    Raises:
        BlpoError: If they are not three whole numbers.
    """
    if text is None:
        return None
    found = [part.strip() for part in text.split(",")]
    if len(found) != 3 or not all(part.isdecimal() for part in found):
        raise BlpoError(f"--sizes {text!r} is not TRAIN,VAL,TEST; write three whole numbers such as 100,50,100")
    train, val, test = map(int, found)
    if not (train and val and test):
        raise BlpoError(f"--sizes {text!r}: each set needs images; the returned judge is picked on the validation set")
    return train, val, test
