"""The five older sets of safe and unsafe images that UnsafeBench's authors publish in one form beside it."""

from __future__ import annotations

from functools import partial

from blpo_dspy.data.sources.huggingface import HuggingFace
from blpo_dspy.data.sources.published.unsafebench import UNSAFEBENCH

_one_of_them = partial(
    HuggingFace,
    labels=UNSAFEBENCH.labels,
    label_names={0: "Safe", 1: "Unsafe"},
    instruction=UNSAFEBENCH.instruction,
    verbalizer_instruction=UNSAFEBENCH.verbalizer_instruction,
    metrics=UNSAFEBENCH.metrics,
)

smid = partial(_one_of_them, id="yiting/SMID")
nsfw = partial(_one_of_them, id="yiting/NSFWDataset")
multiheaded = partial(_one_of_them, id="yiting/MultiHeaded_Dataset")
violence = partial(_one_of_them, id="yiting/Violence_Dataset")
self_harm = partial(_one_of_them, id="yiting/Self-harm_Dataset")
