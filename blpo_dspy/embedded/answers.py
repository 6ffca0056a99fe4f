"""From a reading to an answer: which role each requested field calls for, and the form in which the answer is given."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

from blpo_dspy.embedded import describing, judging, revising
from blpo_dspy.embedded.reading import vocabulary
from blpo_dspy.embedded.reading.evidence import mistakes
from blpo_dspy.embedded.reading.instructions import current_instruction
from blpo_dspy.embedded.reading.request import OutputField, Reading, without_images
from blpo_dspy.embedded.sight.senses import Senses

_PREFIX = re.compile(r"prefix", re.IGNORECASE)
_INSTRUCTION = re.compile(
    r"instruction|prompt|variable$|(?:\b|_)rules?$|variation|paraphrase|reworded|rewritten", re.IGNORECASE
)
_ADVICE = re.compile(r"advice", re.IGNORECASE)
_VERDICT = re.compile(
    r"label|rating|score|verdict|judge?ment|decision|grade|class|categor|quality|answer|stars|level|^safe|preference",
    re.IGNORECASE,
)
_REASONING = re.compile(r"reasoning|rationale|thought|explanation", re.IGNORECASE)
_CRITIQUE = re.compile(
    r"feedback|gradient|criti|reason|discussion|analysis|diagnos|problem|mistake|error", re.IGNORECASE
)
_DESCRIPTION = re.compile(r"descri|caption|report|observ|verbal", re.IGNORECASE)
_ABOUT_PROGRAM = re.compile(r"program|module|code|dataset", re.IGNORECASE)

_ASKS_INSTRUCTION = re.compile(
    r"\b(?:improved?|new|better|different|revised?|rewrit\w+|variation|updated?|optimi[sz]ed?)\b[^.\n]{0,60}"
    r"\b(?:prompts?|instructions?|variable|text)\b",
    re.IGNORECASE,
)
_ASKS_CRITIQUE = re.compile(
    r"\b(?:reasons?|feedback|critici[sz]\w*|critiques?|gradients?|what went wrong)\b", re.IGNORECASE
)
_ASKS_VERDICT = re.compile(
    r"\b(?:rate|rating|judge|label|score|classify|decide|grade|assess|evaluate|keep|safe|verdict)\b", re.IGNORECASE
)
_COUNT = re.compile(
    r"\b(\d{1,3}|one|two|three|four|five|six|eight) +(?:[A-Za-z]+ +){0,2}?"
    r"(?:reasons|prompts|instructions|variations|versions)\b",
    re.IGNORECASE,
)
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "eight": 8}
_MOST = 16
_NUMBER_NAME = re.compile(r"number|count|how_many", re.IGNORECASE)
_WHOLE = re.compile(r"\d{1,3}")
_TAGGED = re.compile(
    r"(?:wrap|enclos|between|inside|within|tags?|surround|send|put|starts? with|begin)[^\n]{0,160}?<([A-Za-z_]\w*)>",
    re.IGNORECASE,
)
_KNOWN_TAG = re.compile(r"<(INS|START|IMPROVED_VARIABLE|NEW_INSTRUCTION|PROMPT|INSTRUCTION)>")
_GENERAL = {
    "tip": "Keep it simple.",
    "summary": "The examples are pictures with the labels that people gave them.",
    "program_description": "The program looks at a picture and gives it a label.",
    "module_description": "This module takes a picture and answers as its instruction says.",
}
_ANYTHING = "The pictures differ in how they were taken and processed, and people label them by that."


def answer(reading: Reading, senses: Senses) -> str:
    """Returns the engine's answer to a request, in the form the request asks for."""
    if reading.form == "plain" or not reading.outputs:
        return _plain(reading, senses)
    values = {f.name: _typed(f, _ANSWERS[_role(f, reading, senses)](f, reading, senses)) for f in reading.outputs}
    if reading.form == "json":
        return json.dumps(values, ensure_ascii=False)
    texts = {name: x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for name, x in values.items()}
    if reading.form == "xml":
        return "\n".join(f"<{name}>\n{html.escape(text, quote=False)}\n</{name}>" for name, text in texts.items())
    sections = [f"[[ ## {name} ## ]]\n{text}" for name, text in texts.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def _role(field: OutputField, reading: Reading, senses: Senses) -> str:
    """What a requested field calls for, by its name and by what the request offers as evidence."""
    name, others = field.name, [other.name for other in reading.outputs]
    about_program = bool(_ABOUT_PROGRAM.search(" ".join([name, *reading.inputs])))
    verdict = bool(field.options()) or field.type in ("bool", "int", "float") or bool(_VERDICT.search(name))
    reasoning = bool(_REASONING.search(name))
    writes = any(_INSTRUCTION.search(x) or _ADVICE.search(x) for x in others)
    roles = {
        "prefix": bool(_PREFIX.search(name)),
        "advice": bool(_ADVICE.search(name)),
        "instruction": bool(_INSTRUCTION.search(name)),
        "reasons": reasoning and not writes and any(_VERDICT.search(x) for x in others),
        "critique": bool(_CRITIQUE.search(name)) or (reasoning and bool(mistakes(reading, senses))),
        "verdict": verdict and not about_program,
        "description": bool(_DESCRIPTION.search(name)) and bool(reading.images) and not about_program,
    }
    return next((role for role, holds in roles.items() if holds), "other")


def _instruction(field: OutputField, reading: Reading, senses: Senses) -> Any:
    count = _wanted(reading) if field.type.startswith("list") else 1
    written = [revising.write_instruction(field.name, reading, senses, variant) for variant in range(count)]
    return written if field.type.startswith("list") else written[0]


def _critique(field: OutputField, reading: Reading, senses: Senses) -> Any:
    if field.type.startswith("list"):
        return revising.critique(reading, senses, _wanted(reading))
    return " ".join(revising.critique(reading, senses))


def _wanted(reading: Reading) -> int:
    """How many texts a request wants: an input that is a number says so, else its words."""
    given = [text for name, text in reading.inputs.items() if _NUMBER_NAME.search(name) and _WHOLE.fullmatch(text)]
    return _bounded(given[0]) if given else _count(reading.objective)


def _count(text: str) -> int:
    numbers = _COUNT.findall(text)
    return _bounded(numbers[-1]) if numbers else 1


def _bounded(number: str) -> int:
    return min(_MOST, max(1, _NUMBERS.get(number.lower()) or int(number)))


def _advice(field: OutputField, reading: Reading, senses: Senses) -> Any:
    """Advice for a judge says how much flaws count, for a describer what to look for; one for each module named."""
    rng = senses.rng(reading.seed, "advice", reading.prompt)

    def advise(module: str) -> str:
        if revising.for_reports(module, ""):
            return revising.report_instruction(reading, senses, rng)
        current = current_instruction(reading)
        changes = revising.weight_changes(current, reading, senses, rng)
        return vocabulary.write_weights(changes or revising.guessed(current, senses, rng))

    modules = re.findall(r"[\"'«]([\w.\[\]]+)[\"'»]", reading.inputs.get("module_names", ""))
    if field.type.startswith("dict"):
        return {module: advise(module) for module in modules or ["judge"]}
    return advise(field.name)


_ANSWERS: dict[str, Callable[[OutputField, Reading, Senses], Any]] = {
    "prefix": lambda field, reading, senses: "Label:",
    "advice": _advice,
    "instruction": _instruction,
    "reasons": lambda field, reading, senses: judging.reasons(reading, senses),
    "critique": _critique,
    "verdict": judging.judge,
    "description": lambda field, reading, senses: describing.describe(reading, senses),
    "other": lambda field, reading, senses: _GENERAL.get(field.name.lower(), _ANYTHING),
}


def _typed(field: OutputField, value: Any) -> Any:
    """The value as the field's type wants it."""
    if field.type.startswith("list") and not isinstance(value, list):
        return [value]
    if field.type.startswith("dict") and not isinstance(value, dict):
        return {"text": str(value)}
    if field.type in ("int", "float") and isinstance(value, str):
        digits = re.search(r"-?\d+", value)
        return int(digits[0]) if digits else 0
    if field.type == "str" and not isinstance(value, str):
        return str(value)
    return value


def _plain(reading: Reading, senses: Senses) -> str:
    """The answer to a request in plain text: the words near its end say what it wants, its tags in which form."""
    text = without_images(reading.prompt)
    tags = _TAGGED.findall(text) or _KNOWN_TAG.findall(text)
    tag = tags[-1] if tags else None
    ending = text[-1500:]
    asked, critical = _last(_ASKS_INSTRUCTION, ending), _last(_ASKS_CRITIQUE, ending)
    count = _count(ending)
    if (_KNOWN_TAG.fullmatch(f"<{tag}>") and tag != "START") or asked > critical:
        given = [revising.write_instruction("", reading, senses, variant) for variant in range(count)]
    elif critical >= 0:
        given = revising.critique(reading, senses, count)
    elif _ASKS_VERDICT.search(reading.objective) and (reading.images or vocabulary.mentioned(text)):
        given = [str(judging.judge(OutputField("label"), reading, senses))]
    elif reading.images:
        given = [describing.describe(reading, senses)]
    else:
        given = [_ANYTHING]
    return _wrapped(given, tag, text)


def _last(pattern: re.Pattern[str], text: str) -> int:
    return max((match.start() for match in pattern.finditer(text)), default=-1)


def _wrapped(given: list[str], tag: str | None, text: str) -> str:
    if tag is not None:
        close = "<END>" if tag == "START" and "<END>" in text else f"</{tag}>"
        return "\n".join(f"<{tag}>{one}{close}" for one in given)
    if re.search(r"(?:within|inside|in|between)[^.\n]{0,20}```", text):
        return "\n".join(f"```\n{one}\n```" for one in given)
    if re.search(r"square brackets", text, re.IGNORECASE):
        return "\n".join(f"[{one}]" for one in given)
    return "\n\n".join(given)
