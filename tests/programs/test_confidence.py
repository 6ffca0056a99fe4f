"""How sure a judge is: votes, token probabilities and views."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from engines import ScriptedServer, Seen, completion, scripted_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import SAFETY, SCALE, answers, judge_with, picture, seen_by
from worlds import TRAIN, VALIDATION, student, world

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded.engine import embedded_lm
from blpo_dspy.errors import ArtifactError, BlpoError, ModelError
from blpo_dspy.optimizers.blpo.algorithm import BLPO
from blpo_dspy.programs import VisualJudge
from blpo_dspy.programs.confidence import Confidence, elected, label_probability, share_agreeing

IMAGE = picture()


def in_turn(*labels: str) -> Any:
    """A script that gives one label after the other, and always the same description."""
    lock, left = threading.Lock(), itertools.cycle(labels)

    def script(seen: Seen) -> Any:
        with lock:
            return {"description": "grey"} if seen.fields == ["description"] else {"label": next(left)}

    return script


# Votes


def test_the_confidence_of_votes_is_the_share_of_the_majority() -> None:
    """Of five answers, and of as many as are asked for; each is a request of its own at the temperature."""
    judge = judge_with(in_turn("Safe", "Unsafe", "Unsafe", "Safe", "Unsafe"), evidence="image").confident()
    found = judge(IMAGE)
    assert (found.label, found.confidence) == ("Unsafe", 0.6)
    assert "escalate" not in found
    configs = [seen.request.config for seen in seen_by(judge)]
    assert [config.temperature for config in configs] == [1.0] * 5
    assert len({config.seed for config in configs}) == 5
    assert judge.confident(votes=3, temperature=0.7).calls_per_image == 3


def test_the_verbalizer_is_asked_once() -> None:
    """All votes read the same description."""
    judge = judge_with(in_turn("Safe"), evidence="both").confident("votes", votes=4)
    assert judge(IMAGE).description == "grey"
    assert [seen.fields for seen in seen_by(judge)] == [["description"], *[["label"]] * 4]
    assert judge.roles == ("verbalizer", "judge", "judge", "judge", "judge")


def test_an_answer_without_a_label_is_a_vote_for_none() -> None:
    """It lowers the confidence, and if there is no other the confidence is 0."""
    judge = judge_with(in_turn("who knows", "Safe", "who knows"), evidence="image").confident(votes=3)
    assert (judge(IMAGE).label, judge(IMAGE).confidence) == ("Safe", 1 / 3)
    clueless = judge_with(in_turn("who knows"), evidence="image").confident()
    assert (clueless(IMAGE).label, clueless(IMAGE).confidence) == (None, 0.0)


def test_equal_votes_are_decided_by_the_first() -> None:
    """Whatever comes after it."""
    judge = judge_with(in_turn("Unsafe", "Safe", "Safe", "Unsafe"), evidence="image").confident(votes=4)
    assert (judge(IMAGE).label, judge(IMAGE).confidence) == ("Unsafe", 0.5)


def test_scores_agree_within_their_tolerance() -> None:
    """The score that most others are close to is elected."""
    scores = LabelSpace.scores(0, 100, tolerance=5)
    assert elected(scores, [10, 50, 53, 47, None]) == (1, 0.6)


@settings(max_examples=25)
@given(st.lists(st.sampled_from([1, 2, 3, None]), min_size=1, max_size=9))
def test_the_majority_is_the_most_frequent_label(votes: list[int | None]) -> None:
    """As counting has it."""
    place, share = elected(SCALE, votes)
    most = max((votes.count(label) for label in (1, 2, 3)), default=0)
    assert share == most / len(votes)
    assert most == 0 or votes.count(votes[place]) == most
    assert share in (*Confidence("votes", max(2, len(votes))).thresholds, 0.0)


def test_an_awaited_judgement_is_the_same() -> None:
    """By each method, on the offline engine."""
    methods: tuple[Any, ...] = ("votes", "logprobs", "views")
    for method in methods:
        judge = VisualJudge(SAFETY, instruction="Judge how safe it is.").confident(method)
        judge.set_lm(embedded_lm(cache=False))
        image = picture(side=64)
        assert dict(asyncio.run(judge.acall(image)).items()) == dict(judge(image).items())


def test_rollouts_are_kept_apart_by_dspys_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same image again costs nothing and gives the same votes."""
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image").confident()
    judge.set_lm(scripted_lm(in_turn("Safe", "Unsafe", "Safe"), name="scripted/rollouts", cache=True))
    first = judge(IMAGE)
    assert len(seen_by(judge)) == 5
    assert dict(judge(IMAGE).items()) == dict(first.items())
    assert len(seen_by(judge)) == 5


# Probabilities


def tokens(*pieces: tuple[str, float]) -> list[dict[str, Any]]:
    """Tokens with their probabilities."""
    return [{"token": text, "logprob": math.log(p), "bytes": list(text.encode())} for text, p in pieces]


@pytest.mark.parametrize(
    ("pieces", "label", "probability"),
    [
        ([("Safe", 0.9)], "Safe", 0.9),
        ([("Un", 0.5), ("safe", 0.8)], "Unsafe", 0.4),
        ([("[[ ## label ## ]]", 0.1), ("\nUn", 0.5), ("safe", 0.8), ("\n\n[[ ## completed ## ]]", 0.1)], "Unsafe", 0.4),
        ([("Safe? ", 0.1), ("[[ ## label ## ]]\n", 0.2), ("Safe", 0.7)], "Safe", 0.7),
        ([('{"label": ', 0.3), ('"', 0.9), ("safe", 0.6), ('"}', 0.2)], "Safe", 0.6),
        ([("**", 0.9), ("4", 0.25), ("**/5", 0.9)], 4, 0.25),
        ([("4", 0.25), (".5", 0.5)], 4, 0.25),
        ([("Unsafe", 0.9)], "Safe", None),
        ([("14", 0.9)], 4, None),
        ([], "Safe", None),
        ([("who", 0.9)], None, 0.0),
    ],
)
def test_the_probability_is_that_of_the_labels_tokens(
    pieces: list[tuple[str, float]], label: Any, probability: float | None
) -> None:
    """Where it stands after the label's header; None where it isn't found."""
    found = label_probability(tokens(*pieces), label)
    assert found == (None if probability is None else pytest.approx(probability))


def test_a_character_over_several_tokens_counts_with_the_last() -> None:
    """As servers write what is no ASCII; a server without bytes gives texts."""
    split = [{"token": "?", "logprob": math.log(0.5), "bytes": [byte]} for byte in "übel".encode()]
    assert label_probability(split, "übel") == pytest.approx(0.5**5)
    plain = [{"token": "übel", "logprob": math.log(0.5), "bytes": None}]
    assert label_probability(plain, "übel") == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_log_probabilities_come_from_the_server(engine: str) -> None:
    """Over HTTP, by either of DSPy's engines."""
    body = completion("[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]")
    content = tokens(("[[ ## label ## ]]\n", 0.5), ("Safe", 0.75), ("\n\n[[ ## completed ## ]]", 0.5))
    body["choices"][0]["logprobs"] = {"content": [{**token, "top_logprobs": []} for token in content]}
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image").confident("logprobs")
    with ScriptedServer(lambda _: (200, body, {})) as server:
        judge.set_lm(dspy.LM("openai/gpt-4o-mini", api_base=server.url, api_key="k", cache=False, engine=engine))
        found = judge(IMAGE)
        assert server.bodies[0]["logprobs"] is True
    assert (found.label, found.confidence) == ("Safe", pytest.approx(0.75))


def test_a_server_without_log_probabilities_is_named() -> None:
    """Before a second image is paid for."""
    judge = judge_with(answers(), evidence="image").confident("logprobs")
    with pytest.raises(ModelError, match=r"returns no log probabilities.*use 'votes' or 'views'"):
        judge(IMAGE)


def test_an_answer_out_of_form_has_no_probability() -> None:
    """DSPy loses its tokens, so that it is escalated."""

    def script(seen: Seen) -> lm15.Response:
        message = lm15.Message.assistant([lm15.TextPart("Safe")])
        scores = (lm15.TokenLogprob("Safe", -0.1),)
        return lm15.Response(
            id="x", model="m", message=message, finish_reason="stop", usage=lm15.Usage(), logprobs=scores
        )

    judge = judge_with(script, evidence="image").confident("logprobs").calibrated(0.5)
    found = judge(IMAGE)
    assert (found.label, found.confidence, found.escalate) == ("Safe", None, True)


# Views


@pytest.mark.parametrize("evidence", ["both", "image", "description"])
def test_views_compare_what_different_evidence_says(evidence: Any) -> None:
    """The label is that of the judge's own evidence; four calls, whatever that is."""

    def script(seen: Seen) -> Any:
        if seen.fields == ["description"]:
            return {"description": "a knife"}
        sees, reads = bool(seen.images), "a knife" in seen.user
        return {"label": "Safe" if sees and not reads else "Unsafe"}

    judge = judge_with(script, evidence=evidence).confident("views")
    found = judge(IMAGE)
    expected = ("Safe", 1 / 3) if evidence == "image" else ("Unsafe", 2 / 3)
    assert (found.label, found.confidence) == expected
    assert len(seen_by(judge)) == judge.calls_per_image == 4


def test_a_judge_without_a_label_has_no_views_that_agree() -> None:
    """And those without a label agree with none."""
    assert share_agreeing(SAFETY, None, ["Safe", None]) == 0.0
    assert share_agreeing(SAFETY, "Safe", ["Safe", None]) == 2 / 3


# The judge around them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "stated"}, "confidence 'stated' is unknown; choose one of votes, logprobs, views"),
        ({"votes": 1}, "votes=1 is too small"),
        ({"votes": 101}, "votes=101 is too large"),
        ({"votes": 2.5}, "votes=2.5 is not a whole number"),
        ({"temperature": 0}, "temperature=0: repeated answers need a temperature above 0"),
        ({"temperature": 2.1}, "temperature=2.1"),
        ({"temperature": "hot"}, "temperature='hot' is not a number"),
    ],
)
def test_an_impossible_confidence_is_refused(options: Any, message: str) -> None:
    """Before any call."""
    with pytest.raises(BlpoError, match=message):
        judge_with(answers()).confident(**options)


def test_a_copy_has_the_confidence_and_the_judge_hasnt() -> None:
    """Its LM is the same, and None takes the confidence away again."""
    judge = judge_with(answers(), evidence="image")
    doubting = judge.confident()
    assert (judge.confidence, doubting.judge.lm) == (None, judge.judge.lm)
    assert "confidence" not in judge(IMAGE)
    plain = doubting.calibrated(0.5, {"n": 3}).confident(None)
    assert (plain.confidence, plain.threshold, plain.card) == (None, None, {})
    assert plain.identity() == judge.identity() != doubting.identity()


def test_a_calibrated_judge_escalates_below_its_threshold() -> None:
    """And an answer without a label in any case."""
    judge = judge_with(in_turn("Safe", "Unsafe"), evidence="image").confident(votes=2)
    assert judge.calibrated(0.5)(IMAGE).escalate is False
    assert judge.calibrated(0.6)(IMAGE).escalate is True
    assert judge_with(in_turn("?"), evidence="image").confident().calibrated(0.0)(IMAGE).escalate is True
    for threshold in (-0.1, 1.1, "0.5", float("nan")):
        with pytest.raises(BlpoError, match="is not a number from 0 to 1"):
            judge.calibrated(threshold)  # type: ignore[arg-type]
    with pytest.raises(BlpoError, match="this judge has no confidence"):
        judge.confident(None).calibrated(0.5)


def test_it_is_judged_in_batches_and_in_larger_programs() -> None:
    """It is a module like any other."""

    class Larger(dspy.Module):
        def __init__(self, judge: VisualJudge) -> None:
            super().__init__()
            self.judge = judge

        def forward(self, image: Any) -> dspy.Prediction:
            return self.judge(image)

    judge = judge_with(answers(), evidence="image").confident().calibrated(0.8)
    for found in (*judge.batch([IMAGE, IMAGE], disable_progress_bar=True), Larger(judge)(image=IMAGE)):
        assert (found.label, found.confidence, found.escalate) == ("Safe", 1.0, False)


@pytest.mark.parametrize("method", ["votes", "logprobs", "views"])
def test_a_file_keeps_confidence_and_threshold(method: Any, tmp_path: Path) -> None:
    """In a format version that earlier releases refuse; a judge without has the file that it always had."""
    plain = judge_with(answers())
    plain.save(tmp_path / "plain.json")
    data = json.loads((tmp_path / "plain.json").read_text())
    assert data["format_version"] == 1
    assert "confidence" not in data
    judge = plain.confident(method, votes=7).calibrated(0.5, {"n": 10})
    judge.save(tmp_path / "judge.json")
    assert json.loads((tmp_path / "judge.json").read_text())["format_version"] == 3
    loaded = VisualJudge.load(tmp_path / "judge.json")
    assert (loaded.confidence, loaded.threshold, loaded.card) == (judge.confidence, 0.5, {"calibration": {"n": 10}})
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "judge.json").read_bytes()
    with pytest.raises(ArtifactError, match=r"use VisualJudge\.load"):
        plain.load(tmp_path / "judge.json")


@pytest.mark.parametrize(
    "confidence",
    [
        None,
        "votes",
        {},
        {"method": "stated"},
        {"method": ["votes"]},
        {"method": "votes", "votes": 0},
        {"method": "votes", "temperature": "x"},
        {"method": "votes", "threshold": 2},
        {"method": "views", "more": 1},
    ],
)
def test_a_damaged_confidence_is_refused(confidence: Any, tmp_path: Path) -> None:
    """With the file's name."""
    judge_with(answers()).confident().save(tmp_path / "judge.json")
    data = json.loads((tmp_path / "judge.json").read_text())
    (tmp_path / "judge.json").write_text(json.dumps({**data, "confidence": confidence}))
    with pytest.raises(ArtifactError, match=r"judge\.json: not a judge that can be built"):
        VisualJudge.load(tmp_path / "judge.json")


def test_an_optimizer_asks_a_judge_with_confidence_once() -> None:
    """What it returns has no confidence, as its calibration ends with its instructions."""
    lm = world()
    start = student().confident(votes=9).calibrated(0.5, {"n": 1})
    compiled = BLPO(prompt_model=lm, task_model=lm, verbalizer_model=lm, rounds=1, inner_steps=1).compile(
        start, trainset=TRAIN, valset=VALIDATION
    )
    assert (compiled.confidence, compiled.threshold) == (None, None)
    assert "calibration" not in compiled.card
    assert len([seen for seen in lm.engine.seen if "label" in seen.fields]) < 9 * len(TRAIN)
