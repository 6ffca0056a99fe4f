"""What a request of a batch costs as a rule, and at most."""

from __future__ import annotations

import json
from typing import Any

import pytest
from judges import picture

from blpo_dspy.predictions.batches.costs import request_cost
from blpo_dspy.workspace.ledger import Usage

PRICE = (1e6, 1e6)  # a dollar a token
GPT = "openai/gpt-4o"


def body(*contents: Any, **options: Any) -> bytes:
    """A request with these contents."""
    messages = [{"role": "user", "content": content} for content in contents]
    return json.dumps({"model": "m", "messages": messages, **options}).encode()


def image(url: str) -> list[dict[str, Any]]:
    """A content with an image."""
    return [{"type": "image_url", "image_url": {"url": url}}]


def test_texts_count_by_their_length_and_answers_up_to_their_limit() -> None:
    """Four characters a token as a rule; the names of roles and of types of parts count as texts, too."""
    short, long = (request_cost(GPT, "judge", body("x" * n, max_tokens=300), PRICE, Usage()) for n in (0, 1000))
    assert long.usual - short.usual == pytest.approx(250)
    assert long.most - short.most == pytest.approx(400)
    assert 300 < short.most < 310
    assert 40 < short.usual < 45


def test_images_count_by_their_size_as_the_provider_counts_them() -> None:
    """Read from their headers; one that only its address is known of is taken for one of 1024 pixels a side."""
    plain = request_cost(GPT, "judge", body([]), PRICE, Usage())
    small, tall, unknown = (
        request_cost(GPT, "judge", body(image(url)), PRICE, Usage())
        for url in (picture(side=8), picture(side=600), "https://example.com/1.png")
    )
    names = 9 / 4  # the type of the part
    assert small.usual - plain.usual == pytest.approx(85 + 170 + names)
    assert tall.usual - plain.usual == pytest.approx(85 + 4 * 170 + names)
    assert unknown.usual - plain.usual == pytest.approx(85 + 4 * 170 + names)


def test_answers_so_far_say_what_further_ones_cost() -> None:
    """Four times their mean, from twenty on a quarter more than that at most, but never more than the limit."""
    few, many = (Usage(calls=n + 5, failed=5, completion_tokens=80 * n) for n in (19, 20))
    empty = request_cost(GPT, "judge", body("", max_tokens=1), (1e6, 0.0), Usage())
    assert request_cost(GPT, "judge", body("", max_tokens=1000), PRICE, few).most - empty.most == pytest.approx(320)
    one = Usage(calls=1, completion_tokens=1)
    assert request_cost(GPT, "judge", body(""), PRICE, one).most - empty.most == pytest.approx(160), "it may be unusual"
    known = request_cost(GPT, "judge", body("", max_tokens=1000), PRICE, many)
    assert known.usual - empty.usual == pytest.approx(80)
    assert known.most - empty.most == pytest.approx(100)
    assert request_cost(GPT, "judge", body("", max_tokens=90), PRICE, many).most - empty.most == pytest.approx(90)
