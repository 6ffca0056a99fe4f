"""A judge calibrated: what is promised, what is refused, and what is said where nothing can be promised."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError
from engines import Seen, scripted_lm
from judges import SAFETY, SCALE, judge_with, picture
from PIL import Image
from workspaces import shared

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, BlpoWarning, DataError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.bench.cards import described
from blpo_dspy.predictions.labelling import note_other_models
from blpo_dspy.programs import Cascade, VisualJudge
from blpo_dspy.runs.calibration.calibrated import Calibrated
from blpo_dspy.runs.calibration.calibrating import calibrate

PAIR = LabelSpace.pairwise("A", "B")


def grey(seen: Seen) -> int:
    """How bright the picture of a request is."""
    return int(Image.open(io.BytesIO(base64.b64decode(seen.images[-1]))).convert("RGB").getpixel((0, 0))[0])


def examples(count: int, labels: LabelSpace = SAFETY) -> list[dspy.Example]:
    """So many grey images, in turn with each label."""
    return [
        dspy.Example(image=dspy.Image(picture(i)), label=labels.labels[i % len(labels)]).with_inputs("image")
        for i in range(count)
    ]


def voter(unsure_from: int, wrong_from: int, labels: LabelSpace = SAFETY, name: str = "scripted/cheap") -> Models:
    """Models that are right about images darker than `wrong_from`, and unsure of those from another grey on."""

    def script(seen: Seen) -> Any:
        value = grey(seen)
        right, wrong = (labels.labels[(value + shift) % len(labels)] for shift in (0, 1))
        said = right if value < wrong_from else wrong
        odd = (seen.request.config.seed or 0) % 5 == 0
        return {"label": (right if said == wrong else wrong) if odd and value >= unsure_from else said}

    lm = scripted_lm(script, name=name)
    return Models(lm, lm, lm)


def judge(labels: LabelSpace = SAFETY, **options: Any) -> VisualJudge:
    """A judge of the image alone."""
    return VisualJudge(labels, instruction="Judge it.", **{"evidence": "image", **options})


def found(models: Any, count: int = 100, **options: Any) -> Calibrated:
    """The calibration of that judge."""
    return shared(calibrate, judge(), examples(count), models=models, progress=False, **options)


def test_the_threshold_keeps_what_is_sure_and_right() -> None:
    """Sixty images are sure and right, of the others half are wrong: the promise holds at full confidence alone."""
    result = found(voter(unsure_from=60, wrong_from=80))
    assert (result.thresholds, result.tests[0].selected, result.tests[0].agreeing) == ((1.0,), 60, 60)
    assert result.tests[1].passed is False
    assert (result.coverage, result.n, result.failed) == (0.6, 100, 0)
    assert result.judge.threshold == 1.0
    calibration = result.judge.card["calibration"]
    assert calibration["data"] == described(examples(100))
    assert calibration["models"] == [{"judge": "scripted/cheap"}]
    assert calibration["confidence"] == [{"method": "votes", "votes": 5, "temperature": 1.0}]
    low, high = calibration["coverage_interval"]
    assert low < calibration["coverage"] == 0.6 < high
    text = " ".join(result.summary().split())
    assert text.startswith("With probability 0.9, at least 90% of its labels agree with people's (here 60 of 60)")
    assert "it labels 60% of the images" in text
    assert "judge alone 100.0% 80.0% 5.0" in text


def test_the_calibrated_judge_escalates() -> None:
    """It returns label, confidence and escalate."""
    models = voter(unsure_from=60, wrong_from=80)
    calibrated = found(models).judge
    calibrated.set_lm(models.judge)
    sure, unsure = calibrated(picture(3)), calibrated(picture(70))
    assert (sure.label, sure.confidence, sure.escalate) == ("Unsafe", 1.0, False)
    assert (unsure.confidence, unsure.escalate) == (0.8, True)


def test_a_cascade_is_calibrated_as_a_whole() -> None:
    """A strong judge is right about what the cheap one is unsure of; it costs more, and is asked about that alone."""
    models = [voter(60, 80), voter(200, 200, name="scripted/strong")]
    prices = {"scripted/cheap": (1.0, 0.0), "scripted/strong": (100.0, 0.0)}
    result = shared(
        calibrate,
        Cascade([judge(), judge()]),
        examples(100),
        models=models,
        prices=prices,
        agreement=0.9,
        progress=False,
    )
    assert result.thresholds == (1.0, 1.0)
    assert (result.coverage, result.tests[0].agreeing) == (1.0, 100)
    cheap, strong, together = result.judges
    assert [each.name for each in result.judges] == ["judge 1 alone", "judge 2 alone", "calibrated"]
    assert (cheap.agreement, strong.agreement, together.agreement) == (0.8, 1.0, 1.0)
    assert (cheap.usd, strong.usd) == (pytest.approx(5 * 10 / 1e6), pytest.approx(5 * 1000 / 1e6))
    assert together.usd == pytest.approx(cheap.usd + 0.4 * strong.usd)  # type: ignore[operator]
    assert together.calls == 5 + 0.4 * 5
    cascade = result.judge
    assert isinstance(cascade, Cascade)
    for each, own in zip(cascade.judges, models, strict=True):
        each.set_lm(own.judge)
    assert (cascade(picture(90)).label, cascade(picture(90)).escalate) == ("Safe", False)
    assert cascade.card["calibration"]["thresholds"] == [1.0, 1.0]
    assert "calibration" not in cascade.judges[0].card


@pytest.mark.parametrize(
    ("count", "models", "options", "said"),
    [
        (60, voter(0, 40), {}, "no image has the confidence with which the tests start"),
        (60, voter(55, 40), {}, "clearly above that (at best 73%), so that more labels like these would not help"),
        (45, voter(99, 43), {}, "too few images (45). If agreement and confidence are as on these, about"),
        (50, voter(99, 0), {"agreement": 0.8}, "(at best 0%)"),
    ],
)
def test_where_no_threshold_qualifies_it_says_why(count: int, models: Models, options: Any, said: str) -> None:
    """And the judge is not there."""
    result = found(models, count, **options)
    assert (result.chosen, result.thresholds, result.coverage, result.coverage_interval) == (None, None, 0.0, None)
    assert said in " ".join(result.summary().split())
    with pytest.raises(BlpoError, match="no threshold qualifies"):
        _ = result.judge
    assert not any(isinstance(value, float) and math.isnan(value) for value in result.to_dict().values())


@pytest.mark.parametrize(("count", "method", "least"), [(1, "votes", 22), (21, "votes", 22), (32, "logprobs", 33)])
def test_too_few_images_are_refused_before_any_call(count: int, method: Any, least: int) -> None:
    """Even if all labels agreed nothing could be promised; with as many as are said it can."""
    asked: list[Seen] = []
    lm = scripted_lm(asked.append)
    with pytest.raises(DataError, match=f"{count} labelled images are too few .*; label at least {least}, more"):
        shared(calibrate, judge(), examples(count), confidence=method, models=Models(lm, lm, lm), progress=False)
    assert asked == []
    if method == "votes":
        assert found(voter(99, 99), least).chosen is not None


def test_more_labels_are_asked_for_where_they_would_help() -> None:
    """About as many as the figures of these call for."""
    result = found(voter(99, 43), 45)
    assert result.labels_needed is not None
    assert 45 < result.labels_needed < 1000


def test_a_judge_that_never_gives_a_label_labels_nothing() -> None:
    """Whatever its confidence would be."""
    lm = scripted_lm(lambda seen: "who knows")
    result = found(Models(lm, lm, lm), 30)
    assert "on none of the 30 images the judge gave a label" in result.summary()
    assert result.judges[0].agreement is None
    assert "–" in result.summary()


def test_people_who_all_say_the_same_are_no_problem() -> None:
    """One label alone is enough for a promise about agreement."""
    same = [example.copy(label="Safe") for example in examples(60)]
    lm = scripted_lm(lambda seen: {"label": "Safe"})
    result = shared(calibrate, judge(), same, models=Models(lm, lm, lm), progress=False)
    assert (result.thresholds, result.coverage) == ((1.0,), 1.0)


def test_levels_may_be_within_one() -> None:
    """Every label is one off: none agree exactly, all of them within one."""
    lm = scripted_lm(lambda seen: {"label": SCALE.labels[min(4, grey(seen) % 5 + 1)]})
    options: dict[str, Any] = {"models": Models(lm, lm, lm), "progress": False}
    exact, near = (shared(calibrate, judge(SCALE), examples(60, SCALE), within=n, **options) for n in (0, 1))
    assert (exact.chosen, near.coverage) == (None, 1.0)
    assert "to within 1 on the scale" in " ".join(near.summary().split())
    with pytest.raises(BlpoError, match="within=4: with 5 levels every label would agree"):
        shared(calibrate, judge(SCALE), examples(60, SCALE), within=4, **options)
    with pytest.raises(BlpoError, match="within=1 is for the levels of an ordinal scale"):
        shared(calibrate, judge(), examples(60), within=1, **options)


def test_a_pair_is_accepted_where_both_orders_agree() -> None:
    """A judge that always prefers the first image is inconsistent about all of them."""
    pairs = [
        dspy.Example(left=dspy.Image(picture(i)), right=dspy.Image(picture(i + 100)), label="A").with_inputs(
            "left", "right"
        )
        for i in range(60)
    ]
    biased = judge_with(lambda seen: {"label": "A"}, PAIR, images=("left", "right"), evidence="image")
    result = shared(calibrate, biased, pairs, progress=False)
    assert (result.chosen, result.judges[0].labelled, result.judges[0].calls) == (None, 0, 10.0)
    one_order = shared(calibrate, biased, pairs, orders="one", progress=False)
    assert (one_order.coverage, one_order.judge.card["calibration"]["orders"]) == (1.0, "one")


def test_images_that_the_judge_knows_are_refused() -> None:
    """Trained on, validated on, or by an ancestor: all of them by name, and images that recur."""
    given = examples(30)
    known = judge()
    known.card = {
        "data": {"train": described(given[:2]), "val": described(given[2:3])},
        "ancestors": [{"train": described(given[3:4])}],
    }
    lm = scripted_lm(lambda seen: {"label": "Safe"})
    with pytest.raises(DataError) as error:
        shared(calibrate, known, [*given, given[9].copy(id="again")], models=Models(lm, lm, lm), progress=False)
    assert [problem.partition(": ") for problem in error.value.problems] == [
        ("examples 0", ": ", "in its train set"),
        ("examples 1", ": ", "in its train set"),
        ("examples 2", ": ", "in its val set"),
        ("examples 3", ": ", "in the train set of a judge that it was compiled from"),
        ("again", ": ", "the same image as examples 9"),
    ]
    with pytest.raises(DataError, match="in its train set"):
        shared(calibrate, Cascade([judge(), known]), given, models=Models(lm, lm, lm), progress=False)
    with pytest.raises(DataError, match="no labelled images to calibrate the judge on"):
        shared(calibrate, judge(), [], models=Models(lm, lm, lm), progress=False)
    assert lm.engine.seen == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agreement": 1.0}, "agreement=1.0 is not a number between 0 and 1"),
        ({"risk": 0}, "risk=0 is not a number between 0 and 1"),
        ({"within": -1}, "within=-1 is too small"),
        ({"confidence": "stated"}, "confidence 'stated' is unknown"),
        ({"orders": "all"}, "orders='all' is unknown"),
    ],
)
def test_a_bad_option_is_refused_before_any_call(options: Any, message: str) -> None:
    """By its name and value."""
    models = voter(0, 0)
    with pytest.raises(BlpoError, match=message):
        found(models, 30, **options)
    assert models.judge.engine.seen == []  # type: ignore[union-attr]


def test_failed_calls_are_left_out_and_many_of_them_end_it() -> None:
    """A failed call is no wrong answer."""

    def failing(every: int) -> Models:
        def script(seen: Seen) -> Any:
            if grey(seen) % every == every - 1:
                return dspy.lm15.InvalidRequestError("refused")
            return {"label": SAFETY.labels[grey(seen) % 2]}

        lm = scripted_lm(script, num_retries=0)
        return Models(lm, lm, lm)

    result = found(failing(10))
    assert (result.n, result.failed, result.coverage) == (90, 10, 1.0)
    assert "10 images left out, as a call failed" in result.summary()
    with pytest.raises(BlpoError, match="50 of 100 images got no answer"):
        found(failing(2))


def test_other_models_than_those_of_the_calibration_are_remarked_on() -> None:
    """Their agreement is another one; also in a cascade."""
    models = voter(99, 99)
    other = voter(99, 99, name="scripted/other")
    calibrated = found(models).judge
    note_other_models(calibrated, models)
    with pytest.warns(BlpoWarning, match="calibrated with scripted/cheap, and is asked with scripted/other"):
        note_other_models(calibrated, other)
    with pytest.warns(BlpoWarning, match="calibrated with scripted/cheap"):
        note_other_models(Cascade([calibrated, judge()]), other)
    cascade = shared(calibrate, Cascade([judge(), judge()]), examples(60), models=[models, other], progress=False).judge
    note_other_models(cascade, [models, other])
    with pytest.warns(BlpoWarning, match="with scripted/cheap then scripted/other, and is asked with scripted/cheap"):
        note_other_models(cascade, models)


def test_a_table_is_read_and_a_judge_kept(tmp_path: Path) -> None:
    """From labels in a file to a judge in a file."""
    rows = [{"image": picture(i), "label": SAFETY.labels[i % 2]} for i in range(60)]
    models = voter(99, 99)
    result = shared(calibrate, judge().confident("votes", votes=2), rows, models=models, progress=False)
    result.judge.save(tmp_path / "judge.json")
    loaded = VisualJudge.load(tmp_path / "judge.json")
    assert (loaded.threshold, loaded.card["calibration"]["n"]) == (1.0, 60)
    assert len(models.judge.engine.seen) == 120  # type: ignore[union-attr]
    assert repr(result).startswith("Calibrated(with probability 0.9")
    assert result._repr_html_().count("<table>") == 2


def test_a_calibration_cut_short_resumes_from_its_folder(tmp_path: Path) -> None:
    """Without DSPy's cache, also where further images were labelled meanwhile; equal judges share answers."""
    asked: list[int] = []
    expired = LMAuthError("the key has expired", model="scripted/cheap")

    def script(seen: Seen) -> Any:
        asked.append(grey(seen))
        return expired if len(asked) == 40 else {"label": SAFETY.labels[grey(seen) % 2]}

    lm = scripted_lm(script)
    options: dict[str, Any] = {"models": Models(lm, lm, lm), "progress": False, "run_dir": tmp_path, "num_threads": 1}
    cascade = Cascade([judge(), judge()])
    how: dict[str, Any] = {"agreement": 0.8, "confidence": "votes", **options}
    with pytest.raises(ModelError, match="the key has expired"):
        shared(calibrate, cascade, examples(15), **how)
    found = shared(calibrate, cascade, examples(15), **how)
    assert len(asked) == found.ledger.total.calls == 15 * 5 + 1
    more = shared(calibrate, cascade, examples(20), **how)
    assert (len(asked), more.n) == (20 * 5 + 1, 20)


def test_answers_of_dspys_cache_cost_nothing_and_are_counted() -> None:
    """They are not of unknown cost: what the first calibration paid, the second one takes for nothing."""
    models, options = voter(60, 80), {"prices": {"scripted/cheap": (1.0, 0.0)}, "progress": False}
    cached = models.judge.copy(cache=True)
    first, again = (
        shared(calibrate, judge(), examples(100), models=Models(cached, cached, cached), **options) for _ in range(2)
    )
    assert (first.judges[0].usd, first.judges[0].cached) == (pytest.approx(5 * 10 / 1e6), 0)
    assert (again.judges[0].usd, again.judges[0].cached) == (0.0, 500)
    assert again.comparison()[1][-1] == "$0 (500 answers from a cache)"
    unpriced = found(models)
    assert unpriced.comparison()[1][-1] == "unknown"
