"""A DSPy program of one's own as a judge: called, aligned, saved, used on tables and on the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from judges import SAFETY, picture
from photographs import FIVE, TASK, photographs
from typer.testing import CliRunner
from workspaces import shared

from blpo_dspy.cli.app import app
from blpo_dspy.data.sources.photographs import RATERS
from blpo_dspy.data.sources.photographs.dataset import write_dataset
from blpo_dspy.embedded.engine import embedded_lm
from blpo_dspy.errors import ArtifactError, BlpoError
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers import BLPO
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import ProgramJudge, VisualJudge
from blpo_dspy.runs.align import align
from blpo_dspy.runs.measure import measure

PROGRAM = '''
import dspy

from blpo_dspy import LabelSpace
from blpo_dspy.programs import ProgramJudge


class Look(dspy.Signature):
    """Describe the photograph."""

    shot: dspy.Image = dspy.InputField()
    findings: str = dspy.OutputField()


class Decide(dspy.Signature):
    """Rate the technical quality of this photograph."""

    shot: dspy.Image = dspy.InputField()
    findings: str = dspy.InputField()
    grade: str = dspy.OutputField(desc="a whole number from 1 to 5")


class Inspector(dspy.Module):
    def __init__(self):
        super().__init__()
        self.look, self.decide = dspy.Predict(Look), dspy.ChainOfThought(Decide)

    def forward(self, shot):
        findings = self.look(shot=shot).findings
        decided = self.decide(shot=shot, findings=findings)
        return dspy.Prediction(grade=decided.grade, reasoning=decided.reasoning)


def build():
    labels = LabelSpace.ordinal(1, 5)
    return ProgramJudge(Inspector(), labels, verbalizer="look", judge="decide", label_field="grade")
'''


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The factory of a program with names of its own, as a module of the current folder."""
    (tmp_path / "inspector.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import sys

    sys.modules.pop("inspector", None)
    import inspector  # type: ignore[import-not-found]

    yield inspector.build
    sys.modules.pop("inspector", None)


def script(seen: Seen) -> Any:
    """Findings, then a grade."""
    return {"findings": "a grey square"} if seen.fields == ["findings"] else {"reasoning": "it is grey", "grade": "4/5"}


def test_it_is_called_by_the_programs_own_names(build: Any) -> None:
    """And gives the label of the label space, with what the program said."""
    judge = build()
    assert (judge.images, judge.context, judge.calls_per_image) == (("shot",), (), 2)
    judge.set_lm(scripted_lm(script))
    with dspy.context(trace=[]):
        prediction = judge(shot=picture())
    assert (prediction.label, prediction.answer, prediction.reasoning) == (4, "4/5", "it is grey")
    assert prediction.description == "a grey square"
    assert judge(picture()).label == 4
    assert [prediction.label for prediction in judge.batch([picture(1), picture(2)])] == [4, 4]
    assert copy.deepcopy(judge)(picture()).label == 4
    with pytest.raises(BlpoError, match="takes shot; missing"):
        judge(image=picture())


def test_an_answer_out_of_form_is_read_for_a_label() -> None:
    """Or is none, not an error."""

    class Simple(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.verbalizer = dspy.Predict("image: dspy.Image -> description: str")
            self.judge = dspy.Predict("image: dspy.Image, description: str -> label: str")

        def forward(self, image: Any) -> dspy.Prediction:
            described = self.verbalizer(image=image).description
            return dspy.Prediction(label=self.judge(image=image, description=described).label, description=described)

    judge = ProgramJudge(Simple(), SAFETY)
    judge.set_lm(scripted_lm(lambda seen: {"description": "x"} if "description" in seen.fields else "Unsafe."))
    assert judge(picture()).label == "Unsafe"
    with dspy.context(trace=[]):
        assert judge(picture(1)).description == "x"


@pytest.mark.slow
def test_it_goes_the_whole_way(build: Any, tmp_path: Path) -> None:
    """Aligned, measured, saved, loaded into a new one, used on a table, evaluated and judged by the commands."""
    write_dataset(tmp_path / "photos", RATERS["colour"], train=40, val=10, test=10)
    table = tmp_path / "photos" / "train.csv"
    table.write_text(table.read_text().replace("image,", "shot,", 1))
    models = Models(*(embedded_lm(cache=False) for _ in range(3)))
    done = shared(align, build(), train=table, models=models, run_dir="run", rounds=2, label_errors=3, progress=False)
    assert isinstance(done.judge, ProgramJudge)
    assert done.after.test is not None
    assert done.judge.card["agreement"]["after"]["test"]
    assert done.report("r.html").stat().st_size > 1000
    done.judge.save("judge.json")
    saved = json.loads(Path("judge.json").read_text())
    assert saved["format"] == "blpo-dspy program"
    assert "base64" not in Path("judge.json").read_text()
    again = build()
    again.load("judge.json")
    assert again.identity() == done.judge.identity()
    assert again.card == done.judge.card
    assert shared(predict, again, table, out="o.csv", models=models).complete
    assert shared(measure, again, table, models=models, progress=False).agreement.n == 40
    runner = CliRunner()
    named = ["--program", "inspector:build", "--model", "embedded"]
    for words in (["evaluate", "judge.json", str(table)], ["judge", "judge.json", str(table), "--out", "p.csv"]):
        result = runner.invoke(app, [*words, *named])
        assert result.exit_code == 0, result.stderr
    refused = runner.invoke(app, ["evaluate", "judge.json", str(table)])
    assert refused.exit_code == 2
    assert "--program module:factory" in refused.stderr


@pytest.mark.slow
def test_blpo_compiles_it_by_its_own_predictors(build: Any) -> None:
    """Whatever their names; instructions of both may change."""
    sets = {
        name: [dspy.Example(shot=e.image, label=e.label).with_inputs("shot") for e in examples]
        for name, examples in photographs().items()
    }
    lm = embedded_lm()
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=2, inner_steps=1)
    compiled = optimizer.compile(build(), trainset=sets["trainset"], valset=sets["valset"])
    assert isinstance(compiled, ProgramJudge)
    assert compiled.detailed_results.start.judge == TASK
    assert set(compiled.card["agreement"]["after"]) == {"val"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, r"no single predictor named 'verbalizer' \(it has \['look', 'decide"),
        ({"verbalizer": "look", "judge": "decider"}, "name the one that is the judge with judge="),
        (
            {"verbalizer": "look", "judge": "decide", "images": ["photo"]},
            "forward takes shot, but its inputs are photo",
        ),
        ({"verbalizer": "look", "judge": "decide", "context": ["prompt"]}, "forward takes shot, but its inputs are"),
        ({"verbalizer": "look", "judge": "decide", "pixel_policy": "x"}, "pixel_policy='x' is not a pixel policy"),
    ],
)
def test_what_cannot_be_a_judge_is_refused_before_any_call(build: Any, options: dict[str, Any], problem: str) -> None:
    """With the names that there are."""
    program = build().program
    with pytest.raises(BlpoError, match=problem):
        ProgramJudge(program, FIVE, **options)
    with pytest.raises(BlpoError, match="is not a DSPy program"):
        ProgramJudge("x", FIVE)  # type: ignore[arg-type]
    with pytest.raises(BlpoError, match=r"takes a dspy\.Image; name its image inputs"):
        ProgramJudge(VisualLess(), FIVE)


class VisualLess(dspy.Module):
    """A program without images."""

    def __init__(self) -> None:
        super().__init__()
        self.verbalizer, self.judge = dspy.Predict("a -> b"), dspy.Predict("b -> label")


def test_a_program_without_the_label_is_named_so(build: Any) -> None:
    """With the fields that it returns."""
    judge = ProgramJudge(build().program, FIVE, verbalizer="look", judge="decide")
    judge.set_lm(scripted_lm(script))
    with pytest.raises(BlpoError, match="returns the fields grade, reasoning, and no 'label'"):
        judge(picture())


def test_a_file_of_another_program_is_refused(build: Any, tmp_path: Path) -> None:
    """A VisualJudge's, one with other labels, a damaged one; and the class alone cannot load."""
    judge = build()
    judge.save(tmp_path / "own.json")
    VisualJudge(FIVE, instruction=TASK).save(tmp_path / "visual.json")
    with pytest.raises(ArtifactError, match="not a program saved by ProgramJudge"):
        judge.load(tmp_path / "visual.json")
    with pytest.raises(ArtifactError, match="state of a program of somebody's own"):
        VisualJudge.load(tmp_path / "own.json")
    with pytest.raises(BlpoError, match="build the program, then load into it"):
        ProgramJudge.load(tmp_path / "own.json")
    other = ProgramJudge(judge.program, SAFETY, verbalizer="look", judge="decide", label_field="grade")
    with pytest.raises(ArtifactError, match="saved by another program: labels"):
        other.load(tmp_path / "own.json")
    data = json.loads((tmp_path / "own.json").read_text())
    data["states"] = {}
    (tmp_path / "own.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="not a program that can be loaded"):
        judge.load(tmp_path / "own.json")
    with pytest.raises(BlpoError, match=r"name a \.json file"):
        judge.save(tmp_path / "own.pkl")


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("inspector", "is not MODULE:FACTORY"),
        ("nowhere:build", "name a module of this folder"),
        ("inspector:nothing", "name a module of this folder"),
        ("inspector:Inspector", "return ProgramJudge"),
    ],
)
def test_a_program_that_cannot_be_built_is_refused(build: Any, program: str, problem: str) -> None:
    """Before the table is read."""
    build().save("judge.json")
    done = CliRunner().invoke(app, ["judge", "judge.json", "a.png", "--program", program])
    assert done.exit_code == 2
    assert problem in done.stderr
