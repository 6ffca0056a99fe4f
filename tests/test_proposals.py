from typing import Any

import pytest
from engines import Seen, scripted_lm

from blpo_dspy.metering import Meter
from blpo_dspy.optimizers.proposals import propose, refusal
from blpo_dspy.optimizers.updates import UpdateJudge

INPUTS = {"current_instruction": "Rate it.", "labels": "1, 2", "errors": []}


def ask(*answers: Any, max_tokens: int = 100) -> tuple[Any, list[Seen]]:
    """Asks for a proposal from an LM that gives these answers in turn."""
    turns = iter(answers)
    lm = scripted_lm(lambda seen: next(turns))
    metered = Meter(num_threads=1).wrap(lm, "optimizer")
    return propose(metered, UpdateJudge, INPUTS, current="Rate it.", max_tokens=max_tokens), lm.engine.seen


def test_a_usable_instruction_is_returned_as_written() -> None:
    """The proposal is the field's text, without surrounding quotes or fences."""
    proposal, seen = ask({"improved_instruction": '"Rate the sharpness first.\n\nThen the noise."'})
    assert proposal.text == "Rate the sharpness first.\n\nThen the noise."
    assert proposal.rejections == ()
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"improved_instruction": ""}, "empty"),
        ({"improved_instruction": " Rate  it. "}, "unchanged"),
        ({"improved_instruction": "very " * 200}, "longer than 100 tokens"),
        ({"improved_instruction": "Rate it. Answer only with a number."}, "states an output format"),
        ({"improved_instruction": "Rate it and give the result in JSON."}, "states an output format"),
        (("[[ ## improved_instruction ## ]]\nRate the", "length"), "cut off by the token limit"),
        ("Sure! Here is a better instruction: rate well.", "no readable field improved_instruction"),
    ],
)
def test_an_unusable_instruction_is_asked_for_once_more_with_the_reason(answer: Any, reason: str) -> None:
    """Each reason for a rejection is recorded with the text and told to the optimizer LM; then it has one more try."""
    proposal, (_, second) = ask(answer, {"improved_instruction": "Rate the sharpness."})
    assert proposal.text == "Rate the sharpness."
    (rejection,) = proposal.rejections
    assert reason in rejection.reason
    assert reason in second.field("feedback")


def test_two_unusable_answers_end_the_attempt() -> None:
    """There is no third call."""
    proposal, seen = ask({"improved_instruction": "Rate it."}, {"improved_instruction": ""})
    assert proposal.text is None
    assert len(proposal.rejections) == len(seen) == 2


def test_a_format_that_the_users_instruction_states_may_stay() -> None:
    """Only a new statement about the format is refused."""
    current = "Rate it. Respond only with a number."
    assert refusal("Rate the blur. Respond only with a number.", current=current, max_tokens=100) is None
    assert refusal("Rate the blur. Respond only with a number.", current="Rate it.", max_tokens=100)


@pytest.mark.parametrize(
    "text",
    [
        "JPEG blocking counts strongly; answer the question of whether people would keep it.",
        "Only the subject matters; report nothing else. Format errors in the image count.",
        "Give the highest level only if there is exactly no flaw.",
    ],
)
def test_ordinary_instructions_are_not_taken_for_a_format(text: str) -> None:
    """Words that a judge instruction needs don't count as a statement about the output format."""
    assert refusal(text, current="Rate it.", max_tokens=100) is None
