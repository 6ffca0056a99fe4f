"""Keys that a server repeats."""

from __future__ import annotations

import dspy
import pytest
from dspy import lm15
from dspy.utils.exceptions import LMError
from engines import ScriptedServer, scripted_lm

from blpo_dspy.calls.meter import Meter
from blpo_dspy.models.credentials import secrets_of

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
