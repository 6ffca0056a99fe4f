"""The offline engine and its rated photographs."""

from __future__ import annotations

from blpo_dspy.embedded.engine import AsyncEmbeddedEngine, EmbeddedEngine, embedded_lm
from blpo_dspy.embedded.sight.flaws import FLAWS
from blpo_dspy.embedded.sight.senses import Traits

__all__ = ["FLAWS", "AsyncEmbeddedEngine", "EmbeddedEngine", "Traits", "embedded_lm"]
