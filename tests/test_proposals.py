import pytest

from blpo_dspy.optimizers.proposals import refusal


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
