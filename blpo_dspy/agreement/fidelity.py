"""Whether the verbalizer's text carries what matters, and nothing that its instruction leaves to the judge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blpo_dspy.agreement.measure import Agreement, measure_agreement
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.labels.space import LabelSpace

_MOST_EXAMPLES = 5
_RATED = r"\b(?:rat(?:e|ed|ing)|scor(?:e|ed|ing)|label(?:led)?|grade[d]?|level|verdict)\b[^.\n\w]{0,3}(?:\w+\s+){0,3}?"
# What makes of a name a verdict where it is a common word, too ("a local irregularity"): a sentence or summary that
# consists of it, a word that introduces labels, an opinion, or a statement about the image as a whole.
_IMAGE = "(?:image|picture|photo|photograph|sample|example|one)"
# A name before a colon alone is a heading.
_ALONE = r"(?=[\s\"'*`_”’)]{0,9}(?:$|[.!?\n。]))"
_END = r"(?=[\s\"'*`_”’)]{0,9}(?:$|[.,;:!?\n。]))"
_GAP = r"\W{1,9}"
_SUMMARY = "(?:overall|verdict|conclusion|assessment|in (?:summary|short|conclusion))"
_VERDICTS = (
    rf"(?:^|[.!?\n。])[\W_]{{0,9}}(?:{_SUMMARY}{_GAP})?NAME{_ALONE}",
    r"\b(?:label|rating|classification|grade|verdict|category|class)[\"'*`_]*\s?(?:[:=]|(?:is|would be|should be)\b)"
    r"\W{0,9}NAME",
    rf"\b(?:labell?ed|rated|classified|graded|judged)(?: it)?(?: as| to be)?(?: an?)?{_GAP}NAME",
    r"\bi(?:['’]d|['’]ll| would| will)? (?:rate|grade|label|classify|judge|call|consider|deem)\b(?: \w+){1,3}?"
    rf"{_GAP}NAME{_END}",
    rf"\b(?:the|this) {_IMAGE} (?:is|looks|seems|appears)(?: to be)?(?: (?:clearly|definitely|certainly))?{_GAP}"
    rf"(?:NAME|an? NAME(?: {_IMAGE}|{_END}))",
)


@dataclass(frozen=True)
class Stated:
    """How many of n descriptions give a verdict, which the verbalizer is to leave to the judge.

    The examples are id and text of the first few.
    """

    n: int = 0
    count: int = 0
    examples: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {**asdict(self), "examples": [{"id": name, "description": text} for name, text in self.examples]}


def fidelity(labels: LabelSpace, from_pixels: Sequence[Verdict], from_text: Sequence[Verdict]) -> Agreement:
    """Returns how far the labels judged from descriptions alone agree with those judged from the pixels.

    The verdicts are of the same judge with the evidence "image" and "description". The rows of the confusion matrix are
    the labels from the pixels, so that it also shows the fidelity of each label (of a closed set).
    """
    pairs = [(p, t) for p, t in zip(from_pixels, from_text, strict=True) if not p.failure and not t.failure]
    stated = [(p.label, t.label) for p, t in pairs if p.label is not None]
    truth, predicted = [label for label, _ in stated], [label for _, label in stated]
    return measure_agreement(labels, truth, predicted, failed=len(from_pixels) - len(stated))


def states_label(description: str, labels: LabelSpace) -> bool:
    """Whether a description gives a verdict: uses a label as one ("overall: unsafe"), or rates on the scale ("4/5").

    A bare number is none, as descriptions count things, and neither is a label that is used as a common word.
    """
    if not labels.numeric:
        name = rf"(?<!\w)(?:{'|'.join(map(re.escape, labels.names))})(?!\w)"
        verdict = "|".join(_VERDICTS).replace("NAME", name)
        return re.search(verdict, description, re.IGNORECASE) is not None
    scores = labels.score_range
    level = "|".join(map(re.escape, labels.names)) if scores is None else r"\d+(?:\.\d+)?"
    last = re.escape(str(labels.labels[-1] if scores is None else scores.high))
    pattern = rf"(?:{_RATED}(?<![\w.])(?:{level})(?![\w.]\d))|(?<![\w.])(?:{level})\s*(?:/|out of)\s*{last}(?!\w)"
    return re.search(pattern, description, re.IGNORECASE) is not None


def stated_labels(labels: LabelSpace, descriptions: Sequence[tuple[str, str]]) -> Stated:
    """Returns how many of some descriptions, given with the ids of their images, give a verdict, and the first few."""
    stated = [(name, text) for name, text in descriptions if states_label(text, labels)]
    return Stated(len(descriptions), len(stated), tuple(stated[:_MOST_EXAMPLES]))
