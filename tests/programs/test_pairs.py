"""Pairs of images: swapped, mirrored, balanced, and judged in both orders."""

from __future__ import annotations

import base64
import copy
import io
import json
from collections import Counter
from typing import Any

import dspy
import pytest
from engines import Seen
from hypothesis import given
from hypothesis import strategies as st
from judges import judge_with, picture, seen_by
from PIL import Image

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import ArtifactError, BlpoError
from blpo_dspy.programs import VisualJudge
from blpo_dspy.programs.pairs import BothOrders, asked_in, mirrored, to_swap

PAIR, FORCED = LabelSpace.pairwise("A", "B", tie="tie"), LabelSpace.pairwise("A", "B")
IMAGES = ("left", "right")


def greys(seen: Seen) -> list[int]:
    """The greys of the images of a request, in its order."""
    opened = (Image.open(io.BytesIO(base64.b64decode(image))) for image in seen.images)
    return [int(image.convert("L").getpixel((0, 0))) for image in opened]  # type: ignore[arg-type]


def brighter(seen: Seen) -> Any:
    """Prefers the brighter image, and of two like ones the first."""
    first, second = greys(seen)
    return {"label": "B" if second > first + 20 else "A"}


def pair_judge(script: Any = brighter, labels: LabelSpace = PAIR, **options: Any) -> VisualJudge:
    """A judge of pairs."""
    return judge_with(script, labels, **{"images": IMAGES, "evidence": "image", **options})


@pytest.mark.parametrize("images", [("image",), ("a", "b", "c"), ("a", "b: list[dspy.Image]")])
def test_labels_of_pairs_need_two_images(images: tuple[str, ...]) -> None:
    """One each; the error says what to write."""
    with pytest.raises(BlpoError, match=r"compare two images, but the image inputs are .*; name two with images=…"):
        VisualJudge(PAIR, instruction="Which is better?", images=images)


def test_a_plain_call_shows_the_pair_in_the_order_given() -> None:
    """One call, with both images."""
    judge = pair_judge()
    assert judge(left=picture(10), right=picture(200)).label == "B"
    (seen,) = seen_by(judge)
    assert greys(seen) == [10, 200]
    assert "A (the first image), B (the second image), tie (neither)" in seen.system


@pytest.mark.parametrize(
    ("left", "right", "tied", "forced", "inconsistent"),
    [(10, 200, "B", "B", False), (200, 10, "A", "A", False), (100, 110, "tie", None, True)],
)
def test_the_label_is_the_one_on_which_both_orders_agree(
    left: int, right: int, tied: str, forced: str | None, inconsistent: bool
) -> None:
    """Else the tie, or none where the labels have none."""
    for labels, expected in ((PAIR, tied), (FORCED, forced)):
        judge = pair_judge(labels=labels)
        found = BothOrders(judge)(left=picture(left), right=picture(right))
        assert (found.label, found.inconsistent) == (expected, inconsistent)
        assert found.answer == ("A / in the other order: A" if inconsistent else expected)
        assert [greys(seen) for seen in seen_by(judge)] == [[left, right], [right, left]]


def test_an_answer_without_a_label_in_one_order_is_no_flip() -> None:
    """It is invalid: nobody knows what the judge would have said."""
    found = BothOrders(pair_judge(lambda seen: "who knows" if greys(seen)[0] > 100 else {"label": "A"}))
    prediction = found(left=picture(10), right=picture(200))
    assert (prediction.label, prediction.inconsistent) == (None, None)
    assert prediction.answer == "A / in the other order: who knows"


def test_only_pairs_are_asked_about_twice() -> None:
    """And only where both orders are wanted."""
    assert [asked_in(PAIR), asked_in(PAIR, "one"), asked_in(LabelSpace("a", "b"))] == [2, 1, 1]
    with pytest.raises(BlpoError, match="orders='two' is unknown; choose one of both, one"):
        asked_in(PAIR, "two")


@pytest.mark.slow
@given(st.lists(st.sampled_from(PAIR.labels), max_size=40), st.integers(0, 99))
def test_half_of_each_label_is_swapped(labels: list[Any], seed: int) -> None:
    """Of an odd number one more or one less; the same seed draws the same."""
    chosen = to_swap(labels, seed, "train")
    assert chosen == to_swap(labels, seed, "train")
    swapped = Counter(labels[i] for i in chosen)
    assert all(abs(2 * swapped[label] - count) <= 1 for label, count in Counter(labels).items())


def test_a_mirrored_pair_mirrored_again_is_as_it_was() -> None:
    """Images and label change together; further inputs stay."""
    left, right = dspy.Image(picture(1)), dspy.Image(picture(2))
    example = dspy.Example(left=left, right=right, prompt="a cat", label="A").with_inputs("left", "right", "prompt")
    other = mirrored(example, PAIR)
    assert (other.left, other.right, other.prompt, other.label) == (right, left, "a cat", "B")
    assert mirrored(other, PAIR) == example
    with pytest.raises(BlpoError, match="it has the image inputs left; a pair has two, each one image"):
        mirrored(dspy.Example(left=left, label="A").with_inputs("left"), PAIR)


def test_a_judge_of_pairs_survives_its_file(tmp_path: Any) -> None:
    """With its labels; the file of any other judge says nothing about pairs."""
    judge = pair_judge()
    judge.save(tmp_path / "judge.json")
    loaded = VisualJudge.load(tmp_path / "judge.json")
    assert (loaded.labels, loaded.images) == (PAIR, IMAGES)
    assert loaded.labels != LabelSpace("A", "B", "tie")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": ["left"]}, "compare two images"),
        ({"labels": {"kind": "pairwise", "labels": ["A", "B", "tie", "both"]}}, "labels of pairs are two"),
        ({"labels": {"kind": "pairs", "labels": ["A", "B"]}}, "not a label space"),
    ],
)
def test_a_file_that_is_no_judge_of_pairs_is_refused(change: dict[str, Any], said: str, tmp_path: Any) -> None:
    """With what is wrong in it."""
    path = tmp_path / "judge.json"
    pair_judge().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=said):
        VisualJudge.load(path)


def test_a_copied_judge_of_pairs_is_checked_as_it_is_taken_over() -> None:
    """A copy is equal; one whose labels were changed is refused."""
    judge = pair_judge()
    assert judge.deepcopy().labels == PAIR
    broken = copy.copy(PAIR)
    object.__setattr__(broken, "labels", ("A", "B", "tie", "both"))
    judge.labels = broken
    with pytest.raises(ArtifactError, match="labels of pairs are two"):
        copy.deepcopy(judge)


@pytest.mark.parametrize(
    ("script", "label", "confidence", "escalate"),
    [
        (brighter, "B", 1.0, False),
        (lambda seen: {"label": "A"}, "tie", 0.0, True),
        (lambda seen: "who knows", None, 0.0, True),
    ],
)
def test_the_confidence_in_a_pair_is_that_of_both_orders(
    script: Any, label: Any, confidence: float, escalate: bool
) -> None:
    """The lower one, and none where they disagree; a calibrated judge escalates that whatever its threshold."""
    judge = pair_judge(script).confident("votes", votes=2)
    found = BothOrders(judge)(left=picture(0), right=picture(200))
    assert (found.label, found.confidence, "escalate" in found) == (label, confidence, False)
    found = BothOrders(judge.calibrated(0.0))(left=picture(0), right=picture(200))
    assert found.escalate is escalate
