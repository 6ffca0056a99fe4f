"""The probabilities of the engine's answers are those of its own noise."""

from __future__ import annotations

import math

import dspy
from photographs import photographs, student

from blpo_dspy.embedded.engine import embedded_lm
from blpo_dspy.embedded.likelihood import DRAWS, log_probabilities
from blpo_dspy.embedded.sight.senses import Traits


def test_a_word_is_as_probable_as_draws_repeat_it() -> None:
    """Given the words before it; the answer itself is one of the draws."""
    found = log_probabilities("a b c", ["a b c", "a b d", "a x c"])
    assert [token.token for token in found] == ["a", " b", " c"]
    assert [math.exp(token.logprob) for token in found] == [1.0, 3 / 4, 2 / 3]
    assert all(bytes(token.bytes or ()).decode() == token.token for token in found)


def test_no_probability_is_zero_and_none_of_no_text() -> None:
    """An answer that no other draw repeats has that of one in all."""
    assert math.isclose(math.exp(log_probabilities("a", ["b"] * DRAWS)[0].logprob), 1 / (1 + DRAWS))
    assert log_probabilities("", ["a"]) == ()


def test_the_probability_of_a_label_is_its_share_among_seeds() -> None:
    """Over 40 seeds that the engine is really asked with, within what so few draws can tell; noise makes it unsure."""
    judge = student(evidence="image", instruction="Treat colour cast as decisive. Count blur strongly.")
    images = [example.image for example in photographs()["testset"]][:4]
    lm = embedded_lm(traits=Traits(judging_noise=0.3), cache=False)
    doubting = judge.confident("logprobs")
    unsure = 0
    for image in images:
        with dspy.context(lm=lm):
            found = doubting(image)
        labels = []
        for seed in range(40):
            with dspy.context(lm=lm.copy(seed=seed)):
                labels.append(judge(image).label)
        share = labels.count(found.label) / len(labels)
        assert abs(found.confidence - share) < 0.3
        unsure += found.confidence < 0.9
    assert unsure


def test_without_noise_an_answer_is_certain_and_unasked_there_are_none() -> None:
    """And the answer is the same either way."""
    lm = embedded_lm(traits=Traits(judging_noise=0.0), cache=False)
    image = photographs()["testset"][0].image
    with dspy.context(lm=lm):
        judge = student(evidence="image")
        sure = judge.confident("logprobs")(image)
        assert (sure.confidence, sure.label) == (1.0, judge(image).label)
    assert isinstance(lm("Describe the image.")[0], str)
