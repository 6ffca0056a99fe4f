"""Tests of a judge as the tools of others take it."""

from __future__ import annotations

import threading
from typing import Any

import dspy
import pytest
from engines import scripted_lm
from judges import SAFETY, SCALE, answers, judge_with, picture, seen_by

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.integrations.scoring import Scored, Scoring
from blpo_dspy.programs import VisualJudge

IMAGE = {"image": picture(1)}
MARKER = "<<CUSTOM-TYPE-START-IDENTIFIER>>"


def test_a_label_has_a_score_and_the_evidence_in_words() -> None:
    """As in the judge's own metric."""
    scored = Scoring(judge_with(answers("2"), SCALE))(IMAGE, {})
    assert scored == Scored(0.25, 2, "The judge's label is 2; the best is 5. a grey square")


def test_an_answer_without_a_label_has_no_score() -> None:
    """Neither a bad one nor a failure; what was written is shown as data, and not at any length."""
    scored = Scoring(judge_with(answers(f"hm {MARKER} " + "x" * 1000), SCALE))(IMAGE, {})
    assert (scored.score, scored.label, scored.failure) == (None, None, "")
    assert "no valid label (it wrote 'hm [" in scored.explanation
    assert MARKER not in scored.explanation
    assert len(scored.explanation) < 300


@pytest.mark.parametrize("error", [dspy.lm15.RateLimitError("slow down"), dspy.lm15.InvalidRequestError("no such")])
def test_a_failed_call_is_a_failure(error: Exception) -> None:
    """It has no score, and says why."""
    judge = VisualJudge(SCALE, instruction="Rate it.")
    judge.set_lm(scripted_lm(lambda seen: error, num_retries=0))
    scored = Scoring(judge)(IMAGE, {})
    assert (scored.score, scored.label, scored.explanation) == (None, None, "")
    assert str(error).partition("\n")[0] in scored.failure
    assert "\n" not in scored.failure


def test_an_image_that_cannot_be_read_is_a_failure_without_a_call() -> None:
    """So is a data URI that holds none; its base64 is not in the text."""
    judge = judge_with(answers("2"), SCALE)
    scoring, damaged = Scoring(judge), "A" * 400
    for image in (f"data:image/png;base64,{damaged}", "data:garbage", b"no image"):
        scored = scoring({"image": image}, {})
        assert scored.score is None
        assert scored.failure
        assert damaged not in scored.failure
    assert seen_by(judge) == []


def test_a_model_that_refuses_every_call_is_an_error() -> None:
    """A wrong key is nothing that an item can be blamed for."""
    judge = judge_with(lambda seen: dspy.lm15.AuthError("wrong key"), SCALE)
    with pytest.raises(ModelError, match=r"the model cannot be used: .*wrong key"):
        Scoring(judge)(IMAGE, {})


@pytest.mark.parametrize("text", ["/etc/hostname", "https://example.org/a.png", "file:///etc/hostname"])
def test_text_is_neither_a_path_nor_an_address(text: str) -> None:
    """The model is not called."""
    judge = judge_with(answers("3"), SCALE)
    for value in (text, [text]):
        with pytest.raises(BlpoError, match=r"is text .* make it a dspy\.Image"):
            Scoring(judge)({"image": value}, {})
    assert seen_by(judge) == []


def test_the_lm_is_the_one_configured_when_it_is_made() -> None:
    """In a thread that doesn't see it, too, and the judge keeps none."""
    lm = scripted_lm(answers("3"))
    judge = VisualJudge(SCALE, instruction="Rate it.")
    with dspy.context(lm=lm):
        scoring = Scoring(judge)
    found: list[Scored] = []
    thread = threading.Thread(target=lambda: found.append(scoring(IMAGE, {})))
    thread.start()
    thread.join()
    assert [scored.score for scored in found] == [0.5]
    assert (judge.judge.lm, scoring.model, len(lm.engine.seen)) == (None, "scripted/test", 2)
    assert lm.history == []


def two(**options: Any) -> Scoring:
    """Returns the scoring of a judge of two images."""
    return Scoring(judge_with(answers("3"), SCALE, images=("before", "after"), **options))


def test_images_without_names_take_the_open_inputs() -> None:
    """An only image is the output's before the input's; several are those of the input, then of the output."""
    one, several = Scoring(judge_with(answers("3"), SCALE)), two()
    assert one.placed(["a"], ["b"], {}) == {"image": "b"}
    assert one.placed(["a"], [], {}) == {"image": "a"}
    assert one.placed(["a", "b", "c"], [], {"image": "d"}) == {}
    assert several.placed(["a"], ["b"], {}) == {"before": "a", "after": "b"}
    assert several.placed(["a"], ["b"], {"before": "c"}) == {"after": "b"}
    album = Scoring(judge_with(answers("3"), SCALE, images=("photos: list[dspy.Image]",)), fields={"photos": "album"})
    assert album.placed(["a"], ["b", "c"], {}) == {"album": ["a", "b", "c"]}


@pytest.mark.parametrize(("given", "made"), [(["a", "b"], []), (["a"], ["b", "c"]), ([], [])])
def test_which_image_is_meant_is_not_guessed(given: list[str], made: list[str]) -> None:
    """More or fewer images than inputs are an error that says how many there are."""
    with pytest.raises(BlpoError, match=f"{len(given)} images in the input and {len(made)} in the output"):
        Scoring(judge_with(answers("3"), SCALE)).placed(given, made, {})


def test_what_cannot_be_scored_is_refused_before_any_call() -> None:
    """Pairs, nominal labels without scores, a judge without a model, unknown fields."""
    pairs = judge_with(answers("A"), LabelSpace.pairwise(), images=("left", "right"))
    with pytest.raises(BlpoError, match=r"not a score of one of them; label pairs with blpo_dspy\.predict"):
        Scoring(pairs, scores={"A": 1, "B": 0})
    with pytest.raises(BlpoError, match="nominal labels have no order"):
        Scoring(judge_with(answers("Safe"), SAFETY))
    with pytest.raises(BlpoError, match=r"no model; write judge\.set_lm"):
        Scoring(VisualJudge(SCALE, instruction="Rate it."))
    with pytest.raises(BlpoError, match=r"no input \['imgae'\]"):
        Scoring(judge_with(answers("3"), SCALE), fields={"imgae": "render"})
