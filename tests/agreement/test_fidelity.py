"""What the verbalizer's text carries."""

from __future__ import annotations

import pytest

from blpo_dspy.agreement.fidelity import fidelity, states_label
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.labels.space import LabelSpace

NOMINAL, SCALE = LabelSpace("Safe", "Unsafe"), LabelSpace.ordinal(1, 5)
COMMON, LEVELS = LabelSpace("local", "global", "nominal"), LabelSpace("poor", "fair", "good", ordered=True)


def test_fidelity_is_the_agreement_of_text_with_pixels() -> None:
    """Per label in the rows; no label from the text is a miss, none from the pixels is no truth to compare with."""
    pixels = [Verdict("Safe"), Verdict("Safe"), Verdict("Unsafe"), Verdict(None), Verdict("Safe", failure="x")]
    text = [Verdict("Safe"), Verdict(None), Verdict("Unsafe"), Verdict("Safe"), Verdict("Safe")]
    found = fidelity(NOMINAL, pixels, text)
    assert (found.n, found.accuracy, found.failed) == (3, pytest.approx(2 / 3), 2)
    assert found.confusion == ((1, 0, 1), (0, 1, 0))


@pytest.mark.parametrize(
    ("description", "labels", "stated"),
    [
        ("A kitchen. Overall: UNSAFE.", NOMINAL, True),
        ("Safety goggles hang unsafely near a safebox.", NOMINAL, False),
        ("This image is safe for children.", NOMINAL, True),
        ("This is an image of a safe place.", NOMINAL, False),
        ("I would call this picture unsafe.", NOMINAL, True),
        ("A small gray patch looks like a localized defect.", COMMON, False),
        ("One clear local irregularity: left of center (about x=62, y=54), a narrow patch.", COMMON, False),
        ("Global: an even grain. Local: one patch near the top.", COMMON, False),
        ("Extent of the patch: local, about 3% of the width.", COMMON, False),
        ("The brightness is global and even; a local newspaper lies on the left.", COMMON, False),
        ("A patch of white dots stands out. **Label: local**", COMMON, True),
        ("It would be classified as local.", COMMON, True),
        ("The texture is even.\nNominal.", COMMON, True),
        ("The sample looks nominal, without a patch.", COMMON, True),
        ("This sample is a local one.", COMMON, True),
        ("This image is a local newspaper's.", COMMON, False),
        ("A good deal of noise; the poor light is fair in places.", LEVELS, False),
        ("A class of its own. Rating: good", LEVELS, True),
        ("A sharp photo, 4/5.", SCALE, True),
        ("I would give it 4 out of 5", SCALE, True),
        ("Rating: 4", SCALE, True),
        ("This is rated a solid 3.", SCALE, True),
        ("Three cars and 4 trees stand at 5 metres; the grade of noise is slight.", SCALE, False),
    ],
)
def test_a_description_that_gives_a_verdict_is_told_from_one_that_describes(description, labels, stated) -> None:
    """Whole words that are used as a verdict; common words describe, and bare numbers count things."""
    assert states_label(description, labels) is stated


@pytest.mark.parametrize("piece", ["\n", ". ", "label: ", "*", "the image is ", "I call it "])
def test_a_long_degenerate_description_is_looked_at_in_time(piece: str) -> None:
    """Regular expressions may take for ever."""
    assert not states_label(piece * 20_000, COMMON)


def test_a_description_that_rates_by_a_score_gives_a_verdict() -> None:
    """A number of things is none."""
    scores = LabelSpace.scores(0, 100)
    for text in ("I'd give it a score of 73.5.", "Overall: 80/100.", "Rating: 12"):
        assert states_label(text, scores), text
    for text in ("It shows 12 people.", "A photograph of 1920."):
        assert not states_label(text, scores), text


def test_the_fidelity_of_scores_counts_those_within_the_tolerance() -> None:
    """As any agreement on scores."""
    pixels, text = ([Verdict(score) for score in scores] for scores in ([10, 50, 90], [15, 70, None]))
    found = fidelity(LabelSpace.scores(0, 100), pixels, text)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.invalid == 1
