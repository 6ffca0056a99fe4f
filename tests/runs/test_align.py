"""One call from labelled images to a judge, its measurements and its report."""

from __future__ import annotations

import copy
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import dspy
import pandas as pd
import pytest
from photographs import FIVE, TASK, Recording, photographs, recorded_models, student
from processes import ctrl_c
from stores import answers
from workspaces import shared

from blpo_dspy.data.sources.photographs import RATERS
from blpo_dspy.data.sources.photographs.dataset import write_dataset
from blpo_dspy.embedded.engine import embedded_lm
from blpo_dspy.errors import BlpoError, BlpoWarning, DataError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers import BLPO
from blpo_dspy.programs import VisualJudge
from blpo_dspy.report.run.to_review import load_review_data
from blpo_dspy.runs.align import Alignment, align

pytestmark = pytest.mark.slow

SETS = {name.removesuffix("set"): examples for name, examples in photographs().items()}
FEW: dict[str, Any] = {"rounds": 2, "inner_steps": 1, "num_threads": 2, "label_errors": 5, "progress": False}


def offline() -> Models:
    """Three models on the embedded engine."""
    return Models(*(embedded_lm(cache=False) for _ in range(3)))


def test_it_measures_before_and_after_and_reads_back(tmp_path: Path) -> None:
    """The same judge, figures, cost and report from the folder as from the call."""
    done = shared(align, student(), **SETS, models=offline(), run_dir=tmp_path / "run", **FEW)
    assert done.after.test is not None
    assert (done.before.test.n, done.after.test.n) == (len(SETS["test"]),) * 2  # type: ignore[union-attr]
    assert done.before.val is not None
    assert done.cost["calls"] > 0
    assert done.report(tmp_path / "r.html").read_text().count("<html") == 1
    again = Alignment.load(tmp_path / "run")
    assert again.judge.identity() == done.judge.identity()
    assert again.judge.card == done.judge.card
    assert (again.summary(), again.cost, again.label_errors) == (done.summary(), done.cost, done.label_errors)
    lines = done.summary().splitlines()
    assert len(lines) < 12
    assert [line.split()[:3] for line in lines if line.startswith("test")] == [
        ["test", "before", "10"], ["test", "after", "10"],
    ]  # fmt: skip
    assert len(repr(done)) < 300
    assert done._repr_html_().count("<tr>") == 5


def test_without_a_folder_it_can_be_reported_all_the_same(tmp_path: Path) -> None:
    """What it shows is kept in a temporary folder, which goes with the object."""
    done = shared(align, student(), **SETS, models=offline(), **FEW)
    folder = done.folder
    assert folder.is_dir()
    assert "data:image/jpeg" in done.report(tmp_path / "r.html").read_text()
    assert "data:image/jpeg" not in done.report(tmp_path / "bare.html", images=False).read_text()
    del done
    assert not folder.exists()


def test_the_same_call_pays_for_nothing_again(tmp_path: Path) -> None:
    """It resumes from the store, and gives the same judge."""
    first, second = Recording(), Recording()
    done = shared(align, student(), **SETS, models=recorded_models(first), run_dir=tmp_path, **FEW)
    again = shared(align, student(), **SETS, models=recorded_models(second), run_dir=tmp_path, **FEW)
    assert first.seen
    assert not second.seen
    assert again.judge.card == done.judge.card


def test_a_table_is_split_and_tables_of_their_own_are_not(tmp_path: Path) -> None:
    """Files, frames and lists of examples may be mixed."""
    write_dataset(tmp_path, RATERS["colour"], seed=5, train=40, val=10, test=10)
    start = VisualJudge(FIVE, instruction=TASK)
    whole = shared(align, start, train=tmp_path / "train.csv", models=offline(), **FEW)
    counts = {name: whole.run.result["data"][name]["n"] for name in ("train", "val", "test")}
    assert sum(counts.values()) == 40
    assert min(counts.values()) > 0
    tables = load_review_data(whole.folder).tables
    assert tables is not None
    assert {(whole.folder / path).resolve() for path in tables.paths.values()} == {tmp_path.resolve() / "train.csv"}
    frame = pd.read_csv(tmp_path / "test.csv").assign(image=lambda t: [tmp_path / name for name in t["image"]])
    mixed = shared(align, start, train=tmp_path / "train.csv", val=SETS["val"], test=frame, models=offline(), **FEW)
    assert [mixed.run.result["data"][name]["n"] for name in ("train", "val", "test")] == [40, 5, 10]
    assert load_review_data(mixed.folder).tables is None
    sized = shared(align, start, train=tmp_path / "train.csv", sizes=(10, 5, 5), models=offline(), **FEW)
    assert [sized.run.result["data"][name]["n"] for name in ("train", "val", "test")] == [10, 5, 5]


def test_figures_of_the_training_images_are_called_so() -> None:
    """Without a validation set a warning says that they are too good; without a test set nothing is claimed."""
    with pytest.warns(BlpoWarning, match="train"):
        done = shared(align, student(), train=SETS["train"], models=offline(), **FEW)
    assert set(done.judge.card["agreement"]["after"]) == {"val", "test"} or "train" in str(done.judge.card["agreement"])
    assert done.after.test is None
    assert "sealed" not in done.summary() or "Not measured on sealed test images" in done.summary()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"round": 3}, "no option 'round'; did you mean rounds?"),
        ({"colour": 3}, "no option 'colour'; the options are rounds"),
        ({"keep_back": "sometimes"}, "keep_back='sometimes' is not one of 'auto', 'always', 'never'"),
        ({"sizes": (3, 3, 3)}, "sizes are for one table that is split"),
        ({"train": ["a.png"]}, r"train\[0\]='a.png' is not a dspy.Example"),
        ({"train": "nowhere.csv"}, "nowhere.csv: no such table"),
        ({"train": []}, "empty|no rows|nothing"),
        ({"test": SETS["train"]}, "images are in more than one of train, val, test"),
        ({"start": "judge.json"}, "start='judge.json' is not a judge"),
    ],
)
def test_what_cannot_work_is_refused_before_any_call(options: dict[str, Any], problem: str) -> None:
    """In one message that says what to do."""
    recording = Recording()
    given = {"start": student(), **SETS, "models": recorded_models(recording), **FEW, **options}
    with pytest.raises((BlpoError, DataError), match=problem):
        shared(align, given.pop("start"), **given)
    assert not recording.seen


@pytest.mark.parametrize("name", ["models", "num_threads", "prices", "max_outage", "progress"])
def test_what_is_the_workspaces_is_no_option(name: str) -> None:
    """The error says where it goes."""
    with pytest.raises(BlpoError, match=rf"{name} is an option of the workspace: with Workspace\({name}=…\)"):
        align(student(), **SETS, **{name: None})


def test_a_judge_without_a_model_is_told_what_to_give() -> None:
    """Its own models, those of DSPy's settings, or models=."""
    with dspy.context(lm=None), pytest.raises(ModelError, match=r"open a Workspace\(models=Models\.named"):
        shared(align, student(), **SETS, **FEW)
    judge = student()
    judge.set_lm(embedded_lm())
    assert shared(align, judge, **SETS, **FEW).after.test is not None


def test_an_interruption_says_how_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C leaves a folder that the same call resumes from."""

    def interrupt() -> None:
        while answers(tmp_path) < 5:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with ctrl_c(), pytest.raises(KeyboardInterrupt):
        shared(
            align, student(), **SETS, models=offline(), run_dir=tmp_path, **{**FEW, "rounds": 50, "max_calls": 50_000}
        )
    assert f"Interrupted: the same call or command resumes from {tmp_path}." in capsys.readouterr().err.replace(
        "\n", ""
    )


def test_progress_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines elsewhere than on a terminal; nothing by default there."""
    shared(align, student(), **SETS, models=offline(), **{**FEW, "progress": True})
    assert "round 1: " in capsys.readouterr().err
    shared(align, student(), **SETS, models=offline(), **{**FEW, "progress": None})
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_a_cap_that_does_not_pay_for_the_test_images_is_remarked_on() -> None:
    """The summary then says that nothing was measured on new images."""
    with pytest.warns(BlpoWarning, match="max_calls=60 doesn't pay for the 10 test images: not judged, as their"):
        done = shared(align, student(), **SETS, models=offline(), **{**FEW, "max_calls": 60})
    assert done.summary().startswith("Not measured on sealed test images")


def test_what_blpo_compiled_alone_can_be_reported(tmp_path: Path) -> None:
    """Start and compiled judge are measured on the test images; the judge itself is left as it is."""
    models = offline()
    optimizer = BLPO(
        prompt_model=models.optimizer,
        task_model=models.judge,
        verbalizer_model=models.verbalizer,
        rounds=2,
        inner_steps=1,
    )
    compiled = optimizer.compile(student(), trainset=SETS["train"], valset=SETS["val"])
    card, instruction = copy.deepcopy(compiled.card), compiled.instruction
    found = shared(
        Alignment.of,
        compiled,
        testset=SETS["test"],
        trainset=SETS["train"],
        valset=SETS["val"],
        models=models,
        run_dir=tmp_path / "run",
    )
    assert found.before.test is not None
    assert found.before.test.n == len(SETS["test"])
    assert found.run.result["start"]["judge"] == TASK
    assert (compiled.card, compiled.instruction) == (card, instruction)
    assert found.report(tmp_path / "r.html").stat().st_size > 1000
    assert Alignment.load(tmp_path / "run").summary() == found.summary()
    with pytest.raises(BlpoError, match="no record of its search"):
        Alignment.of(student(), testset=SETS["test"])
    with pytest.raises(DataError, match="more than one of"):
        Alignment.of(compiled, testset=SETS["train"], trainset=SETS["train"])
