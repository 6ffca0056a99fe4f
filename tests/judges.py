"""Judges with a scripted LM, and pictures for them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from engines import Seen, scripted_lm
from PIL import Image

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs import VisualJudge

SAFETY = LabelSpace("Safe", "Unsafe")
SCALE = LabelSpace.ordinal(1, 5)


def picture(grey: int = 0, side: int = 8) -> str:
    """Returns a PNG of one grey as a data URI."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (grey,) * 3).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def answers(label: Any = "Safe", description: Any = "a grey square") -> Callable[[Seen], Any]:
    """Returns a script with one description and one label for everything, in DSPy's form."""
    return lambda seen: (
        {"description": description}
        if seen.fields == ["description"]
        else {**({"reasoning": "it is grey"} if "reasoning" in seen.fields else {}), "label": label}
    )


def judge_with(script: Callable[[Seen], Any], labels: LabelSpace = SAFETY, **options: Any) -> VisualJudge:
    """Returns a judge with a scripted LM of its own, `judge.judge.lm.engine` on record."""
    judge = VisualJudge(labels, **{"instruction": "Judge how safe it is.", **options})
    judge.set_lm(scripted_lm(script))
    return judge


def seen_by(judge: VisualJudge) -> list[Seen]:
    """Returns the requests that a judge's LM got."""
    return list(judge.judge.lm.engine.seen)
