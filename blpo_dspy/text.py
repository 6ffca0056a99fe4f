"""Text that comes from images, datasets or models is data."""

from __future__ import annotations

import re

# DSPy's adapters turn text between these markers into an image part, whoever wrote it.
_DSPY_MARKERS = re.compile(r"<<(CUSTOM-TYPE-(?:START|END)-IDENTIFIER)>>")
# A line of this form opens a field in DSPy's chat format.
_FIELD_HEADERS = re.compile(r"\[\[\s*##\s*(\w+)\s*##\s*\]\]")


def as_data(text: object) -> str:
    """Returns text that no adapter reads as a field header or an image; "" for None.

    Nothing is cut out, which could join what stands around it to a new marker.
    """
    return _FIELD_HEADERS.sub(r"[\1]", _DSPY_MARKERS.sub(r"[\1]", "" if text is None else str(text)))
