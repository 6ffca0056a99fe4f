"""DSPy's chat formats, with one LM call for one answer."""

from __future__ import annotations

import copy
from typing import Any

import dspy

from blpo_dspy.stand_ins import has_stand_ins, with_stand_ins


def one_call_adapter() -> dspy.Adapter:
    """Returns the user's adapter, DSPy's chat adapter if there is none, without a second call in JSON.

    DSPy asks again in JSON when an answer is out of form; here such an answer is read as it stands or counted as
    invalid, so that a call is paid for once and a model isn't given two tries.
    """
    adapter: Any = dspy.settings.adapter or dspy.ChatAdapter()
    if has_stand_ins(adapter):
        return adapter
    own = copy.copy(adapter)
    if getattr(own, "use_json_adapter_fallback", False):
        own.use_json_adapter_fallback = False
    own.format = with_stand_ins(adapter)
    return own
