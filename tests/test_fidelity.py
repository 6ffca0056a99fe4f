"""What the verbalizer's text carries."""

from __future__ import annotations

import pytest

from blpo_dspy.fidelity import fidelity, states_label
from blpo_dspy.labelling import Verdict
from blpo_dspy.labels import LabelSpace

NOMINAL, SCALE = LabelSpace("Safe", "Unsafe"), LabelSpace.ordinal(1, 5)


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
        ("A sharp photo, 4/5.", SCALE, True),
        ("I would give it 4 out of 5", SCALE, True),
        ("Rating: 4", SCALE, True),
        ("This is rated a solid 3.", SCALE, True),
        ("Three cars and 4 trees stand at 5 metres; the grade of noise is slight.", SCALE, False),
    ],
)
def test_a_description_that_gives_a_verdict_is_told_from_one_that_describes(description, labels, stated) -> None:
    """Whole words; bare numbers count things."""
    assert states_label(description, labels) is stated
