"""Images that pass DSPy's formatting under short addresses: the messages are the same."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from judges import answers, judge_with, picture, seen_by

from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.models.adapter import one_call_adapter

ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]


class Plain(dspy.Signature):
    """Compare."""

    first: dspy.Image = dspy.InputField()
    note: str = dspy.InputField()
    second: dspy.Image = dspy.InputField()
    more: list[dspy.Image] = dspy.InputField()
    label: str = dspy.OutputField()


def inputs() -> dict[str, Any]:
    """Two images of this process, one by reference and a list."""
    policy = PixelPolicy()
    return {
        "first": policy.prepare(picture(1)),
        "note": "the first of\nthem",
        "second": dspy.Image(picture(2)),
        "more": [dspy.Image(picture(3)), dspy.Image("https://example.org/a.png")],
    }


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: type(adapter).__name__)
def test_the_messages_are_those_of_dspys_own_formatting(adapter: dspy.Adapter) -> None:
    """Byte for byte, with demonstrations that hold images too."""
    demos = [{**inputs(), "label": "Safe"}]
    with dspy.context(adapter=adapter):
        fast = one_call_adapter().format(Plain, demos, inputs())
    assert json.dumps(fast) == json.dumps(adapter.format(Plain, demos, inputs()))


def test_a_formatter_that_writes_images_otherwise_is_left_alone() -> None:
    """An adapter of the user's own that turns an image into text gets the image itself."""

    class Telling(dspy.ChatAdapter):
        def format_user_message_content(self, signature: Any, inputs: Any, *args: Any, **kwargs: Any) -> str:
            return f"an image of {len(inputs['first'].url)} characters at {inputs['first'].url}"

    with dspy.context(adapter=Telling()):
        (*_, message) = one_call_adapter().format(Plain, [], inputs())
    assert message["content"] == f"an image of {len(picture(1))} characters at {picture(1)}"


def test_who_watches_the_formatting_sees_the_images() -> None:
    """A callback gets the inputs and messages with the pixels, once."""
    seen: list[Any] = []

    class Watching(BaseCallback):
        def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            seen.append(inputs["inputs"]["image"].url)

        def on_adapter_format_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
            seen.append(json.dumps(outputs))

    judge = judge_with(answers(), evidence="image")
    with dspy.context(callbacks=[Watching()]):
        judge(image=picture(7))
    assert seen[0] == picture(7)
    assert picture(7) in seen[1]
    assert len(seen) == 2


def test_what_is_sent_is_the_image() -> None:
    """To the engine, from an adapter that another judge has made fast already."""
    judge = judge_with(answers(), evidence="image")
    with dspy.context(adapter=one_call_adapter()):
        assert one_call_adapter() is dspy.settings.adapter
        judge(image=picture(7))
    assert seen_by(judge)[0].images == [picture(7).partition(",")[2]]
