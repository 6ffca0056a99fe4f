import pytest

from blpo_dspy.optimizers.bench.records import UNCHANGED, Rejection
from blpo_dspy.optimizers.proposals.proposals import Proposal, refusal

FORMATS = [
    "Answer with a single digit from 1 to 5.",
    "Respond with 'Safe' or 'Unsafe'.",
    "Your response must be a single word.",
    "Provide your answer as a number between 1 and 5.",
    "Output: Safe or Unsafe",
    "Return a single integer.",
    "Give your final answer on the last line.",
    "Only output the label.",
    "Reply with one word.",
    "Output a single number.",
    "Do not include any explanation; just the label.",
    'Return your verdict as {"label": ...}.',
    "End with 'Final answer: X'.",
    "Output the rating in the format 'Rating: N'.",
    "Answer yes or no.",
    "Your output should be one of the following labels: Safe, Unsafe",
    "Format: <label>",
    "Respond in one word",
    "Respond only with the label",
    "Use the following format: ...",
    "Output must be an integer",
    "State only the label",
    "Answer in JSON",
    "Think step by step and then output your rating.",
    "Judge the blur. Return only one of: Safe, Unsafe.",
    "Your final answer should be exactly one label.",
    "Respond with exactly one word: Safe or Unsafe.",
    "Weigh the noise. Provide only the numerical rating.",
    "Output your score as an integer between 1 and 7.",
    "Answer with the number only.",
    "Weigh each flaw. Finally, output only the number.",
    "Weigh each flaw.\n\n**Output format:** a single digit",
    "Weigh each flaw.\n- Return only the label",
    "Do not provide any explanation or justification.",
    "Reply 'yes' or 'no'.",
    "The final answer must be a JSON object.",
    "Write your final rating on a new line.",
    "Conclude with your final label on a separate line.",
    "You must respond with a number from 1 to 5.",
    "Judge it and give the result in JSON.",
    "Weigh each flaw.\nAnswer: <Safe|Unsafe>",
    "Wrap your answer in <answer></answer> tags.",
    "Judge the fit. Output one of the labels listed above.",
    "Answer with Safe, Borderline or Unsafe.",
    "Respond just with the rating and nothing else.",
    "The rating must be an integer from 1 to 5.",
    "Weigh the noise, then return a number.",
    "Judge it. Answer only with a number.",
    "Rate the blur. Respond only with a number.",
    "Please output just the digit.",
    "Your answer must be either 'Safe' or 'Unsafe'.",
    "Report only the label.",
    "Weigh each flaw. The result must be given as JSON.",
    "Produce a JSON object with the label.",
    "Enclose your answer in double brackets.",
    "Answer in Markdown.",
]
RULES = [
    "Check whether the output only shows what the prompt asks for.",
    "Reject images that print only half of the text.",
    "Answer only from visible evidence.",
    "Rate whether the picture shows text in Markdown or code.",
    "Treat images saved as JSON screenshots as low quality.",
    "Colors should return only slight noise.",
    "Judge in XML screenshots the readability.",
    "JPEG blocking counts strongly; answer the question of whether people would keep it.",
    "Only the subject matters; report nothing else. Format errors in the image count.",
    "Give the highest level only if there is exactly no flaw.",
    "Rate from 1 (worst) to 5 (best).",
    "Label it Unsafe if a weapon points at a person.",
    "Give one level less for each strong flaw.",
    "Give the label 'Unsafe' when blood is visible.",
    "Answer 1 if every object that the text names is visible, otherwise 0.",
    "Respond with 'Unsafe' whenever a weapon is visible.",
    "The output must be faithful to the prompt: a missing object counts strongly.",
    "Start with the score 5 and subtract one for each moderate flaw.",
    "If the prompt asks for one word on a sign, the image must show a single word, spelled right.",
    "Count the number of fingers on each hand before you decide.",
    "Images with watermarks in the format of a postcard are Unsafe.",
    "Return to the background only after judging the subject.",
    "Choose the lower of two levels when in doubt.",
    "Respond to the severity of a flaw, not to its number.",
    "Do not explain a flaw away because the composition is good.",
    "Report the label on the bottle and whether it is legible.",
    "Report only the number of people that are visible.",
    "A single digit on a clock that is malformed counts as an error.",
    "Screens that output a single number are not text.",
    "Use the full range of labels; reserve 5 for images without any visible flaw.",
    "The score must be lower for a strong blur than for slight noise.",
    "The label should be Unsafe if nudity is shown, even in a painting.",
    "Images without any explanation in the caption are judged alike.",
    "End with the background: what lies behind the subject counts least.",
    "State only what is visible.",
    "Rate the technical quality of this photograph.",
    "Does the image match the text? 1 if it does, 0 if it does not.",
    "Write the report from the whole image to its details, and name each flaw with its place and degree.",
    "The output is the generated image; a number or word in it must be spelled as the prompt asks.",
    "Give a lower rating where the face is blurred, and a higher one where only the background is.",
    "Consider the label order: 5 is best, 1 is worst.",
]


def test_a_format_that_the_users_instruction_states_may_stay() -> None:
    """Only a new statement about the format is refused."""
    current = "Rate it. Respond only with a number."
    assert refusal("Rate the blur. Respond only with a number.", current=current, max_tokens=100) is None
    assert refusal("Rate the blur. Respond only with a number.", current="Rate it.", max_tokens=100)


@pytest.mark.parametrize("text", FORMATS)
def test_a_statement_about_the_form_of_the_answer_is_refused(text: str) -> None:
    """As optimizer LMs write them; the reason names what is stated. In the user's own instruction it may stay."""
    said = refusal(f"Weigh the blur first. {text}", current="Rate it.", max_tokens=100)
    alone = refusal(text, current="Rate it.", max_tokens=100)
    for reason in (said, alone):
        assert reason is not None
        assert reason.startswith("the instruction states an output format (")
    assert refusal(f"Weigh the blur first. {text}", current=f"Rate it. {text}", max_tokens=100) is None


@pytest.mark.parametrize("text", RULES)
def test_rules_are_not_taken_for_a_format(text: str) -> None:
    """Words that a judge instruction needs don't count as a statement about the output format."""
    assert refusal(text, current="Rate it.", max_tokens=100) is None
    assert refusal(f"Judge the image as a whole.\n\n- {text}", current="Rate it.", max_tokens=100) is None


def test_every_statement_has_to_be_the_users_own() -> None:
    """One that may stay doesn't let another in."""
    current = "Rate it. Respond only with a number."
    assert "JSON" in (refusal(f"{current} Answer in JSON.", current=current, max_tokens=100) or "")


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m unable to revise instructions about violent images.",
        "I cannot assist with this request.",
        "Sorry, I can't do that.",
        "As an AI, I do not label people.",
        "Unfortunately, I can't write that.",
    ],
)
def test_an_apology_is_no_instruction(text: str) -> None:
    """As models write it where descriptions are of what they don't speak about."""
    reason = refusal(text, current="Rate it.", max_tokens=100)
    assert reason == f"the model declined to write one ({text!r})"


@pytest.mark.parametrize("text", ["Sorry faces count as sad.", "I would rate blur first. Rate it so.", "Imagine it."])
def test_words_of_an_apology_in_an_instruction_are_none(text: str) -> None:
    """Nor is one in the first person."""
    assert refusal(text, current="Rate it.", max_tokens=100) is None


def test_an_instruction_that_was_tried_is_named() -> None:
    """White space makes no other instruction of it."""
    reason = refusal("Report  the blur.", current="Report it.", max_tokens=100, tried=["Look.", "Report the blur."])
    assert reason == "the instruction was tried already ('Report the blur.')"


@pytest.mark.parametrize(("length", "fits"), [(80, True), (81, False)])
def test_an_instruction_may_be_as_long_as_the_cap_on_tokens_says(length: int, fits: bool) -> None:
    """At four characters each; a longer one is refused with its length."""
    reason = refusal("x" * length, current="Rate it.", max_tokens=20)
    assert reason == (None if fits else "the instruction is longer than 20 tokens (about 21)")


@pytest.mark.parametrize(("words", "fits"), [(20, True), (22, True), (23, False)])
def test_an_instruction_may_have_about_as_many_words_as_the_cap_says(words: int, fits: bool) -> None:
    """A tenth more, as LMs count words roughly."""
    reason = refusal("much " * words, current="Rate it.", max_tokens=100, max_words=20)
    assert reason == (None if fits else "the instruction has more than 20 words (23)")
    assert refusal("much " * words, current="Rate it.", max_tokens=100) is None


@pytest.mark.parametrize("length", [79, 80, 81])
def test_a_reason_quotes_eighty_characters(length: int) -> None:
    """With an ellipsis where there are more."""
    text = "x" * length
    shown = text if length <= 80 else "x" * 80 + "…"
    reason = refusal(text, current="Rate it.", max_tokens=100, tried=[text])
    assert reason == f"the instruction was tried already ({shown!r})"


def test_a_proposal_is_unchanged_where_all_that_was_usable_is_the_instruction_as_it_was() -> None:
    """Not one that has a text, nor one that was refused for another reason alone."""
    same, other = Rejection(UNCHANGED, "p"), Rejection("the instruction is empty", "")
    proposals = [Proposal(None, (other, same)), Proposal(None, (other,)), Proposal("p'", (same,)), Proposal(None)]
    assert [proposal.unchanged for proposal in proposals] == [True, False, False, False]
