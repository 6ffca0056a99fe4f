"""What the paper reports (arXiv 2602.11340), rounded as there; taken from a digest of it: check before you quote."""

from __future__ import annotations

from collections.abc import Mapping

# Table 1, judge Llama-4-Maverick: macro-F1 and accuracy by set and method. The rest of the table isn't at hand.
MAIN: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "unsafebench": {
        "none": (0.65, 0.69),
        "opro": (0.72, 0.76),
        "textgrad": (0.68, 0.73),
        "apo-image": (0.67, 0.70),
        "blpo": (0.89, 0.90),
    },
    "agin": {
        "none": (0.26, 0.30),
        "opro": (0.26, 0.30),
        "textgrad": (0.30, 0.38),
        "apo-image": (0.32, 0.37),
        "blpo": (0.33, 0.38),
    },
}

# The ablation, judge Llama-4-Scout: macro-F1.
ABLATION: Mapping[str, Mapping[str, float]] = {
    "agin": {"blpo-fixed": 0.18, "blpo-judge": 0.19, "blpo": 0.23},
    "seetrue": {"blpo-fixed": 0.73, "blpo-judge": 0.74, "blpo": 0.77},
    "imagereward": {"blpo-fixed": 0.25, "blpo-judge": 0.32, "blpo": 0.34},
    "unsafebench": {"blpo-fixed": 0.73, "blpo-judge": 0.78, "blpo": 0.81},
}

# Its models, as OpenRouter and OpenAI name them.
JUDGE, OPTIMIZER = "openrouter/meta-llama/llama-4-maverick", "openai/o3"
