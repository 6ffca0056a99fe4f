"""The words the engine knows: flaws, how bad they are, and how much they count; reading them from text, writing them.

This is the one place that says which words the engine understands. A judge's instruction is read for *weights* (five
words from "ignore" to "decisive", or a share such as "at 60 %"), a description for *levels* (slight, moderate, severe).
Text that says neither means nothing to the engine, whatever it asks for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

from blpo_dspy.embedded.sight import flaws

_FLAW_WORDS: Mapping[str, str] = {
    flaws.BLUR: r"blur\w*|out[- ]of[- ]focus|defocus\w*|unsharp\w*|sharpness|soft focus",
    flaws.NOISE: r"nois[ey]\w*|grain(?:y|iness)?|speckl\w+",
    flaws.BLOCKING: r"(?:block(?:ing|y|iness)|compression)(?: art[ei]facts?)?|jpe?g art[ei]facts?|pixelat\w+",
    flaws.OVEREXPOSURE: r"over-?expos\w+|(?:blown|burnt|clipped)[- ](?:out|highlights)|too bright",
    flaws.UNDEREXPOSURE: r"under-?expos\w+|crushed shadows?|too dark|dimness|darkness",
    flaws.LOW_CONTRAST: r"(?:low|poor|weak|flat|faded|reduced|lack of|little)[- ]contrast|haz[ey]\w*|washed[- ]out",
    flaws.COLOUR_CAST: r"(?:colou?r|magenta|green|blue|yellow|red)[- ]casts?|casts?|tint(?:s|ed)?|white balance",
    flaws.OVERSATURATION: r"over-?saturat\w+|(?:too|overly|excessively) (?:saturated|vivid)|garish\w*",
}
_FLAW = re.compile(
    r"\b(?:" + "|".join(f"(?P<f{i}>{_FLAW_WORDS[flaw]})" for i, flaw in enumerate(flaws.FLAWS)) + r")\b", re.IGNORECASE
)

WEIGHT_WORDS: tuple[tuple[float, str], ...] = (
    (
        0.0,
        r"ignor\w+|disregard\w*|forgiv\w+|overlook\w*|irrelevant|harmless|negligible|tolera\w+|acceptable"
        r"|no (?:weight|effect|influence|penalty)|(?:do|does|should|must|need)(?: not|n't)(?: \w+){0,2}? "
        r"(?:count|lower|penali[sz]e|matter|reduce|affect|punish|weigh|hurt)",
    ),
    (
        1.0,
        r"decisive(?:ly)?|fatal|critical(?:ly)?|unacceptable|(?:very|most) (?:strongly|heavily|severely|important)"
        r"|above all|disqualif\w+|dominat\w+",
    ),
    (
        0.25,
        r"slight(?:ly)?|minor|a little|mild(?:ly)?|weak(?:ly)?|low weight|barely|hardly|lightly"
        r"|(?:count|weigh)\w* less",
    ),
    (0.5, r"moderate(?:ly)?|medium|somewhat|noticeabl[ey]|normal(?:ly)?"),
    (
        0.75,
        r"strong(?:ly)?|heavily|serious(?:ly)?|major|significant(?:ly)?|considerabl[ey]|substantial(?:ly)?|important"
        r"|severely|harshly|high weight|a lot|(?:count|weigh)\w* more",
    ),
)
"""Weight in a judge's instruction → the words for it; where two overlap, the earlier row wins."""

MENTIONED = 0.5
"""The weight of a flaw that an instruction names without saying how much it counts."""

UNSEEN = "The picture cannot be seen here"
"""How every answer about a picture that is not in the request begins."""

_SHARE = r"(?:at|counts?|weighs?|weight(?: of)?):? (?P<share>\d{1,3}) ?(?:%|percent)"
_WEIGHT = re.compile(
    rf"\b(?:{_SHARE}|" + "|".join(f"(?P<w{i}>{words})" for i, (_, words) in enumerate(WEIGHT_WORDS)) + r")(?!\w)",
    re.IGNORECASE,
)

DEGREE_WORDS: tuple[tuple[int, str], ...] = (
    (0, r"no|not|without|free of|absent|absence of|none|isn't|aren't|never|lacks? any"),
    (1, r"slight(?:ly)?|faint(?:ly)?|mild(?:ly)?|minor|little|light(?:ly)?|subtle|minimal|barely|a bit"),
    (
        3,
        r"severe(?:ly)?|strong(?:ly)?|heav(?:y|ily)|extreme(?:ly)?|very|massive(?:ly)?|intense|pronounced|serious(?:ly)?",
    ),
    (2, r"moderate(?:ly)?|noticeabl[ey]|clear(?:ly)?|visibl[ey]|medium|considerabl[ey]|some|somewhat"),
)
"""Level of a flaw in a description → the words for it; a flaw that is named without any is moderate."""

_DEGREE = re.compile(
    r"\b(?:" + "|".join(f"(?P<d{i}>{words})" for i, (_, words) in enumerate(DEGREE_WORDS)) + r")\b", re.IGNORECASE
)
_ADJECTIVE = re.compile(
    r"\b(?:slight|mild|minor|weak|faint|moderate|noticeable|visible|strong|severe|heavy|extreme|serious|significant|major)"
    r"\s+$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.;!?\n]{1,600}[.;!?\n]*")
_CLAUSE = re.compile(r",?\s+\b(?:but|while|whereas|yet|however|and (?=(?:count|treat|ignore|do not)))\b", re.IGNORECASE)
_LIST_JOIN = re.compile(r"[\s,/]*(?:and|or|nor|&)?\s*", re.IGNORECASE)

_SAYINGS: tuple[tuple[float, str], ...] = (
    (1.0, "Treat {} as decisive."),
    (0.75, "Count {} strongly."),
    (0.5, "Count {} moderately."),
    (0.25, "Count {} only slightly."),
    (0.0, "Ignore {}."),
)
_SHARE_SAYING = "Count {} at {percent} %."
_NAMES = "(?:" + "|".join(flaws.FLAWS) + ")"
_OWN = re.compile(
    r"[ \n]?(?:"
    + "|".join(
        re.escape(saying)
        .replace(re.escape("{}"), rf"{_NAMES}(?:(?:,| and) {_NAMES})*")
        .replace(re.escape("{percent}"), r"\d{1,3}")
        for saying in (*(saying for _, saying in _SAYINGS), _SHARE_SAYING)
    )
    + ")"
)


CASE = re.compile(
    r"(?:if|when|where)\b(?P<conditions>[^:]{1,400}):\s*(?:the )?(?:label|rating|score) is "
    r"[\"'“]?(?P<label>[\w-][\w -]{0,40})",
    re.IGNORECASE,
)
"""A sentence that says which label a kind of picture gets; see `cases`."""

# The same instructions and reports are read over and over.
_remembered = lru_cache(maxsize=4096)


def _flaw_of(match: re.Match[str]) -> str:
    return flaws.FLAWS[int(str(match.lastgroup)[1:])]


def _weight_of(match: re.Match[str]) -> float:
    if match["share"]:
        return min(1.0, int(match["share"]) / 100)
    return WEIGHT_WORDS[int(str(match.lastgroup)[1:])][0]


def _degree_of(match: re.Match[str]) -> int:
    return DEGREE_WORDS[int(str(match.lastgroup)[1:])][0]


def sentences(text: str) -> list[str]:
    """Returns a text cut after its sentences; very long ones are cut too."""
    return _SENTENCE.findall(text)


def mentioned(text: str) -> tuple[str, ...]:
    """Returns the flaws that a text names, each once, in the order of `FLAWS`."""
    found = {_flaw_of(match) for match in _FLAW.finditer(text)}
    return tuple(flaw for flaw in flaws.FLAWS if flaw in found)


@_remembered
def requested(text: str) -> tuple[str, ...]:
    """Returns the flaws that an instruction asks to report: named, and not denied in the same sentence."""
    wanted: dict[str, bool] = {}
    for sentence in sentences(text):
        denied = re.search(r"\b(?:do not|don't|never|ignore|omit|leave out|skip)\b", sentence, re.IGNORECASE)
        for match in _FLAW.finditer(sentence):
            wanted[_flaw_of(match)] = denied is None or denied.start() > match.start()
    return tuple(flaw for flaw in flaws.FLAWS if wanted.get(flaw))


@_remembered
def read_weights(text: str) -> Mapping[str, float]:
    """Returns the weights that a judge's instruction states; where it states two for a flaw, the later counts."""
    weights: dict[str, float] = {}
    for sentence in sentences(text):
        if CASE.match(sentence.strip()):
            continue
        for clause in _CLAUSE.split(sentence):
            named = list(_FLAW.finditer(clause))
            if named:
                words = _weight_words(clause, named)
                for match in named:
                    nearest = min(words, key=lambda word: _gap(word, match), default=None)
                    weights[_flaw_of(match)] = MENTIONED if nearest is None else _weight_of(nearest)
    return MappingProxyType(weights)


def _weight_words(clause: str, named: list[re.Match[str]]) -> list[re.Match[str]]:
    """The weight words of a clause; "slight blur" says how bad the blur is, not how much it counts."""
    adjectives = {
        found.start()
        for match in named
        if (found := _ADJECTIVE.search(clause, max(0, match.start() - 24), match.start())) is not None
    }
    return [word for word in _WEIGHT.finditer(clause) if word.start() not in adjectives]


def _gap(word: re.Match[str], flaw: re.Match[str]) -> int:
    return max(flaw.start() - word.end(), word.start() - flaw.end())


def write_weights(weights: Mapping[str, float]) -> str:
    """Returns sentences that state the weights, the heaviest first, to the percent; `read_weights` reads them back."""
    percents = {flaw: round(min(1.0, max(0.0, weight)) * 100) for flaw, weight in weights.items()}
    words = {round(weight * 100): saying for weight, saying in _SAYINGS}
    stated = []
    for percent in sorted(set(percents.values()), reverse=True):
        named = listed(flaw for flaw in flaws.FLAWS if percents.get(flaw) == percent)
        stated.append(words.get(percent, _SHARE_SAYING).format(named, percent=percent))
    return " ".join(stated)


def listed(names: Iterable[str]) -> str:
    """Returns names as "a, b and c"."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def without_weights(text: str) -> str:
    """Returns a text without the sentences that `write_weights` writes, and otherwise as it is."""
    return _OWN.sub("", text).strip()


def without_cases(text: str) -> str:
    """Returns a text without its rules for cases, and otherwise as it is."""
    return "".join(sentence for sentence in sentences(text) if not CASE.match(sentence.strip())).strip()


def reweighted(instruction: str, changes: Mapping[str, float]) -> str:
    """Returns the instruction with other weights for some flaws; all that it says otherwise stays word for word."""
    return joined(without_weights(instruction), write_weights({**own_weights(instruction), **changes}))


def own_weights(text: str) -> Mapping[str, float]:
    """Returns the weights that the sentences of `write_weights` in a text state."""
    return read_weights(" ".join(_OWN.findall(text)))


def joined(*texts: str) -> str:
    """Returns texts as one, each ended by a full stop where it has no other end."""
    stated = [text.strip() for text in texts if text.strip()]
    ends = [text if text[-1] in ".!?:;" else f"{text}." for text in stated[:-1]]
    return " ".join([*ends, *stated[-1:]])


@_remembered
def read_levels(text: str) -> Mapping[str, int]:
    """Returns the level of each flaw that a description reports, 0 for one that it says is absent."""
    levels: dict[str, int] = {}
    for sentence in sentences(text):
        named = list(_FLAW.finditer(sentence))
        last: int | None = None
        for i, match in enumerate(named):
            start = named[i - 1].end() if i else 0
            end = named[i + 1].start() if i + 1 < len(named) else len(sentence)
            between = sentence[start : match.start()]
            if i and _LIST_JOIN.fullmatch(between):
                level = last
            else:
                level = _degree(sentence, start, match.start(), match.end(), end)
            last = level
            levels[_flaw_of(match)] = 2 if level is None else level
    return MappingProxyType(levels)


def _degree(sentence: str, start: int, flaw_start: int, flaw_end: int, end: int) -> int | None:
    """The level said of a flaw: by the nearest word before it in its own part of the sentence, else after it."""
    before = re.split(r"[,:()]|\b(?:and|but|with)\b", sentence[start:flaw_start])[-1]
    after = re.split(r"[,)]|\b(?:and|but|with)\b", sentence[flaw_end:end])[0]
    for part, nearest in ((before, -1), (after, 0)):
        if degrees := list(map(_degree_of, _DEGREE.finditer(part))):
            return 0 if 0 in degrees else degrees[nearest]
    return None


def write_levels(levels: Mapping[str, int], absent: Iterable[str], rng: random.Random) -> str:
    """Returns sentences that report flaws with their degree, worst first, and those looked for in vain."""
    reported = []
    for flaw in sorted(levels, key=lambda name: (-levels[name], name)):
        degree = ("", "slight", "moderate", "severe")[levels[flaw]]
        article = "a " if flaw == flaws.COLOUR_CAST else ""
        saying = rng.choice(
            ("There is {0}{1} {2}.", "The picture shows {0}{1} {2}.", "One notices {0}{1} {2}.", "It has {0}{1} {2}.")
        )
        reported.append(saying.format(article, degree, flaw))
    missing = list(absent)
    if missing:
        names = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} or {missing[-1]}"
        reported.append(f"No {names} is visible.")
    return " ".join(reported)


_BAD = re.compile(
    r"\b(?:rejects?(?:ed)?|unsafe|bad|poor|worst|worse|no|not|false|fail(?:s|ed)?|mismatch|fake|unnatural|unacceptable"
    r"|unrealistic|harmful|discard|drop|negative|low|0)\b|^(?:un|in|non|dis|mis)[a-z]{4,}",
    re.IGNORECASE,
)
_GOOD = re.compile(
    r"\b(?:keep|kept|safe|good|great|best|better|excellent|yes|true|pass(?:es|ed)?|match(?:es|ed)?|accept(?:ed|able)?"
    r"|natural|real|realistic|harmless|positive|ok|okay|fine|high|1)\b",
    re.IGNORECASE,
)
T = TypeVar("T", bound=str | int)


def goodness(name: str) -> int:
    """Returns 1 for a label that praises ("keep"), −1 for one that blames ("reject"), 0 where its words say neither."""
    return -1 if _BAD.search(name) else int(bool(_GOOD.search(name)))


def ranked(names: Sequence[T]) -> tuple[T, ...]:
    """Returns nominal labels from worst to best: by their words, else as listed, the last the best."""
    return tuple(sorted(names, key=lambda name: goodness(str(name))))
