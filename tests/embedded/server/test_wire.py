"""The wire: both of DSPy's HTTP engines against the endpoint on loopback, streamed and whole, and the recipes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import ScriptedServer, completion
from scripts import script
from typer.testing import CliRunner

from blpo_dspy.cli.app import app
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs, write_dataset
from blpo_dspy.embedded.server.faults import Faults
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.models.lm import Models, make_lm
from blpo_dspy.optimizers import BLPO
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.meter import Meter

pytestmark = pytest.mark.slow

ENGINES = ("lm15", "litellm")
SCALE = LabelSpace.ordinal(1, 5)
ROOT = Path(__file__).resolve().parents[3]
PHOTOGRAPHS = rated_photographs(RATERS["sharp"], train=12, val=6, test=1)


def example(photograph: Any) -> dspy.Example:
    """Returns a photograph as a labelled example."""
    return dspy.Example(image=photograph.image, label=photograph.label).with_inputs("image")


def judge() -> VisualJudge:
    """Returns a judge to begin with."""
    return VisualJudge(SCALE, instruction="Rate the technical quality.")


def served(base: str, engine: str, **options: Any) -> dspy.LM:
    """Returns an LM on the endpoint through one of DSPy's engines."""
    return make_lm("openai/embedded", api_base=base, role="judge", engine=engine, cache=False, **options)


def compiled(models: Models, path: Path) -> bytes:
    """Aligns a judge and returns its file."""
    optimizer = BLPO(
        prompt_model=models.optimizer,
        task_model=models.judge,
        verbalizer_model=models.verbalizer,
        rounds=2,
        inner_steps=1,
        batch_size=3,
        minibatch_size=6,
        num_threads=4,
    )
    train, val = ([example(p) for p in part] for part in (PHOTOGRAPHS.train, PHOTOGRAPHS.val))
    optimizer.compile(judge(), trainset=train, valset=val).save(path)
    return path.read_bytes()


def test_the_same_compile_gives_the_same_judge_through_every_engine(tmp_path: Path) -> None:
    """To the byte, and the one that the engine in process gives; something was learned."""
    with start_server() as base:
        files = [
            compiled(
                Models.named("openai/embedded", api_base=base, engine=engine, cache=False), tmp_path / f"{engine}.json"
            )
            for engine in ENGINES
        ]
    files.append(compiled(Models.named("embedded"), tmp_path / "embedded.json"))
    judge().save(tmp_path / "start.json")
    assert len(set(files)) == 1
    assert VisualJudge.load(tmp_path / "lm15.json").instruction != judge().instruction


@pytest.mark.parametrize("engine", ENGINES)
def test_misshapen_answers_are_asked_for_again(engine: str) -> None:
    """JSON that is no completion is an outage: neither the end of the run nor a wrong answer."""
    with start_server(Options(faults=Faults(pshape=0.5, seed=1))) as base:
        lm = served(base, engine, num_retries=8)
        meter = Meter(num_threads=1)
        answers = [meter.wrap(lm, "judge")(f"Describe the image, attempt {i}.") for i in range(4)]
    judged = meter.ledger["judge"]
    assert all(len(answer) == 1 and answer[0] for answer in answers)
    assert judged.failed == judged.retries == judged.calls - 4 > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_streamed_judgement_is_the_whole_one(engine: str) -> None:
    """The description arrives as it is written, and adds up to the one that an ordinary call gives."""
    program, image = judge(), PHOTOGRAPHS.test[0].image
    listener = dspy.streaming.StreamListener("description", predict=program.verbalizer, predict_name="verbalizer")
    streamed = dspy.streamify(program, stream_listeners=[listener], async_streaming=False)
    with start_server() as base, dspy.context(lm=served(base, engine)):
        whole = program(image=image)
        *chunks, last = streamed(image=image)
    assert (last.label, last.description) == (whole.label, whole.description)
    assert "".join(chunk.chunk for chunk in chunks) == whole.description


@pytest.mark.parametrize("engine", ENGINES)
def test_an_awaited_judgement_is_the_same(engine: str) -> None:
    """DSPy has a client of its own for asynchronous calls."""
    program, image = judge(), PHOTOGRAPHS.test[0].image
    with start_server() as base, dspy.context(lm=served(base, engine)):
        assert asyncio.run(program.acall(image=image)).label == program(image=image).label


@pytest.mark.parametrize("engine", ENGINES)
def test_several_answers_and_logprobs_come_through(engine: str) -> None:
    """As many as are asked for, each with the tokens it consists of where those are asked for."""
    with start_server() as base:
        lm = served(base, engine)
        assert len(lm("Describe the image.", n=3)) == 3
        answer = lm("Describe the image.", logprobs=True, top_logprobs=2)[0]
    told = answer["logprobs"]
    tokens = told["content"] if isinstance(told, dict) else [dict(token) for token in told.content]
    assert "".join(token["token"] for token in tokens) == answer["text"]


RECIPES = {recipe.where: recipe for recipe in script("endpoints").RECIPES}


@pytest.mark.parametrize("where", [name for name, recipe in RECIPES.items() if recipe.api_base])
def test_a_recipe_for_a_server_of_ones_own_reaches_its_chat_endpoint(where: str, tmp_path: Path) -> None:
    """At the path that its address has, without a key, with an image that it can read."""
    shown = script("endpoints").asked(RECIPES[where], PHOTOGRAPHS.test[0].image, tmp_path)
    assert shown.startswith(f"{where}: POST /v1/chat/completions → ")
    assert SCALE.parse(shown[-1]) is not None


@pytest.mark.parametrize("where", [name for name, recipe in RECIPES.items() if recipe.api_base])
def test_a_recipe_states_the_token_limit_as_every_server_knows_it(where: str) -> None:
    """Some servers pass over max_completion_tokens, and an answer would never end."""
    with ScriptedServer(lambda body: (200, completion("hi"), {})) as server:
        RECIPES[where].models(server.url).judge("hello")
    bodies = [body for body in server.bodies if "messages" in body]
    assert [(body["max_tokens"], body["temperature"]) for body in bodies] == [(4000, 0)]


@pytest.mark.parametrize("where", list(RECIPES))
def test_a_recipe_keeps_the_roles_apart(where: str) -> None:
    """Judge and verbalizer repeat themselves, the optimizer doesn't; the images lie below the strictest limit."""
    recipe = RECIPES[where]
    models = recipe.models()
    assert models.judge.kwargs["temperature"] == models.verbalizer.kwargs["temperature"] == 0
    assert models.optimizer.kwargs["temperature"] == 1
    assert models.optimizer.model == (recipe.optimizer or recipe.judge)
    assert recipe.policy.max_bytes < 3_750_000
    assert "JPEG" in recipe.policy.formats


@pytest.mark.parametrize("name", ["qwen2.5vl", "Qwen/Qwen2.5-VL-7B-Instruct"])
def test_compile_says_what_a_name_lacks_before_anything_is_asked(name: str, tmp_path: Path) -> None:
    """One line, with the name to write."""
    write_dataset(tmp_path, RATERS["sharp"], train=25, val=0, test=0)
    with start_server(Options(log=tmp_path / "log.jsonl")) as base:
        words = ["compile", str(tmp_path / "train.csv"), "--scale", "1-5", "--task", "Rate it."]
        words += ["--judge-model", name, "--api-base", base, "--out", str(tmp_path / "judge.json")]
        done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    assert f"; write openai/{name} for an OpenAI-compatible server" in " ".join(done.stderr.split())
    assert not (tmp_path / "log.jsonl").exists()
