"""Keys that a server repeats."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from dspy import lm15
from dspy.utils.exceptions import LMError
from engines import ScriptedServer, scripted_lm
from judges import SAFETY, picture

from blpo_dspy.models.credentials import secrets_of
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.meter import Meter

KEY = "sk-known-to-nobody-else"


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_key_that_a_server_repeats_is_masked_in_the_error(engine: str, status: int) -> None:
    """In its text, its message, and in what caused it."""
    said = {"error": {"message": f"you sent Authorization: Bearer {KEY}, {KEY}", "type": "x"}}
    with ScriptedServer(lambda body: (status, said, {})) as server:
        lm = dspy.LM("openai/x", api_base=server.url, api_key=KEY, cache=False, num_retries=0, engine=engine)
        with pytest.raises(LMError, match=r"Bearer \*\*\*, \*\*\*") as raised:
            Meter(num_threads=1).wrap(lm, "judge")("a")
    error: BaseException | None = raised.value
    while error is not None:
        assert KEY not in f"{error} {error.args} {getattr(error, 'message', '')}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_a_key_that_a_server_repeats_is_masked_in_a_plain_call(engine: str) -> None:
    """In the error of a judge without a meter, and in those that a batch returns."""
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
    said = {"error": {"message": f"you sent {KEY}\x1b[2J", "type": "x"}}
    with ScriptedServer(lambda body: (400, said, {})) as server:
        lm = dspy.LM("openai/x", api_base=server.url, api_key=KEY, cache=False, num_retries=0, engine=engine)
        judge.set_lm(lm)
        with pytest.raises(LMError, match=r"you sent \*\*\*\\x1b\[2J") as raised:
            judge(image=picture())
        with pytest.raises(LMError, match=r"you sent \*\*\*") as late:
            asyncio.run(judge.acall(image=picture()))
        _, _, failures = judge.batch([picture()], disable_progress_bar=True, return_failed_examples=True)
    assert len(failures) == 1
    assert KEY not in f"{raised.value} {late.value} {failures[0]!r}"


def test_an_error_whose_text_is_a_number_is_an_error_of_the_server() -> None:
    """DSPy looks for words in it, and fails."""
    with ScriptedServer(lambda body: (400, {"error": {"message": 5}}, {})) as server:
        lm = dspy.LM("openai/x", api_base=server.url, api_key=KEY, cache=False, num_retries=0)
        with pytest.raises(LMError, match="5") as raised:
            Meter(num_threads=1).wrap(lm, "judge")("a")
    assert raised.value.message == "5"


def test_keys_are_those_of_the_options_and_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers' too; a placeholder is none, and neither is an option that is no secret."""
    monkeypatch.setenv("SOMEBODY_API_KEY", "from-the-environment")
    monkeypatch.setenv("SOMEBODY_API_BASE", "http://not-a-secret")
    options = {
        "api_key": "EMPTY",
        "max_tokens": 4000,
        "api_base": "http://not-a-secret",
        "extra_headers": {"Authorization": "Bearer token-of-mine", "Accept": "application/json"},
    }
    found = secrets_of(options)
    assert {"from-the-environment", "token-of-mine"} <= found
    assert not {"EMPTY", "http://not-a-secret", "application/json"} & found


def test_a_long_text_of_a_server_is_cut() -> None:
    """A gateway's page of two megabytes says no more than its beginning."""
    lm = scripted_lm(lambda seen: lm15.ServerError("<html>" + "x" * 2_000_000), num_retries=0)
    with pytest.raises(LMError, match=r"<html>x+… \(2,000,\d+ characters\)$") as raised:
        Meter(num_threads=1).wrap(lm, "judge")("a")
    assert len(str(raised.value)) < 1000
