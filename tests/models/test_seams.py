"""What is used of DSPy beyond its documented interface still behaves as it is used, and is used in one place."""

from __future__ import annotations

import ast
import copy
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy._vendor.lm15.transports import _proxy
from dspy.clients import model_metadata
from engines import ScriptedServer, completion, scripted_lm
from judges import SAFETY
from PIL import Image

import blpo_dspy
from blpo_dspy.models import seams
from blpo_dspy.models.prices import known_price
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.bounds import Engines, longest_call
from blpo_dspy.workspace.meter import Meter

ROOT = Path(blpo_dspy.__file__).parent
# Documented: errors, callbacks and teleprompters, the types of requests, and the contract of a custom engine.
PUBLIC = {
    "dspy",
    "dspy.clients.engines.base",
    "dspy.lm15",
    "dspy.teleprompt",
    "dspy.utils.callback",
    "dspy.utils.exceptions",
}
INNER = re.compile(
    r"costs\.\w+ =|main_thread_config|__class__ =|\bf_code\b|_engine_spec|_engine_store|\b_transport\b"
    r"|_shared_transport|__dspy_"
)
MAY = {"models/seams.py", "models/splicing.py", "workspace/bounds.py", "workspace/meter.py"}


def sources() -> dict[str, str]:
    """The text of every module, by its path in the package."""
    parts = [path for part in (ROOT, ROOT / "programs", ROOT / "optimizers") for path in part.rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in parts}


def imported(text: str) -> set[str]:
    """The modules of DSPy that a text imports from."""
    nodes = list(ast.walk(ast.parse(text)))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name for name in found if name.partition(".")[0] == "dspy"}


@pytest.mark.slow
def test_only_the_seams_import_internals_of_dspy() -> None:
    """Another module takes them from there."""
    found = {path: imported(text) - PUBLIC for path, text in sources().items()}
    assert {path for path, names in found.items() if names} == {"models/seams.py"}


def test_only_models_and_calls_touch_internals_of_objects() -> None:
    """Attributes that DSPy keeps to itself, and classes that are changed, are named where they are explained."""
    assert {path for path, text in sources().items() if INNER.search(text)} == MAY


def test_contributing_lists_every_seam() -> None:
    """With their number."""
    path = Path(__file__).parents[2] / "CONTRIBUTING.md"
    if not path.exists():
        pytest.skip("the installed package is tested without the sources")
    section = path.read_text(encoding="utf-8").partition("## Seams\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `", section, re.M)
    assert f"{len(rows)} seams" in section
    missing = [name for name in seams.__all__ if f"`{name}`" not in section]
    assert not missing


def test_the_header_of_a_field_is_read_as_dspy_writes_it() -> None:
    """In the chat format."""
    (message,) = [
        message["content"]
        for message in dspy.ChatAdapter().format(dspy.Signature("question -> answer"), [], {"question": "why?"})
        if message["role"] == "user"
    ]
    headers = [seams.field_header_pattern.match(line) for line in str(message).splitlines()]
    assert [header[1] for header in headers if header] == ["question"]


def test_the_text_of_an_input_is_as_dspy_writes_it() -> None:
    """In an element of its XML format."""
    signature = dspy.Signature("numbers: list[int] -> answer")
    text = seams.format_field_value(signature.input_fields["numbers"], [1, 2])
    message = dspy.XMLAdapter().format(signature, [], {"numbers": [1, 2]})[-1]["content"]
    assert f"<numbers>\n{text}\n</numbers>" in str(message)


def test_fields_are_told_apart_by_their_extras() -> None:
    """Inputs from outputs."""
    signature = dspy.Signature("question -> answer")
    assert [seams.is_output(info) for info in signature.fields.values()] == [False, True]


@pytest.mark.parametrize("option", ["api_key", "api_base", "timeout"])
def test_options_of_a_connection_are_refused_with_an_engine_of_ones_own(option: str) -> None:
    """Those that are no part of a request."""
    assert option in seams.CLIENT_KEYS
    with pytest.raises(ValueError, match=option):
        scripted_lm(lambda seen: "hi").copy(**{option: 1})


def test_the_backend_is_chosen_before_a_call() -> None:
    """DSPy's own engine where it reaches the model."""
    assert seams.select_backend(dspy.LM("openai/gpt-4o-mini")).native
    assert not seams.select_backend(dspy.LM("huggingface/x/y")).native


def test_prices_are_known_before_a_call() -> None:
    """Of a model in DSPy's tables, and only of such."""
    prompt, completion_price = known_price(dspy.LM("openai/gpt-4o-mini"), None) or (0.0, 0.0)
    assert 0 < prompt < completion_price
    assert known_price(dspy.LM("openai/no-such-model"), None) is None


def cost_of_a_call(server: ScriptedServer, name: str) -> float | None:
    """What DSPy estimates for a call of 1000 prompt and 100 completion tokens."""
    lm = dspy.LM(name, api_base=server.url, api_key="x", cache=False)
    lm("a")
    cost: float | None = lm.history[-1]["cost"]
    return cost


@pytest.mark.parametrize("name", ["gpt-4o-mini", "no-such-model"])
def test_dspy_looks_the_price_of_a_model_up_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a judge and for metered calls, with the same cost as by its own look-up, which a user's calls keep."""
    looked_up: list[str] = []
    look_up = model_metadata.model_info

    def counted(provider: str, model: str, **options: Any) -> Any:
        looked_up.append(model)
        return look_up(provider, model, **options)

    def answered(body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        return 200, {**completion("hi"), "model": name}, {}

    monkeypatch.setattr(model_metadata, "model_info", counted)
    seams._known_info.cache_clear()
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
    with ScriptedServer(answered) as server:
        lm = dspy.LM(f"openai/{name}", api_base=server.url, api_key="x", cache=False)
        own = [cost_of_a_call(server, lm.model) for _ in range(3)]
        assert looked_up == []
        with seams.known_prices():
            assert [cost_of_a_call(server, lm.model) for _ in range(3)] == own
        assert looked_up == [name]
        for call in (
            partial(judge, image=Image.new("RGB", (8, 8))),
            partial(Meter(num_threads=1).wrap(lm, "judge"), "a"),
        ):
            seams._known_info.cache_clear()
            with dspy.context(lm=lm):
                call()
        assert looked_up == [name] * 3
    assert (own[0] is None) is (name == "no-such-model")


def test_an_entry_of_the_table_cannot_be_changed() -> None:
    """All calls share it."""
    entry = seams.model_info("openai", "gpt-4o-mini")
    assert entry == model_metadata.model_info("openai", "gpt-4o-mini")
    with pytest.raises(TypeError):
        entry["input_cost_per_token"] = 0.0  # type: ignore[index]


@pytest.mark.parametrize("proxied", [False, True])
def test_a_proxy_is_looked_for_before_each_request_only_where_there_is_one(
    proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a judge in plain use and by a metered one; `NO_PROXY` alone is none."""
    looks: list[str] = []
    monkeypatch.setattr(_proxy, "getproxies", lambda: looks.append("") or {})
    monkeypatch.setattr(
        seams, "getproxies", lambda: {"no": "*", **({"https": "http://127.0.0.1:1"} if proxied else {})}
    )
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
    with ScriptedServer(lambda body: (200, completion("hi"), {})) as server:
        lm = dspy.LM("openai/x", api_base=server.url, api_key="x", cache=False)
        for used in (lm, Meter(num_threads=1).wrap(lm, "judge")):
            with dspy.context(lm=used):
                judge(image=Image.new("RGB", (8, 8)))
    assert len(looks) == 2 * proxied


def test_the_engine_of_a_metered_lm_has_a_bounded_transport() -> None:
    """DSPy keeps it in the store that the meter gives to its copy, and sends through it."""
    with ScriptedServer(lambda body: (200, completion("hi"), {})) as server:
        lm = dspy.LM("openai/x", api_base=server.url, api_key="x", cache=False)
        metered = Meter(num_threads=1).wrap(lm, "judge")
        assert longest_call(metered) is not None
        metered("a")
    (engine,) = metered._engine_store.values()
    assert isinstance(metered._engine_store, Engines)
    assert isinstance(engine, seams.LM15Engine)
    assert type(engine.router._shared_transport()).__name__ == "_BoundedTransport"
    assert not lm._engine_store


def test_dspy_reports_usage_of_what_its_cache_did_not_answer() -> None:
    """Once for a request that was sent, not at all for the second one."""
    reported: list[str] = []

    class Noted(seams.UsageTracker):
        def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
            reported.append(lm)

    lm = scripted_lm(lambda seen: "hi", cache=True)
    with dspy.context(usage_tracker=Noted()):
        lm("a request of this test alone")
        lm("a request of this test alone")
    assert len(reported) == 1


def test_a_state_file_of_dspys_has_the_metadata_of_a_judge_file(tmp_path: Path) -> None:
    """The versions that it depends on."""
    dspy.Predict("question -> answer").save(tmp_path / "state.json")
    metadata = json.loads((tmp_path / "state.json").read_text())["metadata"]
    assert metadata == {"dependency_versions": seams.get_dependency_versions()}


def test_the_trace_of_the_process_is_not_one_that_was_asked_for() -> None:
    """Also when it is looked up where one was."""
    assert dspy.settings.trace is seams.PROCESS_TRACE
    with dspy.context(trace=[]):
        assert dspy.settings.trace is not seams.PROCESS_TRACE


def test_a_copy_is_extended_and_what_it_was_copied_from_is_not() -> None:
    """It stays an instance of its class, under the same name, and the mixin's methods come first."""

    class Loud:
        def forward(self, **inputs: Any) -> Any:
            return "loud"

    program = dspy.Predict("question -> answer")
    loud = seams.extend(copy.copy(program), Loud)
    assert isinstance(loud, dspy.Predict)
    assert isinstance(loud, Loud)
    assert loud(question="why?") == "loud"
    assert (type(loud).__name__, type(loud).__module__) == (type(program).__name__, type(program).__module__)
    assert not isinstance(program, Loud)


def test_litellm_prints_no_list_of_providers(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a name has none."""
    litellm = seams.litellm_module()
    with pytest.raises(litellm.BadRequestError):
        litellm.get_llm_provider("no-such-model")
    assert capsys.readouterr().out == ""
