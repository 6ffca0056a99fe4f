"""Text that comes from images, datasets or models is data."""

from __future__ import annotations

import re

# DSPy's adapters turn text between these markers into an image part, whoever wrote it.
_DSPY_MARKERS = re.compile(r"<<(CUSTOM-TYPE-(?:START|END)-IDENTIFIER)>>")
# What a model may pass over: white space and characters that don't show.
_GAP = (
    r"[\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]{0,20}"
)
_HASH = "[#＃﹟]"
# A line of the form [[ ## name ## ]] opens a field in DSPy's chat format, and to a model also one that looks like it.
_FIELD_HEADERS = re.compile(
    rf"(?:[\[［﹇]{_GAP}[\[［﹇]|[⟦〚]){_GAP}{_HASH}{_GAP}{_HASH}{_GAP}"
    rf"([^#＃﹟\n]{{1,80}}?)"
    rf"{_GAP}{_HASH}{_GAP}{_HASH}{_GAP}(?:[\]］﹈]{_GAP}[\]］﹈]|[⟧〛])"
)
# What opens or closes an element in XML, but for DSPy's own markers of an image.
_TAGS = re.compile(r"<(?=\s*/?\s*[^\W\d])(?!CUSTOM-TYPE-(?:START|END)-IDENTIFIER>>)")


def as_data(text: object) -> str:
    """Returns text that no adapter reads as a field header or an image; "" for None.

    No marker is cut out, which could join what stands around it to a new one.
    """
    data = _DSPY_MARKERS.sub(r"[\1]", "" if text is None else str(text))
    changed = 1
    while changed:  # of headers within headers the inner ones go first
        data, changed = _FIELD_HEADERS.subn(r"[\1]", data)
    return data


def without_tags(text: str) -> str:
    """Returns text that neither opens nor closes an element of XML."""
    return _TAGS.sub("&lt;", text)
