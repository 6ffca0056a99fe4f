"""The engine behind DSPy's contract: the same answer to the same request, wherever and whenever it is asked."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from embedded_requests import TASK, as_image, ask, photographs, request, text_of

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded import AsyncEmbeddedEngine, EmbeddedEngine, Traits, embedded_lm
from blpo_dspy.embedded.engine import VERSION
from blpo_dspy.programs import VisualJudge


def requests() -> list[lm15.Request]:
    """Returns requests for several roles about several pictures."""
    texts = ["Describe this image.", "Describe this image: look for blur and noise.", "Rate this image from 1 to 5."]
    return [request(text, row.image) for row in photographs()[:12] for text in texts]


def test_answers_depend_on_neither_order_nor_threads() -> None:
    """Forwards, shuffled and from sixteen threads: the same texts."""
    asked = requests()
    first = [text_of(EmbeddedEngine(1).complete(r)) for r in asked]
    shuffled, engine = list(range(len(asked))), EmbeddedEngine(1)
    random.Random(0).shuffle(shuffled)
    assert {i: text_of(engine.complete(asked[i])) for i in shuffled} == dict(enumerate(first))
    with ThreadPoolExecutor(16) as pool:
        assert [text_of(r) for r in pool.map(EmbeddedEngine(1).complete, asked)] == first


@pytest.mark.slow
def test_other_seeds_give_other_noise() -> None:
    """The engine's own seed and the request's."""
    asked = requests()
    by_engine = {tuple(text_of(EmbeddedEngine(s).complete(r)) for r in asked) for s in range(3)}
    row = photographs()[0]
    by_request = {
        ask(EmbeddedEngine(), "Describe this image: how is its quality?", row.image, seed=s) for s in range(8)
    }
    assert len(by_engine) == 3
    assert len(by_request) > 1


@pytest.mark.parametrize("make", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("kind", [EmbeddedEngine, AsyncEmbeddedEngine])
def test_copies_answer_alike(make: Callable[[Any], Any], kind: type[Any]) -> None:
    """A copy keeps seed and traits."""
    engine = kind(7, Traits(span=2))
    assert make(engine).dump_state() == engine.dump_state() == kind.load_state(engine.dump_state()).dump_state()
    assert json.loads(json.dumps(engine.dump_state()))["seed"] == 7


def test_a_program_with_the_engine_attached_is_saved_and_loaded(tmp_path: Path) -> None:
    """DSPy's own saving of whole programs works."""
    program = dspy.Predict("image: dspy.Image -> description")
    program.lm = embedded_lm(3)
    program.save(str(tmp_path / "program"), save_program=True)
    loaded = dspy.load(str(tmp_path / "program"), allow_pickle=True)
    image = as_image(photographs()[0].image)
    assert loaded(image=image).description == program(image=image).description


def test_sync_async_and_streams_agree() -> None:
    """Three ways to one text."""
    asked = requests()[1]
    engine, other = EmbeddedEngine(2), AsyncEmbeddedEngine(2)
    text = text_of(engine.complete(asked))

    async def streamed() -> list[Any]:
        return [event async for event in other.stream(asked)]

    assert text_of(asyncio.run(other.complete(asked))) == text
    for events in (list(engine.stream(asked)), asyncio.run(streamed())):
        assert "".join(e.delta.text for e in events if e.type == "delta") == text
    engine.close()
    asyncio.run(other.aclose())


def test_the_model_name_tells_engines_apart() -> None:
    """Version, seed and traits are in it, so that a cache never mixes two engines."""
    names = {embedded_lm(0).model, embedded_lm(1).model, embedded_lm(0, traits=Traits(span=2)).model}
    assert len(names) == 3
    assert all(str(VERSION) in name for name in names)
    assert embedded_lm(0).model == embedded_lm(0, traits=Traits()).model


def test_a_cached_answer_is_not_another_engines() -> None:
    """Two engines behind one memory cache answer for themselves."""
    row = photographs()[0]
    texts = {}
    for seed in range(6):
        with dspy.context(lm=embedded_lm(seed)):
            predict = dspy.Predict(dspy.Signature("image -> description", "Report the technical quality."))
            predict.signature = predict.signature.with_updated_fields("image", type_=dspy.Image)
            texts[seed] = predict(image=as_image(row.image)).description
    assert len(set(texts.values())) > 1


def test_an_answer_over_the_token_limit_is_cut_and_says_so() -> None:
    """As a provider would."""
    asked = request("Write a better instruction. The current instruction is: Rate it.")
    whole = EmbeddedEngine().complete(asked)
    cut = EmbeddedEngine().complete(lm15.Request(model="m", messages=asked.messages, config=lm15.Config(max_tokens=3)))
    assert (whole.finish_reason, cut.finish_reason) == ("stop", "length")
    assert text_of(whole).startswith(text_of(cut))
    assert len(text_of(cut)) == 12


def test_tokens_are_counted_with_images() -> None:
    """Roughly, and consistently."""
    row = photographs()[0]
    without, with_image = (
        EmbeddedEngine().complete(request(*parts)).usage for parts in (["Rate this."], ["Rate this.", row.image])
    )
    assert with_image.input_tokens - without.input_tokens == 85
    assert with_image.total_tokens == with_image.input_tokens + with_image.output_tokens


def test_a_broken_image_is_an_invalid_request() -> None:
    """The error a provider gives, not a crash."""
    with pytest.raises(lm15.InvalidRequestError, match="cannot be decoded"):
        EmbeddedEngine().complete(request("Describe this.", b"nonsense"))


def test_an_image_by_address_is_never_fetched() -> None:
    """It cannot be seen, and the answer says so."""
    image = lm15.ImagePart(url="https://example.invalid/x.png")
    asked = lm15.Request(model="m", messages=(lm15.Message.user([lm15.TextPart("Describe this image."), image]),))
    assert "cannot be seen" in text_of(EmbeddedEngine().complete(asked))


@pytest.mark.parametrize("evidence", ["both", "image", "description"])
def test_an_image_by_address_gets_no_label(evidence: Any) -> None:
    """What was not seen is not judged, by its description neither."""
    judge = VisualJudge(LabelSpace("good", "bad"), instruction=TASK, evidence=evidence)
    with dspy.context(lm=embedded_lm(cache=False)):
        assert judge(image="https://example.invalid/x.png").label is None
        assert judge(image=photographs()[0].image).label is not None


def test_nothing_in_the_engine_knows_an_optimizer_by_name() -> None:
    """It routes on what is asked for."""
    folder = Path(__file__).parents[2] / "blpo_dspy" / "embedded"
    names = re.compile(r"\b(?:blpo|mipro\w*|gepa|copro|simba|opro|apo|protegi|textgrad|teleprompt\w*)\b", re.IGNORECASE)
    for file in folder.glob("*.py"):
        assert not names.search(file.read_text(encoding="utf-8").replace("blpo-dspy", "")), file.name


def test_equal_requests_in_one_call_can_be_varied_by_seed() -> None:
    """The same prompt with another `seed` is another draw."""
    lm = embedded_lm(cache=False)
    prompt = f"Write a new instruction. My current instruction is: {TASK}"
    assert lm(prompt)[0] == lm(prompt)[0]
    assert len({lm(prompt, seed=s)[0] for s in range(6)}) > 2
