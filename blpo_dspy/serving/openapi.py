"""What a server offers, as an OpenAPI document and as a page."""

from __future__ import annotations

import html
import json
from typing import Any

from blpo_dspy.programs.visual_judge import VisualJudge

_ERRORS = {
    "400": "The request cannot be read, or lacks an input",
    "401": "The token is missing or wrong",
    "403": "Images by URL are not allowed, or the URL leads to a private address",
    "413": "The body is too large",
    "415": "The content type is not read",
    "502": "The model failed",
    "503": "The queue is full, or the server is stopping; see Retry-After",
    "504": "The model took too long",
}


def document(judge: VisualJudge) -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document of a judge's server."""
    forms = _forms(judge)
    label = {"type": ["number" if judge.labels.numeric else "string", "null"]}
    answer = {
        "label": {**label, "description": "null where the answer states none"},
        "answer": {"type": "string"},
        "description": {"type": ["string", "null"]},
        "reasoning": {"type": ["string", "null"]},
        "invalid": {"type": "boolean"},
        "confidence": {"type": "number", "description": "of a judge that has one, from 0 to 1"},
        "escalate": {"type": "boolean", "description": "of a calibrated judge, whether people have to label it"},
    }
    ok = {
        "description": "A verdict",
        "content": {"application/json": {"schema": {"type": "object", "properties": answer}}},
    }
    responses = {"200": ok, **{status: {"description": text} for status, text in _ERRORS.items()}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "blpo-dspy judge", "version": "1", "description": judge.instruction},
        "paths": {
            "/judge": {"post": {"summary": "Judge one row", "requestBody": {"content": forms}, "responses": responses}},
            "/health": {
                "get": {
                    "summary": "Whether the server takes requests",
                    "responses": {"200": {"description": "It does"}},
                }
            },
            "/metrics": {"get": {"summary": "Counts, for Prometheus", "responses": {"200": {"description": "Text"}}}},
        },
    }


def _forms(judge: VisualJudge) -> dict[str, dict[str, Any]]:
    """The content types of a request."""
    image = {"type": "string", "description": "base64, a data URI, or a URL where the server allows it"}
    binary = {"type": "string", "format": "binary"}
    forms: dict[str, dict[str, Any]] = {"application/json": {}, "multipart/form-data": {}}
    for kind, one in (("application/json", image), ("multipart/form-data", binary)):
        fields = judge.fields
        properties: dict[str, Any] = {
            field.name: {"type": "array", "items": one} if field.several else one for field in fields.images
        }
        properties.update({name: {"type": "string"} for name in fields.context})
        forms[kind] = {"schema": {"type": "object", "required": list(fields.names), "properties": properties}}
    if len(judge.fields.names) == 1 and not judge.fields.images[0].several:
        forms["image/*"] = {"schema": binary}
    return forms


def page(judge: VisualJudge) -> str:
    """Returns the document as a page that loads nothing."""
    found = document(judge)
    first = judge.fields.images[0].name
    rows = "".join(
        f"<h2>{method.upper()} {html.escape(path)}</h2><p>{html.escape(about['summary'])}</p>"
        + "".join(
            f"<p><b>{status}</b> {html.escape(response['description'])}</p>"
            for status, response in about["responses"].items()
        )
        for path, methods in found["paths"].items()
        for method, about in methods.items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>blpo-dspy judge</title><style>:root{color-scheme:light dark}pre{overflow:auto}"
        "body{font:1rem/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}</style>"
        f"<h1>blpo-dspy judge</h1><p>{html.escape(judge.instruction)}</p>"
        f"<pre>curl -F {html.escape(first)}=@photo.jpg …/judge</pre>{rows}"
        f"<h2>OpenAPI</h2><p><a href=openapi.json>openapi.json</a></p>"
        f"<pre>{html.escape(json.dumps(found, indent=2, ensure_ascii=False))}</pre></html>"
    )
