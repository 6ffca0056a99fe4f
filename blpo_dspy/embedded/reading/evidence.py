"""What a prompt shows of a judge's mistakes: (evidence, human label, judge's label), in whatever form it is written.

Nothing here knows who wrote the prompt. It reads JSON objects, lines such as "Human label: 2", and sentences such as
"people said 2, judge said 4" or "judge 2 too high"; the evidence is text that names flaws, or an image in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from blpo_dspy.embedded.reading import reasons, vocabulary
from blpo_dspy.embedded.reading.pictures import (
    beyond_original,
    difference,
    has_original,
    named_images_in,
    pair_labels,
    place_in_pair,
    sections,
)
from blpo_dspy.embedded.reading.request import Reading, without_images
from blpo_dspy.embedded.reading.vocabulary import ranked
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.senses import Senses, present
from blpo_dspy.embedded.sight.settings import Setting, read_setting

_HUMAN_KEY = r"human|people|gold|true|truth|expected|correct|target|reference|annotat\w+|raters?"
_JUDGE_KEY = r"judge\w*|model\w*|predict\w+|output|answer\w*|response|system|assistant"
_THING = r"(?:['’]s?)?(?: |_)?(?:label|labels|rating|score|answer|verdict|judge?ment|output|value|prediction|response)?"
_VALUE = r"[\"'`*]*\s*(-?\d{1,6}(?:\.\d{1,6})?|[A-Za-z][\w-]{0,40}(?: [a-z]{1,40})?)"
_SAID = (
    r"(?:\s*(?:said|says|gave|give|chose|(?:labell?ed|rated)(?: it| this)?|answered|predicted|is|was|as)\b:?"
    r"|[\"'`*]*\s*[:=])\s*"
)
_HUMAN = re.compile(
    rf"\b(?:(?:{_HUMAN_KEY}){_THING}{_SAID}|ground[ _-]truth(?: answer| label)?{_SAID}|should (?:be|have been)\s+"
    rf"|(?<![\w ])label[\"'`*]*\s*[:=]\s*){_VALUE}",
    re.IGNORECASE,
)
_JUDGE = re.compile(rf"\b(?:the )?(?:(?:{_JUDGE_KEY}){_THING}{_SAID}|but (?:got|said)\s+){_VALUE}", re.IGNORECASE)
_OFF = re.compile(
    r"\b(\d{1,4}(?:\.\d{1,9})?)(?: levels?| points?| steps?)? too (high|low)|too (high|low)", re.IGNORECASE
)
_RECORD = re.compile(
    r"^[ \t]*(?:#+ |\*\*)?(?:example|error|case|item|mistake|sample|image|record|##)\s?#?\d{1,4}\b.*$"
    r"|^[ \t]*-{3,}[ \t]*$|^[ \t]*(?=\[?\d{1,4}[\].)] )",
    re.IGNORECASE | re.MULTILINE,
)
_DEEPEST = 12
_SPOKEN_OF = 2  # the level of a flaw that only people speak of
_MOST_OPENINGS = 500
_DIRECTION = re.compile(r"\b(?:count|weigh|matter)s? (?:much )?(more|less)\b", re.IGNORECASE)
_REMARK = re.compile(r"feedback|gradient|criti|reason|advice|problem|analysis", re.IGNORECASE)
_OWN_TEXT = re.compile(r"instruction|prompt|code|label_?space|^labels$|definition|feedback$", re.IGNORECASE)


@dataclass(frozen=True)
class Mistake:
    """One judgement as a prompt reports it.

    Attributes:
        levels: The flaws seen or described; of a pair what the first picture has more of than the second, below 0 less.
        too_high: By how many levels, or points of scores, the judge is above people; of a pair 1 where it favours the
            first picture more than they do, −1 where it favours the second.
        setting: What else is described.
        label: People's label in the prompt's words, None where it says only how far the judge is off.
        weighed: The flaws that people's reason speaks of.
    """

    levels: dict[str, int]
    too_high: float
    setting: Setting = field(default_factory=dict)
    label: str | None = None
    pair: bool = False
    weighed: tuple[str, ...] = ()

    @property
    def blamed(self) -> dict[str, int]:
        """The flaws that it may be laid to: without a reason all that are seen.

        Where the judge is too high, people weighed what they speak of; where it is too low, they forgave the others.
        """
        low = self.too_high < 0
        laid = {flaw: level for flaw, level in self.levels.items() if (flaw in self.weighed) != low}
        return laid if self.weighed and laid else self.levels


def mistakes(reading: Reading, senses: Senses) -> list[Mistake]:
    """Returns the judgements that a prompt reports, those the judge got right included (0 levels too high)."""
    found: list[Mistake] = []
    for text in _material(reading):
        found += _from_text(text, reading, senses)
    return found


def directions(reading: Reading) -> dict[str, float]:
    """Returns the flaws of which a prompt says that they should count more (> 0) or less (< 0), and how often."""
    votes: dict[str, float] = {}
    for text in _remarks(reading):
        for sentence in vocabulary.sentences(text):
            match = _DIRECTION.search(sentence)
            if match:
                for flaw in vocabulary.mentioned(sentence):
                    votes[flaw] = votes.get(flaw, 0.0) + (1.0 if match[1].lower() == "more" else -1.0)
    return votes


def _remarks(reading: Reading) -> list[str]:
    """The texts that comment on the judge: inputs and keys of JSON objects that are named so, never descriptions."""
    if not reading.inputs:
        return [reading.text]
    remarks = [text for name, text in reading.inputs.items() if _REMARK.search(name)]
    for text in reading.inputs.values():
        remarks += [
            _flat(v) for x in objects(text) for key, v in reasons.taken_out(x)[0].items() if _REMARK.search(key)
        ]
    return remarks


def _material(reading: Reading) -> list[str]:
    """The texts that may report judgements: not those that hold instructions."""
    if not reading.inputs:
        return [reading.text]
    return [text for name, text in reading.inputs.items() if not _OWN_TEXT.search(name) or _has_objects(text)]


def _has_objects(text: str) -> bool:
    return any(_human_and_judge(x) for x in objects(text))


def objects(text: str) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects of a text, those of a list one by one."""
    decoder, position, opening = json.JSONDecoder(strict=False), 0, re.compile(r"\[\s{0,9}\{|\{\s{0,9}\"")
    for _ in range(_MOST_OPENINGS):
        match = opening.search(text, position)
        if match is None:
            return
        try:
            value, position = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            position = match.end()
            continue
        yield from (x for x in (value if isinstance(value, list) else [value]) if isinstance(x, dict))


def _from_text(text: str, reading: Reading, senses: Senses) -> list[Mistake]:
    found = [
        _mistake(_flat(x), *pair, reason, reading=reading, senses=senses)
        for x, reason in map(reasons.taken_out, objects(text))
        if (pair := _human_and_judge(x)) is not None
    ]
    if not found:
        for record, reason in map(reasons.cut_out, _records(_reports_of(text))):
            human = _HUMAN.search(record)
            judged = [m for m in _JUDGE.finditer(record) if human is None or m.end() != human.end()]
            off = _OFF.search(record)
            if human or off:
                said = (human[1] if human else None, judged[-1][1] if judged else None)
                found.append(_mistake(record, *said, reason, reading=reading, senses=senses))
    return [mistake for mistake in found if mistake is not None]


def _reports_of(text: str) -> str:
    """A text without what is said about weights: neither an instruction nor advice is evidence."""
    kept = [x for x in vocabulary.sentences(vocabulary.without_weights(text)) if not _DIRECTION.search(x)]
    return "".join(kept)


def _records(text: str) -> list[str]:
    """A text cut where a new example begins: at headings, else before the text that leads to each human label."""
    heads = [match.start() for match in _RECORD.finditer(text)]
    if len(heads) >= 2:
        pieces = [text[a:b] for a, b in zip(heads, [*heads[1:], len(text)], strict=True)]
        if sum(bool(_HUMAN.search(piece) or _OFF.search(piece)) for piece in pieces) >= 2:
            return pieces
    found = []
    for record in _gathered([piece for piece in re.split(r"\n\s*\n", text) if piece.strip()], ()):
        several = len(list(_HUMAN.finditer(record))) > 1  # one a line, usually
        found += _gathered(record.splitlines(), ("\ue000",)) if several else [record]
    return found


def _gathered(pieces: Sequence[str], others: Sequence[str]) -> list[str]:
    """Pieces put together, up to one with a further human label, or with others of the signs of a new record."""
    records, current = [], ""
    for piece in pieces:
        if _HUMAN.search(current) and (_HUMAN.search(piece) or any(sign in piece for sign in others)):
            records.append(current)
            current = ""
        current += "\n" + piece
    return [*records, current]


def _flat(value: Any, depth: int = 0) -> str:
    """The text of a JSON value, as deep as a report may be."""
    if depth == _DEEPEST:
        return ""
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_flat(x, depth + 1)}" for key, x in value.items())
    if isinstance(value, list):
        return "\n".join(_flat(x, depth + 1) for x in value)
    return str(value)


def _human_and_judge(item: dict[str, Any]) -> tuple[str | None, str | None] | None:
    """The labels of a JSON object by its keys, else by what its feedback says; None if it reports no judgement."""
    leaves = dict(_leaves(item))

    def named(pattern: str) -> str | None:
        return next((v for k, v in leaves.items() if re.search(pattern, k.replace("_", " "), re.I)), None)

    human = named(rf"\b(?:{_HUMAN_KEY})")
    judged = named(rf"\b(?:{_JUDGE_KEY})\b.*\b(?:label|rating|score)") or next(
        (v for k, v in leaves.items() if re.search(r"(?:predict|judge|output|label)", k, re.I) and v != human), None
    )
    text = _flat(item)
    if human is None and (match := _HUMAN.search(text)):
        human = match[1]
    if human is None and not _OFF.search(text):
        return None
    return human, judged


def _leaves(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and depth < _DEEPEST:
        for key, x in value.items():
            yield from _leaves(x, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, (str, int, float)) and len(str(value)) <= 40:
        yield path, str(value)


def _mistake(
    text: str, human: str | None, judged: str | None, reason: str, *, reading: Reading, senses: Senses
) -> Mistake | None:
    several = _of_several(text, reading, senses)
    if several and not has_original(several):
        said = (human, judged) if human and judged else _both_labels(text)
        if said is not None and (pair := _labels_of_pair(said, reading)):
            return _mistake_on_pair(difference(several), said, pair)
    too_high = _difference(human, judged, text)
    if too_high is None:
        return None
    if several:
        return Mistake(beyond_original(several), too_high, label=None if human is None else human.strip())
    levels = present(vocabulary.read_levels(_reports_of(without_images(text))))
    setting, images = read_setting(text), reading.images_of(text)
    if images:
        setting = senses.perception(images[0]).setting
        levels = {**_inspected(images[0], reading, senses), **levels}
    weighed = reasons.named_in(reason)
    levels = {**dict.fromkeys(weighed, _SPOKEN_OF), **levels}
    return Mistake(levels, too_high, setting, None if human is None else human.strip(), weighed=weighed)


def _inspected(image: bytes, reading: Reading, senses: Senses) -> dict[str, int]:
    rng = senses.rng(reading.seed, "inspect", image, str(reading.images_in_all))
    attention, noise = senses.traits.span / max(1, len(flaws.FLAWS)), senses.traits.describing_noise
    return present(senses.look(image, rng, attention=attention, noise=noise, crowd=reading.images_in_all))


def _of_several(text: str, reading: Reading, senses: Senses) -> dict[str, dict[str, int]]:
    """The levels of each of several named pictures that a judgement is about; none where it is about one."""
    images, reports = named_images_in(text, reading), sections(without_images(text))
    found = {name: present(vocabulary.read_levels(_reports_of(report))) for name, report in reports.items()}
    for name, image in images.items():
        found[name] = {**_inspected(image, reading, senses), **found.get(name, {})}
    return found


def _mistake_on_pair(levels: dict[str, int], said: tuple[str, str], pair: tuple[str, ...]) -> Mistake:
    """A judgement on which of two pictures is better."""
    people, judge = (label.strip() for label in said)
    off = place_in_pair(judge, pair) - place_in_pair(people, pair)
    return Mistake(levels, float((off > 0) - (off < 0)), label=people, pair=True)


def _labels_of_pair(said: tuple[str, str], reading: Reading) -> tuple[str, ...]:
    """The labels for the first picture, the second and neither; () where two labels are not about a pair.

    Where the prompt does not explain them, two that neither count nor praise are taken in the order of the alphabet.
    """
    stated = pair_labels(reading.prompt)
    if stated or any(vocabulary.goodness(label) or any(map(str.isdigit, label)) for label in said):
        return stated
    return tuple(sorted({label.strip() for label in said}, key=str.casefold))


def _both_labels(text: str) -> tuple[str, str] | None:
    human, judged = _HUMAN.search(text), _JUDGE.search(text)
    return (human[1], judged[1]) if human and judged else None


def _difference(human: str | None, judged: str | None, text: str) -> float | None:
    """How many levels the judge is above people."""
    try:
        return float(str(judged).strip()) - float(str(human).strip())
    except ValueError:
        pass
    match = _OFF.search(text)
    if match:
        return float(match[1] or 1) * (1 if (match[2] or match[3]).lower() == "high" else -1)
    if human is None or judged is None:
        return None
    names: Sequence[str] = [human.strip().lower(), judged.strip().lower()]
    if names[0] == names[1]:
        return 0.0
    return 1.0 if ranked(list(names))[0] == names[0] else -1.0
