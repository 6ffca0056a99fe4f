"""A judge's card: what every release wrote is read, and whatever else is in it is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import ArtifactError, BlpoError
from blpo_dspy.programs import Cascade, VisualJudge
from blpo_dspy.programs.card_fields import checked_card

LABELS = LabelSpace("Safe", "Unsafe")
SET = {"n": 2, "sha256": "ab", "prints": "ab cd"}
FIGURES = {
    **dict.fromkeys(("accuracy", "invalid_rate"), 0.5),
    **dict.fromkeys(("macro_f1", "kappa", "spearman", "mae")),
    "n": 2,
    "invalid": 0,
    "failed": 0,
    "labels": LABELS.to_dict(),
    "confusion": [[1, 0, 0], [1, 0, 0]],
}
# As the first release of the command line wrote it: without answers, versions, prints, and the test set's seal.
FIRST = {
    "options": {"optimizer": "BLPO", "rounds": 5, "meta_prompts": {"update_judge": "sha256 ab"}},
    "rounds": 5,
    "stop_reason": "finished",
    "seed": -1,
    "data": {"train": {"n": 2, "sha256": "ab"}, "val": {"n": 2, "sha256": "cd"}, "test": {"n": 0, "sha256": "ef"}},
    "agreement": {"before": {"val": FIGURES, "test": None}, "after": {"val": FIGURES, "test": None}},
}
NOW = {
    **FIRST,
    "answers": {"judge": 3, "verbalizer": 3, "optimizer": 1},
    "data": {"train": {**SET, "swapped": 1}, "val": SET},
    "reasons": 0,
    "ancestors": [{"train": SET, "folds": SET}],
    "agreement": {
        "before": {"train": {**FIGURES, "flips": {"pairs": 2, "flipped": 1}, "flip_rate": 0.5}},
        "after": {"train": {**FIGURES, "pearson": None, "pairs": [[1.5, 2], [3, None]]}},
    },
    "versions": {"python": "3.11", "dspy": "3.4.1"},
    "sealed_test": {"n": 2, "sha256": "ab", "used": "once, after compiling", "times": 1, "run": "ab"},
    "folds": {**SET, "images": 2, "figures": "out of fold", "agreement": {"before": FIGURES, "after": FIGURES}},
    "calibration": {
        "agreement": 0.9,
        "risk": 0.1,
        "within": 0,
        "thresholds": [0.7],
        "confidence": [{"method": "votes"}],
        "n": 9,
        "selected": 5,
        "agreeing": 5,
        "agreement_at_least": 0.9,
        "coverage": 0.5,
        "coverage_interval": [0.4, 0.6],
        "orders": "both",
        "models": [{"judge": "a"}],
        "data": SET,
    },
}


def written(card: Any, folder: Path) -> Path:
    """Writes a judge whose card was edited by hand."""
    path = folder / "judge.json"
    VisualJudge(LABELS, instruction="Judge.").save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "card": card}))
    return path


@pytest.mark.parametrize("card", [{}, FIRST, NOW, {**NOW, "answers": None, "sealed_test": None}])
def test_what_any_release_wrote_is_read_and_written_as_it_was(card: dict[str, Any], tmp_path: Path) -> None:
    """Fields that came later may be missing."""
    loaded = VisualJudge.load(written(card, tmp_path))
    assert loaded.card == card
    loaded.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["card"] == card


@pytest.mark.parametrize(
    ("card", "told"),
    [
        (5, "card is 5, and has to be a dictionary"),
        ({"sed": 1}, "card.sed is unknown; card has the fields options, rounds, "),
        ({"rounds": "3"}, "card.rounds is '3', and has to be a whole number that is not negative"),
        ({"rounds": True}, "card.rounds is True, and has to be a whole number"),
        ({"reasons": -1}, "card.reasons is -1, and has to be a whole number that is not negative"),
        ({"stop_reason": None}, "card.stop_reason is None, and has to be text"),
        ({"answers": [3]}, "card.answers is [3], and has to be a dictionary or null"),
        ({"answers": {"judge": 0.5}}, "card.answers.judge is 0.5, and has to be a whole number"),
        ({"data": {"tset": SET}}, "card.data.tset is unknown; card.data has the fields train, val, test"),
        ({"ancestors": [{}, {"val": {"n": "2"}}]}, "card.ancestors[1].val.n is '2', and has to be a whole number"),
        (
            {"agreement": {"after": {"test": {**FIGURES, "accuracy": "0.9"}}}},
            "card.agreement.after.test.accuracy is '0.9', and has to be a number or null",
        ),
        (
            {"agreement": {"after": {"val": {"confusion": [[1], ["x"]]}}}},
            "card.agreement.after.val.confusion[1][0] is 'x', and has to be a whole number",
        ),
        (
            {"agreement": {"after": {"val": {"mae": float("nan")}}}},
            "card.agreement.after.val.mae is nan, and has to be a",
        ),
        ({"calibration": {"thresholds": 0.5}}, "card.calibration.thresholds is 0.5, and has to be a list"),
    ],
)
def test_a_field_that_is_unknown_or_of_another_kind_is_named(card: Any, told: str, tmp_path: Path) -> None:
    """With the file, the place of the field and what it should be."""
    with pytest.raises(ArtifactError) as refused:
        VisualJudge.load(written(card, tmp_path))
    assert f"judge.json: not a judge that can be built ({told}" in str(refused.value)


def test_all_bad_fields_are_named_at_once() -> None:
    """In the order of the file."""
    with pytest.raises(
        BlpoError, match=r"card\.rouns is unknown; .*; card\.seed is 'x', and .*; card\.data is None, and"
    ):
        checked_card({"rouns": 1, "seed": "x", "data": None})


def test_the_card_of_a_cascade_is_checked_too(tmp_path: Path) -> None:
    """Its own, and those of its judges."""
    judges = [VisualJudge(LABELS, instruction=text).confident("votes") for text in ("Judge.", "Judge well.")]
    judges[0] = judges[0].calibrated(0.5, {"n": 2})
    path = tmp_path / "cascade.json"
    Cascade(judges).save(path)
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "card": {"calibraton": {}}}))
    with pytest.raises(ArtifactError, match=r"cascade\.json: .*card\.calibraton is unknown"):
        Cascade.load(path)
    data["judges"][0]["card"]["calibration"]["n"] = "2"
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=r"cascade\.json, judge 1: .*card\.calibration\.n is '2'"):
        Cascade.load(path)


def test_a_card_that_would_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    """What a program of one's own puts there."""
    judge = VisualJudge(LABELS, instruction="Judge.")
    judge.card = {"note": "mine"}
    with pytest.raises(BlpoError, match=r"card\.note is unknown"):
        judge.save(tmp_path / "judge.json")
    assert not list(tmp_path.iterdir())
