"""Tests of the two signatures: which fields there are, in which order, and how they are stated in the prompt."""

from __future__ import annotations

import dspy
import pytest

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs import JudgeImage, VerbalizeImage
from blpo_dspy.programs.signatures import default_verbalizer_instruction, judge_signature, verbalize_signature

SAFETY = LabelSpace("Safe", "Unsafe")
WITH_PROMPT = InputFields.of(context=["prompt"])


def test_the_verbalizer_takes_image_and_context_and_gives_a_description() -> None:
    """The image comes first, then the context in the order given."""
    signature = verbalize_signature("Look at the sky.", InputFields.of(context=("prompt", "title")))
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
    signature = judge_signature("Judge.", SAFETY, WITH_PROMPT, evidence=evidence, reasoning=reasoning)
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
    signature = judge_signature("Judge.", labels, InputFields(), evidence="image", reasoning=False)
    prompt = dspy.ChatAdapter().format(signature, [], {"image": dspy.Image("https://example.org/a.png")})
    assert f"`label` (str): one of the labels and nothing else: {stated}" in prompt[0]["content"]


def test_the_base_signatures_are_not_changed() -> None:
    """Signatures are made from the two public ones, which stay as they are."""
    verbalize_signature("Other.", WITH_PROMPT)
    judge_signature("Other.", SAFETY, WITH_PROMPT, evidence="both", reasoning=True)
    assert list(VerbalizeImage.fields) == ["image", "description"]
    assert list(JudgeImage.fields) == ["label"]
    assert VerbalizeImage.instructions == default_verbalizer_instruction(InputFields())


def test_each_of_several_images_is_a_field_of_its_own() -> None:
    """The verbalizer and the judge take them in order, with the type and the name that each has."""
    fields = InputFields.of(["candidate", "views: list[dspy.Image]"], ["prompt"])
    verbalizer = verbalize_signature("Report.", fields)
    judge = judge_signature("Judge.", SAFETY, fields, evidence="both", reasoning=False)
    assert list(verbalizer.input_fields) == ["candidate", "views", "prompt"]
    assert list(judge.input_fields) == ["candidate", "views", "prompt", "description"]
    for signature in (verbalizer, judge):
        assert signature.input_fields["candidate"].annotation is dspy.Image
        assert signature.input_fields["views"].annotation == list[dspy.Image]


def test_several_images_in_another_order_are_other_fields() -> None:
    """DSPy compares states by the descriptions of fields, so that these name the input."""
    described = [
        [field.json_schema_extra["desc"] for field in verbalize_signature("Q.", InputFields.of(names)).fields.values()]
        for names in (["left", "right"], ["right", "left"])
    ]
    assert described[0] != described[1]
