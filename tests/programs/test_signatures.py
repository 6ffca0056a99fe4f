"""Tests of the two signatures: which fields there are, in which order, and how they are stated in the prompt."""

from __future__ import annotations

import dspy
import pytest

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs import JudgeImage, VerbalizeImage
from blpo_dspy.programs.signatures import DEFAULT_VERBALIZER_INSTRUCTION, judge_signature, verbalize_signature

SAFETY = LabelSpace("Safe", "Unsafe")


def test_the_verbalizer_takes_image_and_context_and_gives_a_description() -> None:
    """The image comes first, then the context in the order given."""
    signature = verbalize_signature("Look at the sky.", ("prompt", "title"))
    assert list(signature.input_fields) == ["image", "prompt", "title"]
    assert list(signature.output_fields) == ["description"]
    assert signature.input_fields["image"].annotation is dspy.Image
    assert signature.instructions == "Look at the sky."


@pytest.mark.parametrize(
    ("evidence", "inputs"),
    [
        ("both", ["image", "prompt", "description"]),
        ("image", ["image", "prompt"]),
        ("description", ["prompt", "description"]),
    ],
)
@pytest.mark.parametrize("reasoning", [False, True])
def test_the_judge_reads_its_evidence_and_the_context(evidence: str, inputs: list[str], reasoning: bool) -> None:
    """Only the image, only its description, or both; reasoning comes before the label."""
    signature = judge_signature("Judge.", SAFETY, ("prompt",), evidence=evidence, reasoning=reasoning)
    assert list(signature.input_fields) == inputs
    assert list(signature.output_fields) == (["reasoning", "label"] if reasoning else ["label"])


@pytest.mark.parametrize(
    ("labels", "stated"),
    [
        (SAFETY, "Safe, Unsafe"),
        (LabelSpace.ordinal(1, 5), "a whole number from 1 to 5"),
        (LabelSpace("poor", "fair", "good", ordered=True), "poor, fair, good (lowest to highest)"),
    ],
)
def test_the_labels_are_stated_in_the_prompt(labels: LabelSpace, stated: str) -> None:
    """The closed set stands in the description of the answer, so the instruction needn't state it."""
    signature = judge_signature("Judge.", labels, (), evidence="image", reasoning=False)
    prompt = dspy.ChatAdapter().format(signature, [], {"image": dspy.Image("https://example.org/a.png")})
    assert f"`label` (str): one of the labels and nothing else: {stated}" in prompt[0]["content"]


def test_the_base_signatures_are_not_changed() -> None:
    """Signatures are made from the two public ones, which stay as they are."""
    verbalize_signature("Other.", ("prompt",))
    judge_signature("Other.", SAFETY, ("prompt",), evidence="both", reasoning=True)
    assert list(VerbalizeImage.fields) == ["image", "description"]
    assert list(JudgeImage.fields) == ["label"]
    assert VerbalizeImage.instructions == DEFAULT_VERBALIZER_INSTRUCTION
