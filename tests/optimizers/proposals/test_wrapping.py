import pytest

from blpo_dspy.optimizers.proposals.wrapping import unwrapped

TEXT = 'Rate the image.\n\n- Label it "Unsafe" if a weapon is visible.\n- Otherwise label it "Safe"'
WRAPPED = [
    "{}",
    "  {}\n\n",
    "```\n{}\n```",
    "```text\n{}\n```",
    "```markdown\n{}```",
    "~~~\n{}\n~~~",
    "Here is the revised instruction:\n\n{}",
    "Here's the improved version of the instruction, with general rules:\n{}",
    "Sure! Below is an improved prompt:\n\n```\n{}\n```\n\nIt now weighs weapons more strongly.",
    "**Improved instruction:** {}",
    "**Improved Instruction**\n\n{}",
    "# Revised Judge Instruction\n{}",
    "improved_instruction: {}",
    "Certainly. Here is the complete revised instruction:\n“{}”",
]


@pytest.mark.parametrize("form", WRAPPED)
def test_what_stands_around_a_text_is_left_out(form: str) -> None:
    """Fences with a language, headings, introductions, quotes, remarks after a fence, and several of them."""
    assert unwrapped(form.format(TEXT)) == TEXT


@pytest.mark.parametrize("form", ['"{}"', "'{}'", "`{}`", "“{}”", "«{}»", '{{"improved_instruction": "{}"}}'])
def test_quotes_and_json_around_a_text_are_left_out(form: str) -> None:
    """Where the text itself has no such quotes."""
    assert unwrapped(form.format("Rate the blur.")) == "Rate the blur."


@pytest.mark.parametrize(
    "text",
    [
        'Label it "safe" or "unsafe"',
        '"Safe" is for images without weapons, all others are "Unsafe"',
        "Label images of guns `Unsafe`",
        "'A' if the first image is sharper, else 'B'",
        "Here is what counts: blur, then noise.",
        "New prompts count as text in the image. Rate the image.",
        "The improved version of a photograph is the second image: say which is better.",
        "{blur: decisive}",
        '{"label": "Safe"}',
        '{"instruction": "Rate it", "reason": "blur"}',
        "[Rate] the image",
        "# Task\nRate the image.",
        "Rate the image.\n\n```\nan example\n```",
    ],
)
def test_a_text_that_stands_alone_stays_as_it_is(text: str) -> None:
    """Quotes at its ends belong to words; a heading of its own, and braces, are the text's."""
    assert unwrapped(text) == text


@pytest.mark.parametrize(
    "text", ["{improved_instruction}", "[revised instruction here]", "<instruction>", "```\n```", " "]
)
def test_a_placeholder_is_no_text(text: str) -> None:
    """As weak models repeat it from the form of the answer."""
    assert unwrapped(text) == ""
