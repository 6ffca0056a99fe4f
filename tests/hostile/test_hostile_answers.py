"""Hostile answers: more than one label, denials, fields doubled, and texts that a reader may choke on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dspy
import pytest
from engines import scripted_lm
from hostile_case import Case, cases, hold, in_folder
from judges import SAFETY, SCALE, judge_with, picture
from mutations import SNIPPETS

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

SEVERITY = LabelSpace("none", "mild", "severe", ordered=True)
SPACES = {"safety": SAFETY, "scale": SCALE, "severity": SEVERITY, "parts": LabelSpace("A", "A*", "B")}
STATED, TWICE, DENIED, JUNK = 14, 14, 8, 10

Parse = Callable[[tuple[LabelSpace, object]], Label | None]


def parse(given: tuple[LabelSpace, object]) -> Label | None:
    """Reads an answer as the judge does."""
    space, answer = given
    return space.parse(answer)


def gives(expected: Label | None) -> Callable[[object], None]:
    """Returns the assertion of one label, or of none."""

    def same(found: object) -> None:
        assert found == expected
        assert type(found) is type(expected)

    return same


# Ways to say one label and nothing else.
STATEMENTS = (
    "{}",
    " {} \n",
    "**{}**",
    "`{}`",
    '"{}"',
    "{}.",
    "Label: {}",
    "**Final answer:** {}",
    "The label is {}.",
    '{{"label": "{}"}}',
    '```json\n{{"label": "{}"}}\n```',
    "<think>Could be {other}.</think>\n{}",
    "{other} would be wrong here.\n\n{}",
    "\ufeff{}",
    "{}\u200b",
    "{} ✅",
    "[{}]",
    "{} – it is clear to see",
)
# Ways to say two labels as if each were the answer.
RIVALS = (
    "{a}\n{b}",
    "{a}, {b}",
    "{a} or {b}",
    "{a}/{b}",
    "Label: {a}\nLabel: {b}",
    '{{"label": "{a}", "label": "{b}"}}',
    '{{"label": "{a}"}}\n{{"label": "{b}"}}',
    "{a}\n\nActually, {b}.",
    "{a}. No, {b}.",
    "{a}\n\nWait. {b}",
    "between {a} and {b}",
    "{a}\n```\n{b}\n```",
    "**{a}** | **{b}**",
    "Final answer: {a}. Final answer: {b}.",
)
DENIALS = (
    "not {a}",
    "{a}? No.",
    "It isn't {a}",
    "never {a}",
    "neither {a} nor {b}",
    "anything but\n{a}",
    "{a}: 40%",
    "❌ {a}",
    "{a}\nScratch that.",
    "{a}, I guess not",
)


def stated(read: Parse) -> Iterator[Case]:
    """Yields one label, dressed as models dress it, and two as if each were meant."""
    for name, space in SPACES.items():
        if name == "parts":
            continue
        for seed in range(STATED):
            rng = random.Random(f"answers:{name}:{seed}")
            form = STATEMENTS[(seed + len(name)) % len(STATEMENTS)]
            label, other = rng.sample(space.labels, 2)
            text = form.format(rng.choice([str, str.upper])(str(label)), other=other)
            yield Case(f"{name} states {text!r}", in_folder((space, text)), read, gives(label), error=None)
        for form in RIVALS:
            rng = random.Random(f"answers:{name}:{form}")
            a, b = rng.sample(space.labels, 2)
            text = form.format(a=a, b=b)
            yield Case(f"{name} states two {text!r}", in_folder((space, text)), read, gives(None), error=None)
        for form in DENIALS:
            rng = random.Random(f"answers:{name}:{form}")
            a, b = rng.sample(space.labels, 2)
            text = form.format(a=a, b=b)
            yield Case(f"{name} denies {text!r}", in_folder((space, text)), read, gives(None), error=None)


def off_scale(read: Parse) -> Iterator[Case]:
    """Yields what is near a level and is none."""
    for text in (
        *("0", "6", "-1", "4.5", "3.14", "1e0", "٤x", "1-5", "1 to 5", "3/10", "4 out of 10", "50%", "½", "IV", "NaN"),
        *(
            "inf",
            "0x4",
            "4,5",
            "4 5",
            "3 or 4",
            "between 3 and 4",
            "3–4",
            "-4",
            "−4",
            "04",
            "4th of 9",
            "4.0.1",
            "4..5",
        ),
    ):
        yield Case(f"off the scale {text!r}", in_folder((SCALE, text)), read, gives(None), error=None)
    for value, label in (
        (4.0, 4),
        (4, 4),
        ("4.0", 4),
        (4.5, None),
        (True, None),
        (float("nan"), None),
        (10**400, None),
    ):
        yield Case(f"the number {value!r:.20}", in_folder((SCALE, value)), read, gives(label), error=None)


def one_of(space: LabelSpace) -> Callable[[object], None]:
    """Returns the assertion of any label of a space, or none."""

    def valid(found: object) -> None:
        assert found is None or found in space.labels

    return valid


def junk(read: Parse) -> Iterator[Case]:
    """Yields texts of pieces that mean something to a reader, and long ones that a backtracking reader chokes on."""
    pieces = [
        *(
            "Safe",
            "Unsafe",
            "4",
            "none",
            "severe",
            "A*",
            "not",
            "label:",
            '{"label":',
            "}",
            "<think>",
            "</think>",
            "\n",
        ),
        *("**", "```", "[[ ## label ## ]]", "–", ", ", "because", "...", "/5", "❌", "\u200b", "(", "['", "of 5", "or"),
        *(snippet.decode("utf-8", "replace") for snippet in SNIPPETS),
    ]
    for name, space in SPACES.items():
        for seed in range(JUNK):
            rng = random.Random(f"answers:junk:{name}:{seed}")
            text = " ".join(rng.choices(pieces, k=rng.choice([3, 10, 400])))
            yield Case(f"{name} junk seed {seed}", in_folder((space, text)), read, one_of(space), error=None)
    n = 30_000
    for name, text in {
        "brackets": "(" * n,
        "brackets and a label": "[" * n + "Safe",
        "quotes": "\"'" * n,
        "stars": "*" * n + "Safe" + "*" * n,
        "spaces": " " * n + "Safe" + " " * n + "x",
        "thoughts": "<think>" * n,
        "thoughts closed": "<think>x</think>" * (n // 10) + "Safe",
        "ends of thoughts": "</think>" * n,
        "lines": "Safe\n" * n + "Unsafe",
        "blank lines": "\n" * n + "Safe",
        "labels": "Safe " * n,
        "leads": "the final answer is " * (n // 10),
        "hashes": "# " * n + "Safe",
        "an object": '{"a":' * n,
        "a long word": "Saf" * n,
        "digits": "4" * n,
        "numbers": "4 " * n,
        "slashes": "4/5" * n,
        "dashes": "-" * n + "4",
        "commas": "Safe," * n,
        "tags": "<b>" * n + "Safe",
        "markup": "- " * n + "Safe",
        "emoji": "😀" * n + "Safe",
        "zero width": "\u200b" * n + "Safe",
        "combining": "S" + "\u0301" * n + "afe",
        "surrogates": "\ud800" * n,
        "NUL": "\0" * n + "Safe",
    }.items():
        for kind in ("safety", "scale"):
            case = in_folder((SPACES[kind], text))
            yield Case(f"{kind} against 30,000 {name}", case, read, one_of(SPACES[kind]), error=None)
    for value in (None, b"Safe", [], ["Safe"], {"label": "Safe"}, object, 5, Ellipsis):
        make = in_folder((SAFETY, value))
        yield Case(f"a {type(value).__name__} {value!r:.20}", make, read, one_of(SAFETY), error=None)


def field(name: str, value: str) -> str:
    """Returns a field in DSPy's chat format."""
    return f"[[ ## {name} ## ]]\n{value}\n\n"


END = "[[ ## completed ## ]]"


def replies() -> dict[str, tuple[str, dict[str, Any], Label | None]]:
    """Returns whole replies of a model: text, options of the judge, the label that it states."""
    safe, unsafe = field("label", "Safe"), field("label", "Unsafe")
    reasons: dict[str, Any] = {"reasoning": True}
    why = field("reasoning", "It is grey.")
    return {
        "one field": (safe + END, {}, "Safe"),
        "one field without an end": (safe, {}, "Safe"),
        "no form": ("Unsafe", {}, "Unsafe"),
        "two fields": (safe + unsafe + END, {}, None),
        "two fields the other way round": (unsafe + safe + END, {}, None),
        "two fields that agree": (safe + safe + END, {}, "Safe"),
        "two fields with reasons": (why + safe + unsafe + END, reasons, None),
        "reasons twice and two labels": (why + safe + why + unsafe + END, reasons, None),
        "two ends": (safe + END + "\n\n" + unsafe + END, {}, None),
        "a second thought behind the end": (safe + END + "\nActually, Unsafe.", {}, None),
        "a second thought with reasons": (why + safe + END + "\nActually, Unsafe.", reasons, None),
        "a second thought in the field": (field("label", "Safe\n\nActually, Unsafe."), {}, None),
        "small talk behind the end": (safe + END + "\nHave a nice day.", {}, "Safe"),
        "an empty field": (field("label", "") + END, {}, None),
        "an unknown label": (field("label", "Harmless") + END, {}, None),
        "the prompt's own words": (field("label", "{label}        # note: Safe or Unsafe") + END, {}, None),
        "both labels": (field("label", "Safe; Unsafe") + END, {}, None),
        "JSON": (json.dumps({"label": "Unsafe"}), {}, "Unsafe"),
        "JSON with a key twice": ('{"label": "Safe", "label": "Unsafe"}', {}, None),
        "JSON in the field": (field("label", '{"label": "Unsafe"}') + END, {}, "Unsafe"),
        "another field of that name in a thought": (f"<think>{unsafe}</think>" + safe + END, {}, "Safe"),
        "reasons only": (why + END, reasons, None),
        "reasons that name the other label": (
            field("reasoning", "Unsafe at first sight.") + safe + END,
            reasons,
            "Safe",
        ),
        "nothing but an end": (END, {}, None),
        "spaces": ("   \n", {}, None),
        "escape codes": (field("label", "\x1b[1mSafe\x1b[0m") + END, {}, None),
        "a tool call": ('<tool_call>{"name": "label", "arguments": {"label": "Safe"}}</tool_call>', {}, None),
    }


def judged(judge: VisualJudge) -> Label | None:
    """Judges a picture."""
    label: Label | None = judge(image=picture()).label
    return label


def whole(judge_one: Callable[[VisualJudge], Label | None]) -> Iterator[Case]:
    """Yields whole replies, read from the model's text to the label."""
    for name, (text, options, label) in replies().items():
        make = in_folder((text, {"evidence": "image", **options}))
        yield Case(f"reply with {name}", make, partial(_reply, judge_one), gives(label), error=None)


def _reply(judge_one: Callable[[VisualJudge], Label | None], given: tuple[str, dict[str, Any]]) -> Label | None:
    text, options = given
    return judge_one(judge_with(lambda seen: text, **options))


def answer_cases(read: Parse = parse) -> Iterator[Case]:
    """Yields the family."""
    yield from stated(read)
    yield from off_scale(read)
    yield from junk(read)
    yield from whole(judged)


@cases(answer_cases())
def test_a_hostile_answer_is_its_one_label_or_invalid(case: Case, tmp_path: Any) -> None:
    """Never a guess, never an error, never without end."""
    hold(case, tmp_path)


def test_a_description_given_twice_is_not_silently_the_first() -> None:
    """The judge reads both, or none."""
    seen_by_judge: list[str] = []

    def script(seen: Any) -> Any:
        if seen.fields == ["description"]:
            return field("description", "a cat on a mat") + field("description", "a knife on a mat") + END
        seen_by_judge.append(seen.user)
        return {"label": "Safe"}

    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="description")
    with dspy.context(lm=scripted_lm(script)):
        judge(image=picture())
    assert ("a cat" in seen_by_judge[0]) == ("a knife" in seen_by_judge[0])
