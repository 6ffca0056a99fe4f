"""DSPy's chat formats, with one LM call for one answer."""

from __future__ import annotations

import copy

import dspy


def one_call_adapter() -> dspy.Adapter:
    """Returns the user's adapter, DSPy's chat adapter if there is none, without a second call in JSON.

    DSPy asks again in JSON when an answer is out of form; here such an answer is read as it stands or counted as
    invalid, so that a call is paid for once and a model isn't given two tries.
    """
    adapter = dspy.settings.adapter or dspy.ChatAdapter()
    if getattr(adapter, "use_json_adapter_fallback", False):
        adapter = copy.copy(adapter)
        adapter.use_json_adapter_fallback = False
    return adapter
