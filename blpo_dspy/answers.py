"""Reading the label that a judge's answer states: tolerant of its form, never a guess."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blpo_dspy.labels import Label, LabelSpace

_OPEN = r"[\s\"'`*_(\[{<$“‘«]*"
_CLOSE = r"[\s\"'`*_.,;:!)\]}>$’”»]*"
_MIRROR = str.maketrans("([{<“‘«", ")]}>”’»")
_SUBJECT = r"(?:label|rating|answer|score|verdict|judge?ment|classification|category|level|class|result|grade)"
# "**Final answer:** …", "the rating is …", '"label": …', "score 4"; a dash before a digit may be a sign, so it is left.
_LEAD = re.compile(
    rf"^{_OPEN}(?:(?:final|the|my|your|overall|correct|predicted) )*{_SUBJECT}[\"'`*_]*"
    r"(?: is| would be| ?[:=→]| ?[-=]>| —| [-–](?= \D))*[*_]*(?: |(?<=[:=>→]))"
)
# What may stand between a label and the reason given for it.
_REASON = re.compile(r" ?(?:[.](?!\d)|[;:!()\[\]–—]|- )|,? (?:because|since|due to|as (?:it|the|there))\b|$")
_ENUMERATION = re.compile(r"[.):]")
_TAKEN_BACK = re.compile(
    r"(?:^\W*|[.:;!?(\n–—-]\s*)(?:(?:no|nope|false|wrong|not (?:really|at all))(?=\W*(?:$|\n)|[,.;!])"
    r"|(?:actually|wait|correction|scratch that|on second thoughts?)\b)|^: ?[\d.]+%?\W*$"
)
_DANGLING = re.compile(r"(?:\b(?:not|never|neither|nor|or|and|than|versus|vs)|n['’]t)\W*$")
_SENTENCE_END = re.compile(r"[.:!?…()\[\]{}<>“”\"'`*_]$")
# Thoughts, closed, opened by the chat template, or cut off, are not the answer.
_THINKING = re.compile(
    r"<(think|thinking|reasoning)>(?:(?!<\1>).)*?</\1>|\A(?:(?!<think).)*</think(?:ing)?>|<think(?:ing)?>.*\Z",
    re.DOTALL | re.IGNORECASE,
)
_MARKUP = re.compile(r"^\s*```\w*\s*$|</?\w+>|\\(?:boxed|text|textbf)\b|^\s*(?:[#>•]+|[-*]\s+(?!\d))", re.MULTILINE)


def normal(text: str) -> str:
    """Returns a text as labels are compared: without differences of case, white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", text).replace("−", "-").casefold().split())


def as_text(value: object) -> str:
    """Returns a cell or an answer as text; 4.0 is "4"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def parse_answer(space: LabelSpace, answer: object) -> Label | None:
    """Returns the label that an answer states, or None; `LabelSpace.parse` says what is tolerated and what is not."""
    if answer is None:
        return None
    text = as_text(answer)
    exact = [label for label in space.labels if normal(str(label)) == normal(text)]
    if exact:
        return exact[0]
    text = _MARKUP.sub("", _THINKING.sub("", text))
    lines = [line for line in map(normal, text.splitlines()) if re.search(r"\w", line)]
    if lines and lines[0].startswith("{") and _json_pairs(normal(text)) is not None:
        lines = [normal(text)]
    return _stated(space, lines)


def _stated(space: LabelSpace, lines: list[str]) -> Label | None:
    """The label on which all statements of an answer agree: labels on a line of their own, or before a reason."""
    alone = [_alone(space, line) for line in lines]
    on_its_own = any(label is not None for label in alone)
    stated: set[Label] = set()
    last, after = 0, ""
    for i, line in enumerate(lines):
        label, reason = (alone[i], "") if alone[i] is not None else _opening(space, line)
        enumerated = space.numeric and reason and _ENUMERATION.match(reason) and (i or on_its_own)
        if label is None or enumerated:
            continue
        if i and alone[i - 1] is None and _runs_on(lines[i - 1], line):
            return None
        stated.add(label)
        last, after = i, reason
    if len(stated) != 1 or _TAKEN_BACK.search("\n".join([after, *lines[last + 1 :]])):
        return None
    return stated.pop() if on_its_own or _mentions(space, "\n".join(lines)) == stated else None


def _runs_on(previous: str, line: str) -> bool:
    """Whether a sentence runs on into a line, so that a label there may be denied or be one of several."""
    closed = _SENTENCE_END.search(previous) or _LEAD.fullmatch(previous + " ") or _LEAD.match(line)
    return not closed or _DANGLING.search(previous) is not None


def _alone(space: LabelSpace, line: str) -> Label | None:
    """The label that a line consists of, a lead and wrapping aside, or that it gives as a JSON object."""
    pairs = _json_pairs(line)
    if pairs is not None:
        values = [value for key, value in pairs if re.fullmatch(_SUBJECT, key) and isinstance(value, (str, int, float))]
        found = {label for label in (parse_answer(space, value) for value in values) if label is not None}
        return found.pop() if len(found) == 1 else None
    for text in _bodies(line):
        matches = ((label, re.fullmatch(f"({_OPEN})(?:{form})({_CLOSE})", text)) for label, form in _forms(space))
        found = _unambiguous([(label, match) for label, match in matches if match])
        if found:
            return found.pop()
    return None


def _opening(space: LabelSpace, line: str) -> tuple[Label | None, str]:
    """The label that a line opens with before it gives a reason, and the text after the label."""
    if _json_pairs(line) is not None:
        return None, ""
    for text in _bodies(line):
        matches = ((label, re.match(rf"({_OPEN})(?:{form})([\"'`*_’”»]*)", text)) for label, form in _forms(space))
        fitting = [(label, match) for label, match in matches if match and _REASON.match(text, match.end())]
        found = _unambiguous(fitting)
        if found:
            label = found.pop()
            return label, text[max(match.end() for other, match in fitting if other == label) :]
    return None, ""


def _bodies(line: str) -> Iterator[str]:
    """A line as it is, then without its lead, then without a second one ("Final answer: the label is …")."""
    yield line
    for _ in range(2):
        line = _LEAD.sub("", line, count=1)
        yield line


def _forms(space: LabelSpace) -> Iterator[tuple[Label, str]]:
    """Each label with the pattern of its written forms: "4" is also "4.0", "4/5", "4 out of 5" and "4 stars"."""
    for label, name in zip(space.labels, space.names, strict=True):
        if not space.numeric:
            yield label, re.escape(normal(name))
            continue
        sign = "" if name.startswith("-") else r"\+?"
        yield label, rf"{sign}{name}(?:\.0+)?(?!\d| ?[-–—] ?\d)(?:{_out_of(space)})?(?: (?:stars?|points?)\b)?"


def _out_of(space: LabelSpace) -> str:
    low, high = space.labels[0], space.labels[-1]
    on_scale = space.ordered and isinstance(low, int) and low >= 0
    return rf" ?(?:/|\(?out of) ?{high}(?:\.0+)?\b\)?" if on_scale else r"(?!)"


def _unambiguous(matches: list[tuple[Label, re.Match[str]]]) -> set[Label]:
    """Of several labels that fit ("A" and "A*" in "**A**"), the one whose wrapping closes as it opens."""
    if len(matches) > 1:
        matches = [(label, match) for label, match in matches if _mirrored(match.group(1), match.group(2))]
    return {label for label, _ in matches} if len(matches) == 1 else set()


def _mirrored(left: str, right: str) -> bool:
    return re.sub(r"[\s.,;:!]", "", right) == "".join(left.split()).translate(_MIRROR)[::-1]


def _mentions(space: LabelSpace, text: str) -> set[Label]:
    """The labels that a text names anywhere; for numbers, every number within the scale."""
    if space.numeric:
        numbers = re.findall(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?!\w)", re.sub(_out_of(space), " ", text))
        values = {float(number) for number in numbers}
        low, high = (float(f(int(label) for label in space.labels)) for f in (min, max))
        # A number between two levels is named too: "4 (rather 4.5)" is no clear 4.
        return {int(value) if value.is_integer() else str(value) for value in values if low <= value <= high}
    by_name = {normal(name): label for label, name in zip(space.labels, space.names, strict=True)}
    names = "|".join(re.escape(name) for name in sorted(by_name, key=len, reverse=True))
    return {by_name[name] for name in re.findall(rf"(?<!\w)(?:{names})(?!\w)", text)}


def _json_pairs(text: str) -> list[tuple[str, object]] | None:
    """The pairs of a JSON object (a key may be there twice), or None if the text is not one."""
    if not text.startswith("{"):
        return None
    try:
        pairs: list[tuple[str, object]] = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    return pairs
