"""Reading the label that a judge's answer states: tolerant of its form, never a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from blpo_dspy.data.labels.normalize import Label, as_text, labels_by_name, normal, plain_lines

NUMERAL = r"(?P<number>\+?(?:0|[1-9][0-9]*)|-[1-9][0-9]*)(?:\.0+)?(?!\d| ?(?:[-–—…]|\.{2,}) ?\d)"
"""The pattern of a whole number, its digits as `number`, as an answer writes it; the end of a range is none."""

_MARKS = "[*_`]*"
_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?!\w)")
# "has 2 dogs", "in 2 places": a number of things, no level.
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


class Choices(Protocol):
    """What parsing needs to know of a label space."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels, lowest level first if they are ordered."""

    @property
    def ordered(self) -> bool:
        """Whether the order of the labels means something."""

    @property
    def names(self) -> tuple[str, ...]:
        """The labels as text."""

    @property
    def numeric(self) -> bool:
        """Whether all labels are numbers."""


def out_of(space: Choices) -> str:
    """Returns the pattern of what may follow a level: "/5", "out of 5", "of 5"; one that never matches off a scale."""
    low, high = space.labels[0], space.labels[-1]
    on_scale = space.ordered and isinstance(low, int) and low >= 0
    return rf"{_MARKS} ?(?:/|\(?(?:out )?of) ?{_MARKS}{high}(?:\.0+)?\b\)?" if on_scale else r"(?!)"


def without_scale(labels: tuple[Label, ...], line: str) -> str:
    """Returns a line without words that state the scale: "(on a scale of 1-5)", "(1 to 5)"."""
    span = rf"{labels[0]} ?(?:-|–|—|to) ?{labels[-1]}"
    stated = rf"\(?\b(?:on )?(?:a |the )?(?:scale (?:of |from )?{span}|{span} scale)\b\)?,?|\((?:from )?{span}\)"
    return " ".join(re.sub(stated, " ", line).split())


def named_numbers(space: Choices, text: str) -> set[Label]:
    """Returns the levels that a text names, and numbers between two levels as text ("4.5"), which are no level.

    Beside a level that is named with its scale ("4/5") other numbers name none, unless they are put as an alternative.
    """
    scored = re.compile(rf"({_NUMBER.pattern}){out_of(space)}")
    text = _COUNT.sub(" ", text)
    on_scale = [match[1] for match in scored.finditer(text)]
    rest = scored.sub(" ", text)
    bare = [m[0] for m in _NUMBER.finditer(rest) if not on_scale or _HEDGED.search(rest[: m.start()][-_BEFORE:])]
    values = {float(number) for number in [*on_scale, *bare]}
    low, high = (float(f(int(label) for label in space.labels)) for f in (min, max))
    return {int(value) if value.is_integer() else str(value) for value in values if low <= value <= high}


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
_TELLS = (
    rf"(?:(?:the|this) {_IMAGE} is|(?:it|this|that) is|it['’]s"
    rf"|i(?: would|['’]d| will)? (?:rate|give|score|grade|label|classify|judge|call)(?: it| (?:this|the) {_IMAGE})?)"
    r"(?: (?:clearly|definitely|certainly))?(?: (?:rated|labell?ed|classified))?(?: (?:as|at|with))?"
    rf"(?: an?)?(?: {_SUBJECT} of)? "
)
_LEAD = re.compile(f"^{_OPEN}(?:{_STATES})")
_SENTENCE_LEAD = re.compile(f"^{_OPEN}(?:{_STATES}|{_TELLS})")
# What may stand between a label and the reason given for it.
_REASON = re.compile(r" ?(?:[.](?!\d)|[;:!()\[\]–—。]|- )|,? (?:because|since|due to|as (?:it|the|there))\b|$")
_CLAUSE = re.compile(
    r", (?!(?:or|and|nor|not|never|neither|if|unless|except|rather|maybe|perhaps|possibly)\b)(?=[^\W\d])"
    r"|[,、](?=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])"
)
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
_ENUMERATION = re.compile(r"[.):]")
_TAKEN_BACK = re.compile(
    r"(?:^\W*|[.:;!?(\n–—-]\s*)(?:(?:no|nope|false|wrong|not (?:really|at all))(?=\W*(?:$|\n)|[,.;!])"
    r"|(?:actually|wait|correction|scratch that|on second thoughts?)\b|no (?=(?:it|this|that|i)\b))"
    r"|\bi (?:guess|think|suppose|hope) not\b|^: ?[\d.]+%?\W*$"
)
_DANGLING = re.compile(r"(?:\b(?:not|never|neither|nor|or|and|than|versus|vs)|n['’]t)\W*$")
_SENTENCE_END = re.compile(r"[.:!?…()\[\]{}<>“”\"'`*_。]$")


@dataclass(frozen=True)
class _Statement:
    """A label that a line states: alone, or before a reason, the text of which it keeps."""

    line: int
    label: Label
    reason: str


def parse_answer(space: Choices, answer: object) -> Label | None:
    """Returns the label that an answer states, or None; `LabelSpace.parse` says what is tolerated and what is not."""
    if answer is None:
        return None
    by_name = labels_by_name(space.labels)
    text = as_text(answer)
    exact = by_name.get(normal(text))
    if exact is not None:
        return exact
    lines = plain_lines(text, kept=frozenset("".join(space.names)))
    if lines and lines[0].startswith("{") and _json_pairs(" ".join(lines)) is not None:
        lines = [" ".join(lines)]
    if space.numeric:
        lines = [line for line in (without_scale(space.labels, line) for line in lines) if re.search(r"\w", line)]
    return _stated(space, lines)


def _stated(space: Choices, lines: Sequence[str]) -> Label | None:
    """The label on which all statements of an answer agree; whole sentences count where nothing states one else."""
    for sentences in (False, True):
        alone = [_alone(space, line, sentences) for line in lines]
        found = list(_statements(space, lines, alone, sentences))
        if found:
            on_its_own = not sentences and any(label is not None for label in alone)
            return _agreed(space, lines, found, alone, on_its_own)
    return None


def _statements(
    space: Choices, lines: Sequence[str], alone: Sequence[Label | None], sentences: bool
) -> Iterator[_Statement]:
    on_its_own = any(label is not None for label in alone)
    for i, line in enumerate(lines):
        label, reason = (alone[i], "") if alone[i] is not None else _opening(space, line, sentences)
        enumerated = space.numeric and reason and _ENUMERATION.match(reason) and (i or on_its_own)
        if label is not None and not enumerated:
            yield _Statement(i, label, reason)


def _agreed(
    space: Choices,
    lines: Sequence[str],
    found: Sequence[_Statement],
    alone: Sequence[Label | None],
    on_its_own: bool,
) -> Label | None:
    """The one label of all statements, if it is neither denied nor taken back and, unless on its own, has no rival."""
    for one in found:
        if one.line and alone[one.line - 1] is None and _runs_on(lines[one.line - 1], lines[one.line]):
            return None
    stated, last = {one.label for one in found}, found[-1]
    if len(stated) != 1 or _TAKEN_BACK.search("\n".join([last.reason, *lines[last.line + 1 :]])):
        return None
    return last.label if on_its_own or _mentions(space, "\n".join(lines)) == stated else None


def _runs_on(previous: str, line: str) -> bool:
    """Whether a sentence runs on into a line, so that a label there may be denied or be one of several."""
    closed = _SENTENCE_END.search(previous) or _LEAD.fullmatch(previous + " ") or _LEAD.match(line)
    return not closed or _DANGLING.search(previous) is not None


def _alone(space: Choices, line: str, sentences: bool) -> Label | None:
    """The label that a line consists of, a lead and wrapping aside, or that it gives as a JSON object."""
    pairs = _json_pairs(line)
    if pairs is not None:
        values = [value for key, value in pairs if re.fullmatch(_SUBJECT, key) and isinstance(value, (str, int, float))]
        found = {label for label in (parse_answer(space, value) for value in values) if label is not None}
        return found.pop() if len(found) == 1 else None
    for text in _bodies(line, sentences):
        found = _unambiguous(list(_matches(space, text, f"({_CLOSE})$")))
        if found:
            return found.pop()
    return None


def _opening(space: Choices, line: str, sentences: bool) -> tuple[Label | None, str]:
    """The label that a line opens with before it gives a reason, and the text after the label."""
    if _json_pairs(line) is not None:
        return None, ""
    for text in _bodies(line, sentences):
        fitting = [
            (label, match)
            for label, match in _matches(space, text, "([\"'`*_’”»」』】》]*)")
            if _REASON.match(text, match.end()) or (sentences and _CLAUSE.match(text, match.end()))
        ]
        found = _unambiguous(fitting)
        if found:
            label = found.pop()
            return label, text[max(match.end() for other, match in fitting if other == label) :]
    return None, ""


def _bodies(line: str, sentences: bool) -> Iterator[str]:
    """A line as it is, then without its lead, then without a second one ("Final answer: the label is …")."""
    lead = _SENTENCE_LEAD if sentences else _LEAD
    yield line
    for _ in range(2):
        line = lead.sub("", line, count=1)
        yield line


def _matches(space: Choices, text: str, ending: str) -> Iterator[tuple[Label, re.Match[str]]]:
    """Each label that a text opens with in one of its written forms; "4" is also "4.0", "4/5", "4 of 5", "4 stars"."""
    by_name = labels_by_name(space.labels)
    if space.numeric:
        form = rf"({_OPEN}){NUMERAL}(?:{out_of(space)})?(?: (?:stars?|points?)\b)?{ending}"
        match = re.match(form, text)
        label = by_name.get(match["number"].lstrip("+")) if match else None
        if match and label is not None:
            yield label, match
        return
    for name, label in by_name.items():
        match = re.match(f"({_OPEN})(?:{re.escape(name)}){ending}", text)
        if match:
            yield label, match


def _unambiguous(matches: list[tuple[Label, re.Match[str]]]) -> set[Label]:
    """Of several labels that fit ("A" and "A*" in "**A**"), the one whose wrapping closes as it opens."""
    if len(matches) > 1:
        matches = [(label, match) for label, match in matches if _mirrored(match.group(1), match.groups()[-1])]
    return {label for label, _ in matches} if len(matches) == 1 else set()


def _mirrored(left: str, right: str) -> bool:
    return re.sub(r"[\s.,;:!]", "", right) == "".join(left.split()).translate(_MIRROR)[::-1]


def _mentions(space: Choices, text: str) -> set[Label]:
    """The labels that a text names anywhere; for numbers, every number within the scale that stands for a level."""
    by_name = labels_by_name(space.labels)
    if space.numeric:
        return named_numbers(space, text)
    names = "|".join(_word(name) for name in sorted(by_name, key=len, reverse=True))
    return {by_name[name] for name in re.findall(names, text)}


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
