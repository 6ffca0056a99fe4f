"""The benchmarks of the search: their worlds, the runs that they keep, and their tables."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from blpo_dspy.agreement.measure import Flips, measure_agreement
from blpo_dspy.errors import BlpoError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "benchmarks"))

import equal_spend
import overfit
import reasons
import recovery_pairs
import runs
from runs import Kept, Outcome, Task, World

pytestmark = pytest.mark.slow

WORLD = World("colour", 1, train=20, label_noise=0.5)
OUTCOME = Outcome(start=0.2, f1=0.5, fitted=0.9, agreement=0.5, calls=599, early=False, seconds=1.0)


def task(seed: int, method: str = "blpo", cap: int = 600, **world: object) -> Task:
    """Returns a task in a world of its own."""
    return Task(replace(WORLD, seed=seed, **world), method, cap)


@pytest.mark.parametrize("name", [name for name, method in runs.EVERY.items() if method.make is not None])
def test_every_method_can_be_made(name: str) -> None:
    """With the options that a benchmark gives it."""
    method = runs.EVERY[name]
    assert method.make is not None
    made = method.make(prompt_model=WORLD.lm, task_model=WORLD.lm, seed=1, num_threads=1, **method.options)
    assert made.seed == 1
    with pytest.raises(BlpoError):
        method.make(prompt_model="no model", **method.options)


def test_more_test_photographs_leave_all_others_as_they_are() -> None:
    """A run with more of them is another one, and is kept as such."""
    more = replace(WORLD, test=103)
    few, many = runs.rated(WORLD.photographs), runs.rated(more.photographs)
    assert (many.train, many.val, many.test[:100]) == (few.train, few.val, few.test)
    assert len({photograph.image for photograph in many.test}) == 103
    assert task(1).key != task(1, test=103).key


def test_an_ablation_differs_from_blpo_in_its_part_alone() -> None:
    """As the options of both say."""
    made = {
        name: method.make(prompt_model=WORLD.lm, **method.options).options
        for name, method in runs.EVERY.items()
        if name in runs.ABLATIONS or name == "blpo"
        if method.make is not None
    }
    ours = made.pop("blpo")
    differing = {name: {key for key in ours if ours[key] != options[key]} for name, options in made.items()}
    assert differing == {
        "without contrast": {"shown_right"},
        "without kept-back scoring": {"keep_back"},
        "old meta-prompt": {"meta_prompts", "instruction_words"},
        "without growth": {"minibatch_growth"},
        "without reuse": {"minibatch_updates"},
    }


def test_worlds_train_on_the_labels_written_down_and_test_on_those_meant() -> None:
    """The same photographs with any noise; an informed start names the two heaviest flaws."""
    noisy, clean = (runs.rated(replace(WORLD, label_noise=noise).photographs) for noise in (0.5, 0.0))
    assert [p.image for p in noisy.train] == [p.image for p in clean.train]
    assert sum(p.label != p.meant for p in noisy.train) >= 5
    wrong = [e.label != p.meant for e, p in zip(runs.examples(noisy.train), noisy.train, strict=True)]
    assert sum(wrong) >= 5
    meant = [replace(p, label=1 if p.meant > 3 else 5) for p in clean.test]
    assert runs.macro_f1(WORLD.student, meant, WORLD.lm) == runs.macro_f1(WORLD.student, clean.test, WORLD.lm)
    told = replace(WORLD, start="informed").student.instruction
    assert told == f"{runs.TASK} Colour cast and oversaturation count strongly."


def test_noisy_descriptions_and_temperaments_are_other_engines() -> None:
    """In the judge's, the verbalizer's and the optimizer's role."""
    names = {
        replace(WORLD, temperament=temperament, describing_noise=noise).lm.model
        for temperament in ("careful", "bold", "bold-deaf")
        for noise in (None, 0.3)
    }
    assert len(names) == 6


def test_finished_runs_are_kept_and_only_new_ones_are_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A second command makes none of them again, also after a break that tore the last line; one that fails is none."""
    first = runs.run_all([task(1, "blpo", cap=-1), task(1, "none")], out=str(tmp_path), processes=1)
    told = capfd.readouterr().err
    assert "Error: " in told
    assert "2 of 2 runs done" in told
    assert set(first) == {task(1, "none")}
    path = tmp_path / "runs.jsonl"
    path.write_text(path.read_text() + '{"key": "torn')
    again = runs.run_all([task(1, "none"), task(2, "none")], out=str(tmp_path), processes=1)
    assert "1 of 1 runs done" in capfd.readouterr().err
    assert again[task(1, "none")] == first[task(1, "none")]
    assert set(again) == {task(1, "none"), task(2, "none")}
    assert len(path.read_text().splitlines()) == 2
    assert runs.run_all([task(1, "none")], out=str(tmp_path), processes=1) == first


def test_a_run_is_kept_by_everything_that_decides_it(tmp_path: Path) -> None:
    """The engine's version included."""
    kept = Kept(str(tmp_path))
    kept.add(task(1), OUTCOME)
    assert Kept(str(tmp_path)).outcomes == {task(1).key: OUTCOME}
    others = [task(2), task(1, "earlier"), task(1, cap=300), task(1, label_noise=0.0), task(1, evidence="image")]
    assert len({task(1).key, *(other.key for other in others)}) == 6
    assert json.loads(task(1).key)[0] == runs.VERSION


def test_the_interval_of_paired_differences() -> None:
    """Around their mean; of equal ones it has no width."""
    assert runs.interval([0.1, 0.1, 0.1]) == pytest.approx((0.1, 0.1, 0.1))
    mean, low, high = runs.interval([0.0, 0.2] * 50)
    assert mean == pytest.approx(0.1)
    assert (low, high) == pytest.approx((0.08, 0.12), abs=0.005)
    assert runs.shown([-0.25, -0.25]) == "−0.250 [−0.250, −0.250]"


def test_equal_spend_pairs_by_world() -> None:
    """A world that only one method ran in counts for its mean and for no difference."""
    outcomes = {
        task(1): OUTCOME,
        task(2): replace(OUTCOME, f1=0.6),
        task(1, "earlier"): replace(OUTCOME, f1=0.4, early=True),
    }
    text = "\n".join(equal_spend.tables(outcomes, ["blpo", "earlier"], [600]))
    assert "| 600 | 2 | 0.550 (599) | 0.400 (599†) |" in text
    assert "| 600 | +0.100 [0.100, 0.100] |" in text


def test_overfit_tells_gain_gap_and_harm() -> None:
    """Per optimizer, size, noise and method."""
    outcomes = {
        task(1): OUTCOME,
        task(2): replace(OUTCOME, f1=0.1),
        task(1, "earlier"): replace(OUTCOME, f1=0.4, agreement=0.4),
    }
    text = "\n".join(overfit.table(outcomes, ["blpo", "earlier"]))
    assert "| careful | 20 | 50% | blpo | 2 | 0.200 | +0.100 [−0.100, 0.300] | 0.40 | 1 (50%) | – |" in text
    assert "| earlier | 1 | 0.200 | +0.200 [0.200, 0.200] | 0.50 | 0 (0%) | +0.100 [0.100, 0.100] |" in text


def test_reasons_are_paired_with_the_same_world_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose other half is missing counts for nothing; runs made before there were reasons keep their key."""
    monkeypatch.setattr(reasons, "ceiling", lambda world: 0.7)
    outcomes = {
        task(1): OUTCOME,
        task(1, reasons=True): replace(OUTCOME, f1=0.6),
        task(2, reasons=True): OUTCOME,
    }
    text = "\n".join(reasons.table(outcomes))
    assert "| blpo, careful | 600 | 1 | 0.500 | 0.600 | +0.100 [0.100, 0.100] | 0.600 | 0.800 | +0.200" in text
    assert "reasons" not in task(1).key
    assert task(1).key != task(1, reasons=True).key


def test_only_training_examples_have_reasons_in_a_world_with_them() -> None:
    """What is tested never has one; a rater who has nothing to say leaves the field empty."""
    photographs = runs.rated(WORLD.photographs).train
    assert [e.get("reason") for e in runs.examples(photographs, reasons=True)] == [p.reason for p in photographs]
    assert not any("reason" in example for example in runs.examples(photographs))


def test_recovery_on_pairs_is_told_by_both_ends_and_how_often_the_order_decides() -> None:
    """Every form of data fits its judge; one without pairs has no flips."""
    for name, form in recovery_pairs.FORMS.items():
        assert form.judge().labels == form.labels, name
    labels = recovery_pairs.FORMS["pairs"].labels
    truth = ["A", "B", "tie", "A"]
    before, after, ceiling = (
        replace(measure_agreement(labels, truth, said), flips=Flips(4, flipped))
        for said, flipped in ((["B", "A", "tie", "B"], 2), (["A", "A", "tie", "A"], 1), (truth, 0))
    )
    found = recovery_pairs.Run("pairs", before, after, ceiling, 100)
    assert found.recovery == pytest.approx((after.macro_f1 - before.macro_f1) / (1 - before.macro_f1))  # type: ignore[operator]
    assert recovery_pairs.row("pairs", [found, found]).endswith("| 100 | 50% | 25% | 0% |")
    single = [replace(one, flips=None) for one in (before, after, ceiling)]
    assert recovery_pairs.row("single", [recovery_pairs.Run("single", *single, 7)]).endswith("| 7 | – | – | – |")
