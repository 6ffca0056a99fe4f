"""A tiny world for optimizer tests: grey images, people who call some of them bright, a scripted LM that learns it."""

from __future__ import annotations

import base64
import functools
import io
import re
from typing import Any

import dspy
from engines import Seen, scripted_lm
from PIL import Image

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs import VisualJudge

LABELS = LabelSpace("dark", "bright")
TRUE_THRESHOLD = 128


def grey(value: int) -> str:
    """Returns a PNG of one grey as a data URI."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value,) * 3).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def examples(values: range) -> list[dspy.Example]:
    """Returns labelled examples, one per grey."""
    return [
        dspy.Example(image=dspy.Image(grey(v)), label="bright" if v > TRUE_THRESHOLD else "dark").with_inputs("image")
        for v in values
    ]


TRAIN = examples(range(0, 250, 6))
VALIDATION = examples(range(3, 250, 6))


def brightness(seen: Seen) -> int:
    """Returns the grey of the first image of a request."""
    return _grey_of(seen.images[0])


@functools.cache
def _grey_of(image: str) -> int:
    return int(Image.open(io.BytesIO(base64.b64decode(image))).getpixel((0, 0))[0])


def threshold(instruction: str) -> int:
    """Returns the threshold that an instruction states."""
    return int(re.search(r"above (\d+)", instruction).group(1))


def mind(seen: Seen) -> Any:
    """Judges by the stated threshold, describes brightness if asked for it, and raises the threshold step by step."""
    if "label" in seen.fields:
        value = brightness(seen) if seen.images else int(re.search(r"brightness (\d+)", seen.user).group(1))
        return {"label": "bright" if value > threshold(seen.instruction) else "dark"}
    if seen.fields == ["description"]:
        asked = "bright" in seen.instruction
        return {"description": f"brightness {brightness(seen)} ({seen.instruction})" if asked else "a picture"}
    if seen.fields == ["improved_instruction"]:
        step = 20 if "brightness" in seen.field("errors") else 1
        return {"improved_instruction": f"Bright is above {threshold(seen.field('current_instruction')) + step}"}
    assert seen.fields == ["verbalizer_instruction"]
    return {"verbalizer_instruction": f"Report how bright it is, attempt {seen.field('history').count('score')}"}


def world(script: Any = mind, **options: Any) -> dspy.LM:
    """Returns a scripted LM for every role."""
    return scripted_lm(script, **options)


def student(**options: Any) -> VisualJudge:
    """Returns the start program, whose threshold is far too low."""
    return VisualJudge(LABELS, **{"instruction": "Bright is above 20", "evidence": "image", **options})
