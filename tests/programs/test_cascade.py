"""Judges in a row: who is asked, what is returned, and the file."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen
from judges import SAFETY, SCALE, answers, judge_with, picture, seen_by

from blpo_dspy.embedded.engine import embedded_lm
from blpo_dspy.errors import ArtifactError, BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.programs import Cascade, ProgramJudge, VisualJudge
from blpo_dspy.programs.cascade import load_judge_file, models_of_stages, stages_of

DARK = picture(0)


DOUBTFUL, SURE = 1.5, 1.0


def stage(label: str, threshold: float | None, **options: Any) -> VisualJudge:
    """A judge that gives one label: of two votes both, or, above a threshold of 1, only the first."""
    votes = itertools.cycle([label, "?" if threshold == DOUBTFUL else label])

    def script(seen: Seen) -> Any:
        return {"description": "grey"} if seen.fields == ["description"] else {"label": next(votes)}

    judge = judge_with(script, **{"evidence": "image", **options}).confident(votes=2)
    return judge if threshold is None else judge.calibrated(min(threshold, 1.0))


@pytest.mark.parametrize(
    ("thresholds", "asked", "escalate"),
    [
        ((SURE, SURE), [2, 0], False),
        ((DOUBTFUL, SURE), [2, 2], False),
        ((DOUBTFUL, DOUBTFUL), [2, 2], True),
        ((DOUBTFUL, None), [2, 2], None),
        ((DOUBTFUL, SURE, SURE), [2, 2, 0], False),
    ],
)
def test_the_next_judge_is_asked_where_one_escalates(thresholds: Any, asked: list[int], escalate: bool | None) -> None:
    """What the last judge escalates is for people; one that isn't calibrated escalates nothing."""
    judges = [stage(label, t) for label, t in zip(("Safe", "Unsafe", "Safe"), thresholds, strict=False)]
    cascade = Cascade(judges)
    found = cascade(DARK)
    assert [len(seen_by(judge)) for judge in judges] == asked
    assert found.label == ("Safe", "Unsafe")[asked.index(0) - 1 if 0 in asked else len(asked) - 1]
    assert found.get("escalate") == escalate
    assert cascade.calls_per_image == 2 * len(judges)


def test_an_awaited_cascade_and_one_in_a_larger_program_give_the_same() -> None:
    """It is a module as each of its judges is."""
    judges = [VisualJudge(SAFETY, instruction=text).confident() for text in ("Judge it.", "Judge how safe it is.")]
    cascade = Cascade([judges[0].calibrated(1.0), judges[1].calibrated(0.2)])
    cascade.set_lm(embedded_lm(cache=False))
    image = picture(side=64)

    class Larger(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cascade = cascade

        def forward(self, image: Any) -> dspy.Prediction:
            return self.cascade(image=image)

    expected = dict(cascade(image).items())
    assert dict(asyncio.run(cascade.acall(image)).items()) == expected
    assert dict(Larger()(image=image).items()) == expected
    assert [dict(found.items()) for found in cascade.batch([image], disable_progress_bar=True)] == [expected]
    assert len(Larger().named_predictors()) == 4


def test_the_same_judge_may_be_asked_twice_on_two_models() -> None:
    """Each place has an LM of its own."""
    judge = stage("Safe", SURE)
    cascade = Cascade([judge, judge])
    assert cascade.judges[0] is judge
    assert cascade.judges[1].judge.lm is judge.judge.lm
    cascade.judges[1].set_lm(embedded_lm())
    assert cascade.judges[0].judge.lm is not cascade.judges[1].judge.lm
    assert len(cascade.named_predictors()) == 4


def test_a_judge_that_never_escalates_is_named() -> None:
    """Before the last one it would leave the others without work."""
    cascade = Cascade([stage("Safe", None), stage("Safe", SURE)])
    for call in (lambda: cascade(DARK), lambda: asyncio.run(cascade.acall(DARK))):
        with pytest.raises(BlpoError, match=r"judge 1 of the cascade isn't calibrated.*blpo calibrate"):
            call()
    assert seen_by(cascade.judges[0]) == []


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        ([], "from 2 to 10 judges, not 0"),
        ([stage("Safe", SURE)], "from 2 to 10 judges, not 1"),
        ([stage("Safe", SURE)] * 11, "not 11"),
        ([stage("Safe", SURE), "people.csv"], r"judges\[1\]='people\.csv' is not a judge"),
        ([stage("Safe", SURE), judge_with(answers(), SCALE)], r"judges\[1\] has other labels or inputs"),
        ([stage("Safe", SURE), judge_with(answers(), context=["prompt"])], r"judges\[1\] has other labels or inputs"),
        ([Cascade([stage("Safe", SURE)] * 2), stage("Safe", SURE)], r"judges\[0\] is a Cascade"),
        (stage("Safe", SURE), "is not a list of judges"),
    ],
)
def test_what_is_no_cascade_is_refused(judges: Any, message: str) -> None:
    """Judges of one task, each by itself."""
    with pytest.raises(BlpoError, match=message):
        Cascade(judges)


def test_a_program_of_ones_own_is_no_part_of_a_cascade() -> None:
    """It has no confidence."""

    class Own(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.verbalizer = dspy.Predict("image: dspy.Image -> description")
            self.judge = dspy.Predict("image: dspy.Image, description -> label")

        def forward(self, image: dspy.Image) -> dspy.Prediction:
            return self.judge(image=image, description=self.verbalizer(image=image).description)

    own = ProgramJudge(Own(), SAFETY)
    with pytest.raises(BlpoError, match="a ProgramJudge"):
        Cascade([stage("Safe", SURE), own])
    with pytest.raises(BlpoError, match="has no confidence here"):
        own.confident("votes")


def test_a_cascade_takes_no_confidence_or_pixel_policy() -> None:
    """They belong to its judges."""
    cascade = Cascade([stage("Safe", SURE), stage("Safe", SURE)])
    with pytest.raises(BlpoError, match="each judge of a cascade has its own confidence"):
        cascade.confident("votes")
    with pytest.raises(BlpoError, match="each judge of a cascade has its own pixel policy"):
        cascade.pixel_policy = cascade.judges[0].pixel_policy


def test_a_file_keeps_every_judge_and_the_card(tmp_path: Path) -> None:
    """And is no file of a single judge."""
    cascade = Cascade([stage("Safe", 0.8, evidence="both"), stage("Unsafe", None)])
    cascade.card = {"calibration": {"n": 3}}
    cascade.save(tmp_path / "cascade.json")
    loaded = load_judge_file(tmp_path / "cascade.json")
    assert isinstance(loaded, Cascade)
    assert (loaded.identity(), loaded.card) == (cascade.identity(), cascade.card)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "cascade.json").read_bytes()
    with pytest.raises(ArtifactError, match=r"loaded by Cascade\.load"):
        VisualJudge.load(tmp_path / "cascade.json")
    stage("Safe", SURE).save(tmp_path / "judge.json")
    assert isinstance(load_judge_file(tmp_path / "judge.json"), VisualJudge)
    with pytest.raises(ArtifactError, match="not a cascade"):
        Cascade.load(tmp_path / "judge.json")
    with pytest.raises(BlpoError, match=r"Cascade\.load\(path\)"):
        loaded.load(tmp_path / "cascade.json")
    with pytest.raises(BlpoError, match=r"name a \.json file"):
        cascade.save(tmp_path / "cascade.txt")


@pytest.mark.parametrize("judges", [None, "ab", [1], [{}], [{"format": "blpo-dspy judge"}], []])
def test_a_damaged_file_is_refused(judges: Any, tmp_path: Path) -> None:
    """With its name, whatever its judges are."""
    path = tmp_path / "cascade.json"
    Cascade([stage("Safe", SURE)] * 2).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "judges": judges}))
    with pytest.raises(ArtifactError, match=r"cascade\.json"):
        Cascade.load(path)


def test_copies_are_cascades() -> None:
    """DSPy's copies, which keep the thresholds."""
    cascade = Cascade([stage("Safe", 0.8), stage("Unsafe", None)])
    assert cascade.deepcopy().identity() == cascade.identity()
    cascade.set_lm(None)
    assert "Cascade(VisualJudge(" in repr(cascade)
    assert cascade._repr_html_().count("<table>") == 2
    assert stages_of(cascade) == cascade.judges
    assert [stages_of(judge) for judge in cascade.judges] == [[judge] for judge in cascade.judges]


def test_models_are_for_all_judges_or_for_each() -> None:
    """Another number is refused."""
    cascade, one = Cascade([stage("Safe", SURE)] * 2), Models.named("embedded")
    assert models_of_stages(cascade, one) == models_of_stages(cascade, [one, one]) == [one, one]
    with pytest.raises(BlpoError, match="models: 3 for 2 judges"):
        models_of_stages(cascade, [one] * 3)
