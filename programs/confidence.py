"""How sure a judge is of a label: by repeated answers, by token probabilities, or by what different evidence says."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, get_args

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace, Method
from blpo_dspy.errors import BlpoError, brief, check_kind, check_least

VIEWS = ("image", "description", "both")
VOTES, TEMPERATURE = 5, 1.0
_HOTTEST = 2.0
_MOST_VOTES = 100
# Probabilities lie close to 1, so that the thresholds do. How close depends on the model, so that their tests have
# several starts.
_PROBABILITIES = (0.999, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.0)
_STARTS = (0, 2, 4)
_HEADER = re.compile(r"\[\[ ## label ## \]\]|[\"']label[\"']\s*:|<label>", re.IGNORECASE)


@dataclass(frozen=True)
class Confidence:
    """How a judge's confidence in [0, 1] is found; a confidence that a model merely states is not offered.

    Attributes:
        method: "votes": the judge is asked several times at a temperature, each time as a rollout of its own, and the
            confidence is the share of the answers that state the label, which is the one most of them state (of equally
            frequent ones the first; an answer without a label counts as a vote for none). "logprobs": the probability
            of the label's tokens, from servers that return it. "views": the share of three judgements, from the image,
            the description and both, that agree with the label; it needs no sampling.
        votes: How often the judge is asked, from 2 to 100. The verbalizer is asked once.
        temperature: Of these answers, above 0 and at most 2.

    Raises:
        BlpoError: If the method is unknown, or a number is not a possible one.
    """

    method: Method = "votes"
    votes: int = VOTES
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise BlpoError(
                f"confidence {brief(repr(self.method))} is unknown; choose one of {', '.join(get_args(Method))}",
                option="confidence",
            )
        check_least("votes", self.votes, 2)
        if self.votes > _MOST_VOTES:
            raise BlpoError(f"votes={self.votes} is too large; it must be at most {_MOST_VOTES}", option="votes")
        check_kind("temperature", self.temperature, Real, "number", "temperature=1.0")
        if not 0 < self.temperature <= _HOTTEST:
            raise BlpoError(
                f"temperature={self.temperature!r}: repeated answers need a temperature above 0 and at most "
                f"{_HOTTEST:g}, since at 0 all of them are alike",
                option="temperature",
            )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The confidences at which labels may be accepted, highest first; they depend on the method alone."""
        if self.method == "logprobs":
            return _PROBABILITIES
        n = self.votes if self.method == "votes" else len(VIEWS)
        return tuple(count / n for count in range(n, 0, -1))

    @property
    def starts(self) -> tuple[int, ...]:
        """The places among the thresholds at which a sequence of tests starts; see `blpo_dspy.agreement.guarantee`."""
        return _STARTS if self.method == "logprobs" else (0,)

    def roles(self, evidence: str) -> tuple[str, ...]:
        """Returns the role of each LM call that judging an image takes, for a judge with this evidence."""
        describes = evidence != "image" or self.method == "views"
        judged = {"votes": self.votes, "logprobs": 1, "views": len(VIEWS)}[self.method]
        return ("verbalizer",) * describes + ("judge",) * judged

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON; `from_dict` reads it back."""
        return asdict(self) if self.method == "votes" else {"method": self.method}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Confidence:
        """Returns the confidence that `to_dict` wrote.

        Raises:
            BlpoError: If the data is not of that form.
        """
        check_kind("confidence", data, Mapping, "dictionary", "what Confidence.to_dict returns")
        unknown = sorted(set(data) - {"method", "votes", "temperature"})
        if unknown or "method" not in data:
            raise BlpoError(f"not a method of confidence: {brief(dict(data))}")
        return cls(**data)


def elected(labels: LabelSpace, answers: Sequence[Label | None]) -> tuple[int, float]:
    """Returns the position of the answer that most answers agree with, the first of equals, and their share.

    Of scores, answers agree that are within the tolerance. If no answer states a label the share is 0.
    """
    support = [
        sum(other is not None and labels.right(answer, other) for other in answers) if answer is not None else 0
        for answer in answers
    ]
    best = support.index(max(support))
    return best, support[best] / len(answers)


def share_agreeing(labels: LabelSpace, label: Label | None, others: Sequence[Label | None]) -> float:
    """Returns the share of a label and other judgements that agree with it; 0 if there is no label."""
    if label is None:
        return 0.0
    agreeing = sum(other is not None and labels.right(label, other) for other in others)
    return (1 + agreeing) / (1 + len(others))


def label_probability(tokens: Sequence[Mapping[str, Any]], label: Label | None) -> float | None:
    """Returns the probability of the tokens that state a label; None if the label is not found among them.

    Args:
        tokens: All tokens of an answer, each with its text `token` or its `bytes`, and its `logprob`.
        label: What the answer was read as.
    """
    if label is None:
        return 0.0
    pieces = _texts(tokens)
    text = "".join(pieces)
    headers = list(_HEADER.finditer(text))
    stated = re.compile(rf"(?<![\w.]){re.escape(str(label))}(?!\w)", re.IGNORECASE)
    found = stated.search(text, headers[-1].end() if headers else 0)
    if found is None:
        return None
    total, start = 0.0, 0
    for token, piece in zip(tokens, pieces, strict=True):
        end = start + len(piece)
        # A token without text holds the first bytes of the next character.
        if start < found.end() and (end > found.start() or start == end == found.start()):
            total += float(token["logprob"])
        start = end
    # Rounded: the product of probabilities that were 0.5 and 0.4 is not below a threshold of 0.2.
    return round(math.exp(min(0.0, total)), 9)


def _texts(tokens: Sequence[Mapping[str, Any]]) -> list[str]:
    """The text of each token; a character whose bytes are spread over several belongs to the last one."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [
        str(token["token"]) if token.get("bytes") is None else decoder.decode(bytes(token["bytes"])) for token in tokens
    ]
