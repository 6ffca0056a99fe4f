"""Tests of a judge as a scorer of MLflow, and of MLflow's own autologging while a judge is compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen
from judges import SAFETY, SCALE, answers, judge_with, picture, seen_by
from PIL import Image

from blpo_dspy.errors import BlpoError

# Folders need no database beside MLflow's light client; its telemetry would ask for the network.
ENVIRONMENT = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
os.environ.update(ENVIRONMENT)
mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (the extra blpo-dspy[mlflow])")

from blpo_dspy.integrations.mlflow import judge_scorer  # noqa: E402 - the settings are read on import

TESTS = Path(__file__).parents[1]


def scored(judge: Any, inputs: Any, outputs: Any, **options: Any) -> Any:
    """Returns the feedback on one item, as MLflow's evaluation calls a scorer."""
    return judge_scorer(judge, **options).run(inputs=inputs, outputs=outputs, expectations={}, trace=None)


def test_feedback_has_the_score_the_evidence_and_the_label() -> None:
    """And names the model as its source."""
    feedback = scored(judge_with(answers("4"), SCALE), {"image": picture(1)}, "a text", name="taste")
    assert (feedback.name, feedback.value, feedback.metadata) == ("taste", 0.75, {"label": "4"})
    assert feedback.rationale == "The judge's label is 4; the best is 5. a grey square"
    assert (feedback.source.source_type, feedback.source.source_id) == ("LLM_JUDGE", "scripted/test")
    assert feedback.error is None


def test_the_image_of_the_outputs_is_judged_before_that_of_the_inputs() -> None:
    """Under its name, under another, or as all there is; texts have their names, too."""
    judge = judge_with(answers("3"), SCALE, context=["caption"], evidence="image")
    inputs = {"image": picture(1), "caption": "given"}
    made = Image.new("RGB", (8, 8), (9,) * 3)
    scored(judge, inputs, {"image": made, "caption": "made"})
    scored(judge, inputs, {"render": picture(9)}, fields={"image": "render"})
    scored(judge, inputs, picture(9))
    scored(judge, inputs, "said", fields={"caption": "outputs"})
    seen = seen_by(judge)
    assert [one.field("caption") for one in seen] == ["made", "given", "given", "said"]
    assert len({one.images[0] for one in seen[:3]}) == 1
    assert seen[3].images[0] != seen[0].images[0]


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (dspy.lm15.InvalidRequestError("no such picture"), "LM_FAILURE", "no such picture"),
        ("no idea", "INVALID_ANSWER", "no valid label (it wrote 'no idea')"),
    ],
)
def test_a_failed_call_and_an_answer_without_a_label_are_errors_of_their_own(answer: Any, code: str, text: str) -> None:
    """Not a bad score."""
    judge = judge_with(lambda seen: answer, SCALE, evidence="image")
    feedback = scored(judge, {"image": picture(1)}, None)
    assert feedback.value is None
    assert feedback.error.error_code == code
    assert text in feedback.error.error_message


def test_text_of_the_outputs_is_never_a_path() -> None:
    """MLflow shows the error with the item."""
    judge = judge_with(answers("3"), SCALE)
    with pytest.raises(BlpoError, match="is text"):
        scored(judge, {}, {"image": "/etc/hostname"})
    with pytest.raises(BlpoError, match="neither the prediction nor the example has a field 'image'"):
        scored(judge, {}, "/etc/hostname")
    assert seen_by(judge) == []


def by_grey(seen: Seen) -> Any:
    """Fails on one picture, is at a loss with the second, and likes the others."""
    replies = {picture(1): dspy.lm15.InvalidRequestError("refused"), picture(2): "no idea"}
    return replies.get(f"data:image/png;base64,{seen.images[0]}", {"label": "Safe"})


@pytest.mark.slow
def test_an_evaluation_of_mlflow_runs_it(tmp_path: Path) -> None:
    """The mean is over what has a score; the others show as errors, in a store that holds no base64 in its texts."""
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    judge = judge_with(by_grey, SAFETY, evidence="image")
    scorer = judge_scorer(judge, scores={"Safe": 0.75, "Unsafe": 0.0})
    data = [{"inputs": {"wish": str(i)}, "outputs": {"image": picture(i)}} for i in range(4)]
    try:
        done = mlflow.genai.evaluate(data=data, scorers=[scorer])
    finally:
        mlflow.set_tracking_uri(None)
    assert done.metrics == {"judge/mean": 0.75}
    assert len(seen_by(judge)) == 4
    traces = [trace for (trace,) in done.result_df[["trace"]].itertuples(index=False)]
    assessments = [json.loads(trace)["info"]["assessments"] for trace in traces]
    codes = {
        a["feedback"]["error"]["error_code"] for several in assessments for a in several if "error" in a["feedback"]
    }
    assert codes == {"LM_FAILURE", "INVALID_ANSWER"}
    assert all(picture(3)[30:] not in json.dumps(several) for several in assessments)


COMPILE = """
import json, sys
import dspy, mlflow
from blpo_dspy.optimizers import BLPO
from worlds import TRAIN, VALIDATION, mind, student, world

def compiled():
    lm = world(mind)
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=2, inner_steps=1, num_threads=2)
    return optimizer.compile(student(), trainset=TRAIN[::2], valset=VALIDATION[::2]), len(lm.engine.seen)

def traces():
    mlflow.flush_trace_async_logging()
    return len(mlflow.search_traces(locations=["0"], return_type="list"))

plain, calls = compiled()
plain.save("plain.json")
mlflow.dspy.autolog(log_compiles=True)
logged, calls_logged = compiled()
logged.save("logged.json")
while_compiling = traces()
with dspy.context(lm=world(mind)):
    logged(TRAIN[0].image)
(run,) = mlflow.MlflowClient().search_runs(["0"])
mlflow.MlflowClient().download_artifacts(run.info.run_id, "best_model.json", ".")
print(json.dumps([calls, calls_logged, run.info.status, while_compiling, traces()]))
"""


@pytest.mark.slow
def test_a_compile_under_mlflows_autologging_leaves_the_same_judge(tmp_path: Path) -> None:
    """For as many calls; MLflow's run has the judge file, and a later call of the judge is traced."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
        check=False,
        env={
            **os.environ,
            **ENVIRONMENT,
            "PYTHONPATH": str(TESTS),
            "MLFLOW_TRACKING_URI": (tmp_path / "store").as_uri(),
            "DSPY_CACHEDIR": str(tmp_path / "cache"),
        },
    )
    assert done.returncode == 0, done.stderr
    calls, calls_logged, status, while_compiling, after = json.loads(done.stdout.splitlines()[-1])
    assert calls_logged == calls > 0
    assert (status, while_compiling, after) == ("FINISHED", 0, 1)
    plain, logged, kept = (
        json.loads((tmp_path / name).read_text()) for name in ("plain.json", "logged.json", "best_model.json")
    )
    assert logged == plain
    assert kept == plain


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On import of the module."""
    monkeypatch.delitem(sys.modules, "blpo_dspy.integrations.mlflow")
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)
    with pytest.raises(BlpoError, match=r": pip install \"blpo-dspy\[mlflow\]\""):
        __import__("blpo_dspy.integrations.mlflow")
