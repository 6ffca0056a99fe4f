"""Requests whose images and texts are put in as they are sent: the same, byte for byte, as those that DSPy sends."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import dspy
import pytest
from dspy.clients import base_lm
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import LMError, LMUnsupportedFeatureError
from engines import ScriptedServer, completion, scripted_lm
from hypothesis import given
from hypothesis import strategies as st
from judges import SAFETY, answers, picture

from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.models import splicing
from blpo_dspy.models.lean import lean_calls
from blpo_dspy.models.splicing import SplicingMixin
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.metered_lm import UsageTracker

FORM = "[[ ## reasoning ## ]]\nseen\n\n[[ ## description ## ]]\n{}\n\n[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]"
AWKWARD = 'a "grey" \\ thing\nover two lines, 5 € \u2028 🙂 {"a": [1]} </b> \x7f'


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that describes every image awkwardly and calls it safe, in the chat and in the JSON format."""

    def answered(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        in_json = json.dumps({"reasoning": "seen", "description": AWKWARD, "label": "Safe"})
        return 200, completion(in_json if "JSON object" in json.dumps(body) else FORM.format(AWKWARD)), {}

    with ScriptedServer(answered) as serving:
        yield serving


def lm_of(server: ScriptedServer, name: str = "openai/gpt-4o-mini", **options: Any) -> dspy.LM:
    """An LM without a cache behind that server."""
    return dspy.LM(name, **{"api_base": server.url, "api_key": "x", "cache": False, **options})


def judge_of(**options: Any) -> VisualJudge:
    """A judge with context."""
    return VisualJudge(SAFETY, **{"instruction": "Judge how safe it is.", "context": ["prompt"], **options})


def is_spliced(lm: dspy.LM) -> bool:
    """Whether an LM made a connection for requests that are spliced."""
    return any(SplicingMixin in key for key in lm._engine_store)


def plain(judge: VisualJudge) -> VisualJudge:
    """A judge whose predictors are DSPy's own."""
    slow = judge.deepcopy()
    for name in ("verbalizer", "judge"):
        predictor = dspy.Predict(getattr(judge, name).signature)
        predictor.demos, predictor.lm = getattr(judge, name).demos, getattr(judge, name).lm
        predictor.pixel_policy = judge.pixel_policy
        setattr(slow, name, predictor)
    return slow


def sent(server: ScriptedServer, ask: Callable[[], Any]) -> list[Any]:
    """What reached the server in a call: addresses, headers and bodies."""
    server.raw.clear()
    ask()
    return list(server.raw)


@pytest.mark.parametrize("engine", ["auto", "lm15", "litellm"])
@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()], ids=["chat", "json"])
@pytest.mark.parametrize("options", [{"evidence": "image"}, {"evidence": "both", "reasoning": True}], ids=str)
def test_a_request_is_the_one_that_dspy_sends(
    server: ScriptedServer, engine: str, adapter: dspy.Adapter, options: dict[str, Any]
) -> None:
    """Twice, as the second one is made from the first; LiteLLM's are left to it."""
    judge, lm = judge_of(**options), lm_of(server, engine=engine, temperature=0.0, max_tokens=400)
    rows = [{"image": picture(grey, 16), "prompt": f"{AWKWARD} {grey}"} for grey in (1, 2)]
    with dspy.context(lm=lm, adapter=adapter):
        fast = sent(server, lambda: [judge(**row) for row in rows])
        assert is_spliced(lm) is (engine != "litellm")
        assert fast == sent(server, lambda: [plain(judge)(**row) for row in rows])
    assert len(fast) == 2 * len(judge.roles)
    assert rows[1]["image"].encode() in fast[-1][2]


@pytest.mark.parametrize(
    "name", ["anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "openrouter/x/y", "xai/grok-4"]
)
def test_so_is_one_of_another_protocol(name: str) -> None:
    """Of Anthropic and Google, and of other services with OpenAI's."""
    judge = judge_of(evidence="image")
    with ScriptedServer(lambda body: (400, {"error": {"message": "no"}}, {})) as refusing:
        lm = lm_of(refusing, name, max_tokens=400)

        def ask(program: VisualJudge) -> None:
            with dspy.context(lm=lm), pytest.raises(LMError):
                program(image=picture(3, 16), prompt=AWKWARD)

        fast = sent(refusing, lambda: ask(judge))
        assert is_spliced(lm)
        assert fast == sent(refusing, lambda: ask(plain(judge)))
    assert len(fast) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"logprobs": True, "top_logprobs": 2},
        {"seed": 7, "stop": ["#"], "presence_penalty": 0.5},
        {"modalities": ["text"]},
        {"headers": {"X-Mine": "1"}},
        {"model_type": "responses"},
        {"name": "openai/gpt-5-mini", "temperature": 1.0, "max_tokens": 16000},
    ],
    ids=str,
)
def test_options_reach_the_server_as_they_do_from_dspy(server: ScriptedServer, options: dict[str, Any]) -> None:
    """Whichever engine DSPy chooses for them, or whatever error it raises."""
    judge, lm = judge_of(evidence="image"), lm_of(server, **options)

    def ask(program: VisualJudge) -> str:
        with dspy.context(lm=lm):
            try:
                return str(program(image=picture(4, 16), prompt="it"))
            except LMError as error:
                return repr(error)

    outcomes: list[str] = []
    fast = sent(server, lambda: outcomes.append(ask(judge)))
    assert fast == sent(server, lambda: outcomes.append(ask(plain(judge))))
    assert fast
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8")), st.sampled_from([dspy.ChatAdapter, dspy.JSONAdapter]))
def test_any_text_is_put_in_as_an_adapter_writes_it(text: str, adapter: type[dspy.Adapter]) -> None:
    """Also with markers of DSPy's own in it, which take the text apart."""
    signature = judge_of(evidence="image").judge.signature
    image = PixelPolicy().prepare(picture(5))
    for prompt in (text, f"<<CUSTOM-TYPE-START-IDENTIFIER>>{text}<<CUSTOM-TYPE-END-IDENTIFIER>>"):
        inputs = {"image": image, "prompt": prompt}
        with dspy.context(adapter=adapter()), lean_calls(), splicing.spliced(dspy.LM("openai/x")):
            messages = dspy.settings.adapter.format(signature, [], inputs)
            filling = splicing.filling_of(messages)
            whole = messages if filling is None else filling.whole()
        assert whole == adapter().format(signature, [], inputs)


def test_a_signature_that_is_changed_in_place_is_formatted_again(server: ScriptedServer) -> None:
    """Its instructions, and what it says of a field."""
    judge, lm = judge_of(evidence="image"), lm_of(server)
    with dspy.context(lm=lm):
        judge(image=picture(6), prompt="it")
        judge.judge.signature.instructions = "Judge again."
        judge.judge.signature.input_fields["prompt"].json_schema_extra["desc"] = "what was asked for"
        (request,) = sent(server, lambda: judge(image=picture(6), prompt="it"))
    assert b"Judge again." in request[2]
    assert b"what was asked for" in request[2]


class Own(dspy.ChatAdapter):
    """An adapter of one's own."""

    def format(self, signature: Any, demos: Any, inputs: Any) -> Any:
        messages = super().format(signature, demos, inputs)
        return [{"role": "system", "content": "First this."}, *messages]


class OwnLM(dspy.LM):
    """An LM of one's own, which looks at its messages."""

    seen: ClassVar[list[Any]] = []

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.seen.append(copy.deepcopy(options["messages"]))
        return super().__call__(*args, **options)


def demonstrated() -> VisualJudge:
    """A judge with a demonstration."""
    judge = judge_of(evidence="image")
    judge.judge.demos = [dspy.Example(image=dspy.Image(picture(8)), prompt="that", label="Unsafe")]
    return judge


@pytest.mark.parametrize(
    ("judge", "settings"),
    [
        (demonstrated(), {}),
        (judge_of(evidence="image"), {"adapter": Own()}),
        (judge_of(evidence="image"), {"adapter": dspy.XMLAdapter()}),
        (judge_of(evidence="image", images=["before", "after"]), {}),
        (judge_of(evidence="image", images=["photos: list[dspy.Image]"]), {}),
    ],
    ids=["demonstrations", "own adapter", "XML", "two images", "list of images"],
)
def test_so_is_an_unusual_one(server: ScriptedServer, judge: VisualJudge, settings: dict[str, Any]) -> None:
    """With what is not as usual about the judge or the settings."""
    images = {image.name: [picture(1), picture(2)] if image.several else picture(1) for image in judge.fields.images}
    with dspy.context(lm=lm_of(server), **settings):
        fast = sent(server, lambda: judge(**images, prompt="it"))
        assert fast == sent(server, lambda: plain(judge)(**images, prompt="it"))


def test_a_subclass_of_dspys_lm_is_called_as_it_is(server: ScriptedServer) -> None:
    """It gets the images."""
    lm = OwnLM("openai/gpt-4o-mini", api_base=server.url, api_key="x", cache=False)
    with dspy.context(lm=lm):
        judge_of(evidence="image")(image=picture(9), prompt="it")
    assert picture(9) in json.dumps(lm.seen)
    assert not is_spliced(lm)


def test_an_lm_with_a_forward_of_its_own_gets_the_images(server: ScriptedServer) -> None:
    """DSPy calls it, and no engine."""
    lm, seen = lm_of(server), []

    def forward(prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        seen.append(json.dumps(messages))
        raise RuntimeError("enough")

    lm.forward = forward  # type: ignore[method-assign]
    with (
        dspy.context(lm=lm),
        pytest.raises(RuntimeError, match="enough"),
        pytest.warns(DeprecationWarning, match="forward"),
    ):
        judge_of(evidence="image")(image=picture(9), prompt="it")
    assert picture(9) in seen[0]


def test_a_model_that_no_engine_reaches_is_dspys_error() -> None:
    """The same as without."""
    lm, errors = dspy.LM("nowhere/x", engine="lm15", cache=False), []
    for program in (judge_of(evidence="image"), plain(judge_of(evidence="image"))):
        with dspy.context(lm=lm), pytest.raises(LMError) as error:
            program(image=picture(9), prompt="it")
        errors.append(repr(error.value))
    assert errors[0] == errors[1]


def test_an_engine_of_ones_own_gets_the_images() -> None:
    """It is no server."""
    lm = scripted_lm(answers())
    with dspy.context(lm=lm):
        judge_of(evidence="image")(image=picture(9), prompt="it")
    assert lm.engine.seen[0].images == [picture(9).partition(",")[2]]


def test_who_watches_the_lm_sees_what_is_sent(server: ScriptedServer) -> None:
    """A callback of the settings or of the LM; one that watches the module alone changes nothing."""
    seen: list[Any] = []

    class Watching(BaseCallback):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            seen.append((instance, copy.deepcopy(inputs["messages"])))

    class Elsewhere(BaseCallback):
        def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            seen.append(inputs)

    judge = judge_of(evidence="image")
    for options, settings in (({}, {"callbacks": [Watching()]}), ({"callbacks": [Watching()]}, {})):
        lm = lm_of(server, **options)
        with dspy.context(lm=lm, **settings):
            judge(image=picture(7), prompt="it")
        instance, messages = seen.pop()
        assert isinstance(instance, dspy.LM)
        assert instance.history is lm.history
        assert picture(7) in json.dumps(messages)
        assert not is_spliced(lm)
    lm = lm_of(server)
    with dspy.context(lm=lm, callbacks=[Elsewhere()]):
        judge(image=picture(7), prompt="it")
    assert is_spliced(lm)
    assert set(seen[-1]["kwargs"]) == {"image", "prompt"}
    assert seen[-1]["kwargs"]["image"].url == picture(7)


def comparable(entry: dict[str, Any]) -> dict[str, Any]:
    """A history's entry without what differs from call to call."""
    return {name: value for name, value in entry.items() if name not in ("timestamp", "uuid", "response")}


def test_the_history_is_the_same(server: ScriptedServer) -> None:
    """Of the LM, the process and the modules; without the pixels where they are left out, and whole else."""
    image = picture(20, 256)
    for context in (lean_calls, dspy.context):
        entries = []
        for program in (judge_of(evidence="image"), plain(judge_of(evidence="image"))):
            lm = lm_of(server)
            base_lm.GLOBAL_HISTORY.clear()
            with dspy.context(lm=lm), context():
                program.judge(image=PixelPolicy().prepare(image), prompt=AWKWARD)
            for history in (lm.history, base_lm.GLOBAL_HISTORY, program.judge.history):
                assert len(history) == 1
                entries.append(comparable(history[0]))
        assert all(entry == entries[0] for entry in entries)
        assert (image in json.dumps(entries[0]["messages"])) is (context is dspy.context)
        assert entries[0]["cost"] > 0


def test_the_cache_knows_a_call_by_its_images(server: ScriptedServer) -> None:
    """One that DSPy made answers one that is spliced, and the other way round; nothing is billed again."""
    lm = lm_of(server, cache=True)
    fast, slow = judge_of(evidence="image"), plain(judge_of(evidence="image"))
    billed: list[str] = []

    class Noted(UsageTracker):
        def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
            billed.append(lm)

    with dspy.context(lm=lm, usage_tracker=Noted()):
        for grey, (first, second) in enumerate([(fast, slow), (slow, fast), (fast, fast)]):
            row = {"image": picture(grey, 24), "prompt": "kept by the cache"}
            assert len(sent(server, lambda first=first, row=row: first(**row))) == 1  # type: ignore[misc]
            assert not sent(server, lambda second=second, row=row: second(**row))  # type: ignore[misc]
            assert sent(server, lambda row=row: fast(**{**row, "prompt": "another"}))  # type: ignore[misc]
    assert is_spliced(lm)
    assert len(billed) == 6


def test_a_meter_knows_a_request_by_its_images(server: ScriptedServer) -> None:
    """One that is spliced is answered by what was paid for one that is not."""
    meter = Meter(num_threads=1)
    fast = judge_of(evidence="image")
    fast.set_lm(meter.wrap(lm_of(server), "judge"))
    slow = plain(fast)
    assert len(sent(server, lambda: slow(image=picture(1), prompt=AWKWARD))) == 1
    assert not sent(server, lambda: fast(image=picture(1), prompt=AWKWARD))
    assert len(sent(server, lambda: fast(image=picture(2), prompt=AWKWARD))) == 1
    assert is_spliced(fast.judge.lm)
    assert meter.ledger["judge"].calls == 2
    assert meter.ledger["judge"].usd > 0
    assert meter.ledger["judge"].images == 2


def test_a_call_that_fails_is_repeated_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """By DSPy, and by a meter."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for metered in (False, True):
        statuses = iter([500, 503, 200])
        with ScriptedServer(
            lambda body, statuses=statuses: (next(statuses), completion(FORM.format("it")), {"Retry-After": "0"})
        ) as flaky:
            judge = judge_of(evidence="image")
            lm = lm_of(flaky)
            judge.set_lm(Meter(num_threads=1).wrap(lm, "judge") if metered else lm)
            assert judge(image=picture(1), prompt="it").label == "Safe"
        assert len(flaky.raw) == 3
        assert len({body for _, _, body in flaky.raw}) == 1


def test_a_request_that_cannot_be_changed_is_sent_whole(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not sent twice; one that was sent is never sent again."""
    judge = judge_of(evidence="image")
    monkeypatch.setattr(splicing, "_SEALED", ("content-type",))
    with dspy.context(lm=lm_of(server)):
        (request,) = sent(server, lambda: judge(image=picture(1), prompt="it"))
        monkeypatch.undo()
        assert [request] == sent(server, lambda: judge(image=picture(1), prompt="it"))

    class Refusing(splicing._SplicingTransport):
        def stream(self, request: Any) -> Any:
            super().stream(request).close()
            raise dspy.lm15.UnsupportedFeatureError("the server says so")

    monkeypatch.setattr(splicing, "_SplicingTransport", Refusing)
    with dspy.context(lm=lm_of(server)):

        def refused() -> None:
            with pytest.raises(LMUnsupportedFeatureError, match="the server says so"):
                judge(image=picture(1), prompt="it")

        assert len(sent(server, refused)) == 1


@pytest.mark.parametrize("metered", [False, True])
def test_a_call_that_is_awaited_is_the_same(server: ScriptedServer, metered: bool) -> None:
    """With an LM and with a metered one."""
    judge, lm, other = judge_of(), lm_of(server), plain(judge_of())
    judge.set_lm(Meter(num_threads=1).wrap(lm, "judge") if metered else lm)
    row = {"image": picture(1, 16), "prompt": AWKWARD}
    awaited = sent(server, lambda: asyncio.run(judge.acall(**row)))
    with dspy.context(lm=lm_of(server)):
        assert [body for *_, body in awaited] == [body for *_, body in sent(server, lambda: other(**row))]
    assert len(awaited) == 2


def test_the_users_lm_is_left_as_it_is(server: ScriptedServer) -> None:
    """Its class and attributes; its engines are closed with it."""
    lm = lm_of(server)
    before = dict(vars(lm))
    with dspy.context(lm=lm):
        judge_of(evidence="image")(image=picture(1), prompt="it")
    assert type(lm) is dspy.LM
    assert vars(lm).keys() == before.keys()
    assert all(vars(lm)[name] is value for name, value in before.items())
    (engine,) = lm._engine_store.values()
    lm.close()
    assert not lm._engine_store
    assert engine._closed


def test_what_dspy_makes_a_call_of_is_what_is_replaced() -> None:
    """The fields of a prepared call, and the parts of an engine's request."""
    names = {field.name for field in dataclasses.fields(splicing.PreparedCall)}
    assert names == {"prompt", "messages", "kwargs", "legacy", "request", "cache", "n", "managed"}
    call = splicing.prepare(dspy.LM("openai/x"), None, [{"role": "user", "content": "hi"}], {})
    assert call.legacy["messages"] is call.messages
    assert call.key(dspy.LM("openai/x"), False)["messages"] is call.messages
