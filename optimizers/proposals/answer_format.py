"""Statements about the form of an answer, as optimizer LMs write them into instructions.

The program's signature states the form. A model that follows another one in its instruction leaves out the fields, so
that each image costs a second call or gets no label; no form of words is common to such statements but these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# What is asked of an answer, as distinct from the same words about an image ("the number of people", "the label on").
_FORM = (
    r"(?:(?:labels?|digits?|integers?|numbers?|numerals?|words?|letters?|characters?|tokens?|ratings?|scores?|grades?"
    r"|verdicts?|answers?|decisions?|json|xml|yaml|markdown|html|csv)\b"
    r"(?!\s+(?:of|on|in the|that|which|visible|shown)\b)"
    r"|one of (?:the|these|those)\b(?: following| above)?(?: labels| words| levels| options)?|one of:)"
)
_DETERMINERS = (
    r"(?:(?:a|an|the|your|one|only|just|exactly|strictly|nothing but|single|final|overall|numeric|numerical|valid|plain"
    r"|following|exact)\s+)*"
)
_OBJECT = rf"{_DETERMINERS}{_FORM}"
_QUOTED = r"[\"'“‘`<{\[][^\"'”’`>}\]\n]{1,40}[\"'”’`>}\]]"
# A sentence with a condition says which label is due, whatever verb it takes.
_UNCONDITIONAL = r"(?![^.;\n]*\b(?:if|when|whenever|where|unless|otherwise)\b)"
_ANSWERING = r"\b(?:answer|respond|reply)\b(?:\s+(?:with|in|using|as|by|only|just|exactly|strictly|either))*\s+"
# Verbs that images and their makers do too count only where they give an order.
_ORDER = (
    r"(?:^[ \t\d.)*•–-]*|[.!?:;,]\s+|\b(?:then|please|always|only|just|simply|finally|and then)\s+"
    r"|\byou (?:must|should|will|need to|have to)\s+(?:only |then |always )?)"
)

_STATEMENTS = (
    r"\[\[\s*##|```",
    r"\b(?:output|answer|response|reply) formats?\b",
    r"\b(?:json|xml|yaml)\b(?: (?:object|format|document)\b|\s*(?:[.!,;:]|$))",
    r"\{\s*[\"'“]?(?:label|rating|score|answer|verdict|result)[\"'”]?\s*:",
    r"\bformat (?:your|the) (?:answer|response|output|reply)\b",
    r"\b(?:use|follow|in|with) (?:the|this) (?:following |exact |required )?format\b(?!\s+of\b)",
    r"(?:^[ \t#>*_-]*|[.!?]\s+)(?:output|format|answer|response|reply)[*_]*\s*:",
    rf"{_ANSWERING}{_OBJECT}{_UNCONDITIONAL}",
    rf"{_ANSWERING}{_QUOTED}{_UNCONDITIONAL}",
    rf"{_ANSWERING}[\w-]+(?:, [\w-]+)*,? or [\w-]+\s*(?:[.!\n]|$)",
    rf"{_ORDER}(?:return|output|print|emit)\s+{_OBJECT}{_UNCONDITIONAL}",
    rf"{_ORDER}(?:state|give|write|provide|report|name|submit)\s+(?:only|just|nothing but)\s+{_OBJECT}{_UNCONDITIONAL}",
    r"\b(?:state|give|write|provide|report|submit|present|put|return|output|wrap|enclose|place)\s+(?:your|the)\s+"
    r"(?:final |overall |numeric |numerical )*(?:answer|response|verdict|rating|score|label|output|decision|result)\s+"
    rf"(?:as\s+(?:{_OBJECT}|{_QUOTED})|(?:in|within|inside|between) (?:one\b|a single|brackets|tags|double|square|<|\\)"
    r"|at the end\b|(?:on|in) (?:the last|the first|a new|a separate|its own) line\b)",
    r"\b(?:answers?|responses?|reply|outputs?|ratings?|verdict|score|label)\s+(?:must|should|has to|needs to|is to|can)"
    r"\s+(?:only |always |just )?(?:be|consist of)\s+(?:(?:only|just|either)\s+)?"
    rf"(?:{_OBJECT}|{_QUOTED}){_UNCONDITIONAL}",
    rf"\b(?:end|conclude|finish)\s+(?:your (?:answer|response|reply) )?(?:with|by)\s+(?:{_QUOTED}"
    r"|a (?:final |last )?line\b"
    r"|(?:(?:stating|writing|giving) )?(?:your|the final) (?:final )?(?:answer|label|rating|score|verdict|decision)\b)",
    r"\b(?:do not|don't|never) (?:include|add|give|provide|write|output)\s+(?:any |an |further |additional |other )*"
    r"(?:explanations?|reasoning|justifications?|commentary|preamble)\b",
    rf"[.;:,—–-]\s*(?:just|only)\s+{_OBJECT}\s*(?:[.!;]|$)",
)
_STATED = re.compile("|".join(f"(?:{statement})" for statement in _STATEMENTS), re.IGNORECASE | re.MULTILINE)


def stated_formats(text: str) -> Iterator[str]:
    """Yields what an instruction says about the form of an answer, in its words."""
    for found in _STATED.finditer(text):
        yield " ".join(found.group().split()).lstrip(".!?:;,- ").rstrip(".!?;, ")
