"""The reasons that a prompt gives for people's labels, and the flaws that people speak of in their own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from blpo_dspy.embedded.reading import vocabulary
from blpo_dspy.embedded.sight import flaws

_PEOPLES_WORDS: Mapping[str, str] = {
    flaws.BLUR: r"smear\w*|fuzz\w+|mush\w+|soft(?:ness)?|(?:not|no|isn't|lacks?) (?:really )?(?:crisp|sharp)\w*"
    r"|wet window|shak[ey]\w*",
    flaws.NOISE: r"sand(?:y|paper)\w*|gritt?\w*|(?:little |tiny )?dots|speck\w*|static|snow(?:y)?|dust\w*",
    flaws.BLOCKING: r"(?:little )?squares|mosaic\w*|bad copy|jagged|stair\w*|break up into steps|low[- ]res\w*"
    r"|from the web|chunky",
    flaws.OVEREXPOSURE: r"glar\w+|bleach\w*|(?:pure|all|just|too|lost in the) white|blinding\w*|burn(?:t|ed)[- ]out"
    r"|too much light",
    flaws.UNDEREXPOSURE: r"gloom\w*|murk\w*|(?:too|way too|nearly|almost) black|(?:more|no|too little) light|dim|dark"
    r"|make anything out",
    flaws.LOW_CONTRAST: r"dull|grey|gray|flat|no punch|lifeless|fog\w*|milky|veil\w*",
    flaws.COLOUR_CAST: r"(?:colou?rs?|hues?|tones?) (?:is|are|look\w*) (?:off|wrong|weird|odd)|purpl\w+|pink\w*"
    r"|greenish|yellowish|blu(?:e)?ish|hues?|wrong colou?rs?|(?:weird|odd|strange) (?:tones?|colou?rs?)",
    flaws.OVERSATURATION: r"neon|candy|scream\w*|gaudy|kitsch\w*|too colou?rful|cartoon\w*|too intense",
}
_SPOKEN = {flaw: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for flaw, words in _PEOPLES_WORDS.items()}
_DENIED = re.compile(r"\b(?:not|isn't|aren't|never|without)(?: \w+){0,2} $", re.IGNORECASE)
_KEY = re.compile(
    r"\b(?:human|people|person|raters?|annotators?|their)\b.*\b(?:reasons?|rationale|why|comments?|explanation)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"\b(?:people|person|humans?|raters?|annotators?|they) (?:wrote|explained|commented|said why)[^\n“\"]{0,40}[“\"]"
    r"([^”\"\n]{1,1000})[”\"]",
    re.IGNORECASE,
)


def named_in(reason: str) -> tuple[str, ...]:
    """Returns the flaws that a reason speaks of, in people's words or in the engine's own."""
    spoken = {
        flaw
        for flaw, words in _SPOKEN.items()
        if any(not _DENIED.search(reason[: match.start()]) for match in words.finditer(reason))
    }
    spoken.update(flaw for flaw, level in vocabulary.read_levels(reason).items() if level)
    return tuple(flaw for flaw in flaws.FLAWS if flaw in spoken)


def taken_out(item: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Returns a JSON object without the reason that it states, and the reason, "" if there is none."""
    kept = {key: value for key, value in item.items() if not _KEY.search(key.replace("_", " "))}
    return kept, " ".join(str(value) for key, value in item.items() if key not in kept)


def cut_out(text: str) -> tuple[str, str]:
    """Returns a text without the reasons that it quotes, and these."""
    return _QUOTED.sub("", text), " ".join(_QUOTED.findall(text))
