"""DSPy's chat formats, with one LM call for one answer."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import dspy

from blpo_dspy.models.seams import format_field_value, is_output
from blpo_dspy.models.stand_ins import has_stand_ins, with_stand_ins
from blpo_dspy.models.whole_answers import read_whole
from blpo_dspy.text import without_tags


def one_call_adapter() -> dspy.Adapter:
    """Returns the user's adapter, DSPy's chat adapter if there is none, without a second call in JSON.

    DSPy asks again in JSON when an answer is out of form; here such an answer is read as it stands or counted as
    invalid, so that a call is paid for once and a model isn't given two tries. An answer that states a field twice is
    out of form, too; see `read_whole`.
    """
    adapter: Any = dspy.settings.adapter or dspy.ChatAdapter()
    if has_stand_ins(adapter):
        return adapter
    own = copy.copy(adapter)
    if getattr(own, "use_json_adapter_fallback", False):
        own.use_json_adapter_fallback = False
    own.format = with_stand_ins(_tagged(adapter) if isinstance(adapter, dspy.XMLAdapter) else adapter)
    own.parse = partial(read_whole, adapter)
    return own


def _tagged(adapter: Any) -> dspy.Adapter:
    """An adapter of DSPy that writes each field as an element, whose end no text in it can state."""
    own = copy.copy(adapter)
    own.format_field_with_value = partial(_without_inner_tags, adapter)
    assert isinstance(own, dspy.Adapter)
    return own


def _without_inner_tags(adapter: Any, fields_with_values: dict[Any, Any]) -> str:
    return str(
        adapter.format_field_with_value(
            {
                # DSPy does the same to outputs.
                field: value if is_output(field.info) else without_tags(format_field_value(field.info, value))
                for field, value in fields_with_values.items()
            }
        )
    )
