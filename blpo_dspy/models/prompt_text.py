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


# Control characters, line and paragraph separators, what turns the direction of writing, and halves of surrogates,
# which no stream can encode.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


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


def shown(text: object, *, lines: bool = False) -> str:
    """Returns text of others as one line of a terminal, table or message holds it.

    Characters that would end the line, move the cursor or turn the direction of writing become escapes as in Python's
    `repr`, so that a name can neither forge a line nor reach the terminal as a command.

    Args:
        text: The text, such as a file name.
        lines: Whether it has lines of its own, which stay.
    """
    return _UNSAFE.sub(lambda found: _kept(found[0], lines), str(text))


def _kept(character: str, lines: bool) -> str:
    return character if lines and character == "\n" else repr(character)[1:-1]


def in_json(text: str) -> str:
    """Returns JSON in which such characters, but for the line breaks between its values, are escapes."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def brief(text: object, longest: int = 200) -> str:
    """Returns text of others as `shown` does, with its middle left out if it is long."""
    text = str(text)
    return shown(text if len(text) <= longest else f"{text[:60]}…{text[-100:]}")
