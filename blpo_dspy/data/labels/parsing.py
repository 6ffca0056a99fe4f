"""Parsing the label that a judge's answer states; an ambiguous answer has none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, TypeAlias

from blpo_dspy.data.labels.normalize import Label, as_text, labels_by_name, normal, plain_lines
from blpo_dspy.data.labels.scores import ScoreRange

# A number, in closed sets a whole one; the start of a range does not match.
_END = r"(?!\.*\d| ?(?:[-–—…]|\.{2,}) ?\d)"
_WHOLE = rf"(?P<number>\+?(?:0|[1-9][0-9]*)|-[1-9][0-9]*)(?:\.0+)?{_END}"
_DECIMAL = rf"(?P<number>[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?){_END}"

_MARKS = "[*_`]*"
_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?!\w)")
# "has 2 dogs", "in 2 places": a number of things, not a level.
_COUNT = re.compile(
    r"\b(?:has|have|had|having|shows?|showing|contains?|containing|with|in|on|at|by|are|were|because|since|for|of|about"
    r"|only|over|least|most|and|the|these|all) \d+"
    r" (?!(?:is|was|has|does|seems|looks|means|appears|feels|fits|suits)\b)"
    r"(?!(?:stars|points|levels|grades|scores|ratings|labels)\b)"
    r"(?:[a-z]+s|people|men|women|children)\b"
)
_BEFORE = 40
_HEDGED = re.compile(
    r"(?:\b(?:or|not|than|maybe|perhaps|possibly|rather|almost|nearly|to)|[(/–—-]) ?(?:an? )?(?:[a-z]+ )?$"
)


@dataclass(frozen=True)
class Choices:
    """The closed set of labels that an answer chooses from: `labels`, lowest level first if they are `ordered`."""

    labels: tuple[Label, ...]
    ordered: bool
    decimals: ClassVar[bool] = False  # numbers of a closed set are whole

    @cached_property
    def by_name(self) -> Mapping[str, Label]:
        """The labels by their text in normal form."""
        return labels_by_name(self.labels)

    @cached_property
    def numeric(self) -> bool:
        """Whether all labels are numbers."""
        return all(isinstance(label, int) for label in self.labels)

    @property
    def ends(self) -> tuple[Label, Label]:
        """The first and the last label."""
        return self.labels[0], self.labels[-1]

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest label, of whole numbers."""
        numbers = [int(label) for label in self.labels]
        return min(numbers), max(numbers)

    @cached_property
    def characters(self) -> frozenset[str]:
        """The characters of the labels."""
        return frozenset("".join(map(str, self.labels)))

    def named(self, text: str) -> Label | None:
        """Returns the label of this name, None if there is none."""
        return self.by_name.get(text)


Answers: TypeAlias = Choices | ScoreRange
"""What an answer may state: members of a closed set, or numbers of a range."""


def _out_of(space: Answers) -> str:
    """The pattern of what may follow a level: "/5", "out of 5", "of 5"; without a scale it never matches."""
    low, high = space.ends
    on_scale = space.ordered and not isinstance(low, str) and low >= 0
    return rf"{_MARKS} ?(?:/|\(?(?:out )?of) ?{_MARKS}{_pattern(high)}(?:\.0+)?\b\)?" if on_scale else r"(?!)"


def _pattern(label: Label) -> str:
    return re.escape(str(label))


def _without_scale(ends: tuple[Label, Label], line: str) -> str:
    """A line without words that state the scale: "(on a scale of 1-5)", "(1 to 5)"."""
    span = rf"{_pattern(ends[0])} ?(?:-|–|—|to) ?{_pattern(ends[1])}"
    stated = rf"\(?\b(?:on )?(?:a |the )?(?:scale (?:of |from )?{span}|{span} scale)\b\)?,?|\((?:from )?{span}\)"
    return " ".join(re.sub(stated, " ", line).split())


def _named_numbers(space: Answers, text: str) -> set[Label]:
    """The numbers of the scale that a text names, and numbers between two levels as text ("4.5").

    If a level is written with its scale ("4/5"), other numbers count only where they are an alternative ("or 3").
    """
    scored = re.compile(rf"({_NUMBER.pattern}){_out_of(space)}")
    text = _COUNT.sub(" ", text)
    on_scale = [match[1] for match in scored.finditer(text)]
    rest = scored.sub(" ", text)
    bare = [m[0] for m in _NUMBER.finditer(rest) if not on_scale or _HEDGED.search(rest[: m.start()][-_BEFORE:])]
    values = {float(number) for number in [*on_scale, *bare]}
    low, high = space.bounds
    found = {int(value) if value.is_integer() else value for value in values if low <= value <= high}
    return {value if space.named(str(value)) is not None else str(value) for value in found}


_OPEN = r"[\s\"'`*_(\[{<$“‘«「『【《]*"
_CLOSE = r"[\s\"'`*_.,;:!)\]}>$’”»」』】》。、]*"
_MIRROR = str.maketrans("([{<“‘«「『【《", ")]}>”’»」』】》")
_SUBJECT = r"(?:label|rating|answer|score|verdict|judge?ment|classification|category|level|class|result|grade)"
_CJK_SUBJECT = (
    "(?:标签|標籤|答案|评分|評分|分数|分數|得分|等级|等級|结果|結果|结论|結論|判断|判斷|判定|类别|類別|ラベル|答え|回答|評価"
    "|点数|라벨|레이블|답변|답|점수|평가|결과)"
)
# "**Final answer:** …", "the rating is …", '"label": …', "score 4"; a dash before a digit may be a sign, so it is left.
_STATES = (
    rf"(?:(?:final|the|my|your|overall|correct|predicted) )*{_SUBJECT}[\"'`*_]*"
    r"(?: is| would be| ?[:=→]| ?[-=]>| —| [-–](?= \D))*[*_]*(?: |(?<=[:=>→]))"
    rf"|(?:最终|最終)?的?{_CJK_SUBJECT}[\"'`*_]*(?: ?[:=→]|是|为|為|は)[*_]* ?"
)
# "The image is …", "I would rate this image a …".
_IMAGE = "(?:image|picture|photo|photograph)"
_SENTENCE = (
    rf"(?:(?:the|this) {_IMAGE} is|(?:it|this|that) is|it['’]s"
    rf"|i(?: would|['’]d| will)? (?:rate|give|score|grade|label|classify|judge|call)(?: it| (?:this|the) {_IMAGE})?)"
    r"(?: (?:clearly|definitely|certainly))?(?: (?:rated|labell?ed|classified))?(?: (?:as|at|with))?"
    rf"(?: an?)?(?: {_SUBJECT} of)? "
)
_LEAD = re.compile(f"^{_OPEN}(?:{_STATES})")
_SENTENCE_LEAD = re.compile(f"^{_OPEN}(?:{_STATES}|{_SENTENCE})")
# What may stand between a label and the reason given for it.
_REASON = re.compile(r" ?(?:[.](?!\d)|[;:!()\[\]–—。]|- )|,? (?:because|since|due to|as (?:it|the|there))\b|$")
_CLAUSE = re.compile(
    r", (?!(?:or|and|nor|not|never|neither|if|unless|except|rather|maybe|perhaps|possibly)\b)(?=[^\W\d])"
    r"|[,、](?=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])"
)
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
_ENUMERATION = re.compile(r"[.):]")
_RETRACTED = re.compile(
    r"(?:^\W*|[.:;!?(\n–—-]\s*)(?:(?:no|nope|false|wrong|not (?:really|at all))(?=\W*(?:$|\n)|[,.;!])"
    r"|(?:actually|wait|correction|scratch that|on second thoughts?)\b|no (?=(?:it|this|that|i)\b))"
    r"|\bi (?:guess|think|suppose|hope) not\b|^: ?[\d.]+%?\W*$"
)
_DANGLING = re.compile(r"(?:\b(?:not|never|neither|nor|or|and|than|versus|vs)|n['’]t)\W*$")
_SENTENCE_END = re.compile(r"[.:!?…()\[\]{}<>“”\"'`*_。]$")


class _Statement(NamedTuple):
    """A label that a line states, and the reason that follows it on the line; None if the label stands alone."""

    label: Label
    reason: str | None = None


def parse_answer(space: Answers, answer: object) -> Label | None:
    """Returns the label that an answer states, or None; `LabelSpace.parse` documents the accepted forms."""
    if answer is None:
        return None
    text = as_text(answer)
    exact = space.named(normal(text))
    if exact is not None:
        return exact
    lines = plain_lines(text, kept=space.characters)
    if lines and lines[0].startswith("{") and _json_pairs(" ".join(lines)) is not None:
        lines = [" ".join(lines)]
    if space.numeric:
        lines = [line for line in (_without_scale(space.ends, line) for line in lines) if re.search(r"\w", line)]
    return _stated(space, lines)


def _stated(space: Answers, lines: Sequence[str]) -> Label | None:
    """The label on which all statements of an answer agree; whole sentences count only if no line states a label."""
    for sentences in (False, True):
        found = {i: one for i, line in enumerate(lines) if (one := _statement(space, line, sentences)) is not None}
        own_line = any(one.reason is None for one in found.values())
        if space.numeric:  # "1. The image is sharp." is an item of a list
            listed = [i for i, one in found.items() if _ENUMERATION.match(one.reason or "") and (i or own_line)]
            found = {i: one for i, one in found.items() if i not in listed}
        if found:
            return _agreed(space, lines, found, own_line and not sentences)
    return None


def _agreed(space: Answers, lines: Sequence[str], found: Mapping[int, _Statement], own_line: bool) -> Label | None:
    """The label of all statements, unless it is denied, retracted, or (without a line of its own) has a rival.

    Statements are by the number of their line; `own_line` says whether a label has a line of its own.
    """
    for i in found:
        after_label = i - 1 in found and found[i - 1].reason is None
        if i and not after_label and _runs_on(lines[i - 1], lines[i]):
            return None
    stated = {one.label for one in found.values()}
    last = max(found)
    if len(stated) != 1 or _RETRACTED.search("\n".join([found[last].reason or "", *lines[last + 1 :]])):
        return None
    return found[last].label if own_line or _mentions(space, "\n".join(lines)) == stated else None


def _runs_on(previous: str, line: str) -> bool:
    """Whether a sentence runs on into a line, so that a label there may be denied or be one of several."""
    closed = _SENTENCE_END.search(previous) or _LEAD.fullmatch(previous + " ") or _LEAD.match(line)
    return not closed or _DANGLING.search(previous) is not None


def _statement(space: Answers, line: str, sentences: bool) -> _Statement | None:
    """The label that a line consists of, or opens with before a reason, or gives as a JSON object."""
    pairs = _json_pairs(line)
    if pairs is not None:
        values = [value for key, value in pairs if re.fullmatch(_SUBJECT, key) and isinstance(value, (str, int, float))]
        labels = {label for label in (parse_answer(space, value) for value in values) if label is not None}
        return _Statement(labels.pop()) if len(labels) == 1 else None
    lead = _SENTENCE_LEAD if sentences else _LEAD
    once = lead.sub("", line, count=1)
    texts = (line, once, lead.sub("", once, count=1))  # "Final answer: the label is …" has two leads
    for text in texts:
        alone = _unambiguous(_matches(space, text, f"({_CLOSE})$"))
        if alone is not None:
            return _Statement(alone[0])
    for text in texts:
        opening = _unambiguous(
            (label, match)
            for label, match in _matches(space, text, "([\"'`*_’”»」』】》]*)")
            if _REASON.match(text, match.end()) or (sentences and _CLAUSE.match(text, match.end()))
        )
        if opening is not None:
            return _Statement(opening[0], text[opening[1].end() :])
    return None


def _matches(space: Answers, text: str, ending: str) -> Iterator[tuple[Label, re.Match[str]]]:
    """Each label that a text opens with in one of its written forms; "4" is also "4.0", "4/5", "4 of 5", "4 stars"."""
    if space.numeric:
        numeral = _DECIMAL if space.decimals else _WHOLE
        form = rf"({_OPEN}){numeral}(?:{_out_of(space)})?(?: (?:stars?|points?)\b)?{ending}"
        match = re.match(form, text)
        label = space.named(match["number"].lstrip("+")) if match else None
        if match and label is not None:
            yield label, match
        return
    for name, label in space.by_name.items():
        match = re.match(f"({_OPEN})(?:{re.escape(name)}){ending}", text)
        if match:
            yield label, match


def _unambiguous(matches: Iterable[tuple[Label, re.Match[str]]]) -> tuple[Label, re.Match[str]] | None:
    """The only match, or of several ("A" and "A*" in "**A**") the only one whose wrapping closes as it opens."""
    found = list(matches)
    if len(found) > 1:
        found = [(label, match) for label, match in found if _mirrored(match.group(1), match.groups()[-1])]
    return found[0] if len(found) == 1 else None


def _mirrored(left: str, right: str) -> bool:
    return re.sub(r"[\s.,;:!]", "", right) == "".join(left.split()).translate(_MIRROR)[::-1]


def _mentions(space: Answers, text: str) -> set[Label]:
    """The labels that a text names anywhere; for numbers, every number within the scale that stands for a level."""
    if space.numeric:
        return _named_numbers(space, text)
    names = "|".join(_word(name) for name in sorted(space.by_name, key=len, reverse=True))
    return {space.by_name[name] for name in re.findall(names, text)}


def _word(name: str) -> str:
    """The pattern of a name as a word of its own; scripts without spaces between words have no such edges."""
    left = "" if _UNSPACED.match(name[0]) else r"(?<!\w)"
    right = "" if _UNSPACED.match(name[-1]) else r"(?!\w)"
    return f"{left}{re.escape(name)}{right}"


def _json_pairs(text: str) -> list[tuple[str, object]] | None:
    """The pairs of a JSON object (a key may be there twice), or None if the text is not one."""
    if not text.startswith("{"):
        return None
    try:
        pairs: list[tuple[str, object]] = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    return pairs
