"""A meter whose calls are answered through batches: requests taken down, answers taken in."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError, LMInvalidRequestError, LMServerError
from engines import completion
from judges import SAFETY, picture

from blpo_dspy.errors import BlpoError
from blpo_dspy.models.lm import Models, make_lm
from blpo_dspy.predictions.labelling import label_one, metered
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.batches import BatchMeter
from blpo_dspy.workspace.exchange import Received
from blpo_dspy.workspace.failures import RunStoppedError, UnreadableAnswerError, is_outage
from blpo_dspy.workspace.job import Job

pytestmark = pytest.mark.slow

NAME = "openai/gpt-4o-mini"


@pytest.fixture(params=["auto", "litellm"])
def asked(request: pytest.FixtureRequest) -> tuple[BatchMeter, Any]:
    """A meter, and a call of a judge that it meters, on both of DSPy's HTTP engines; nothing listens at the address."""
    lm = make_lm(NAME, api_base="http://127.0.0.1:9/v1", api_key="secret-key", cache=False, engine=request.param)
    meter = BatchMeter(job=Job.in_memory(), prices={NAME: (2.0, 4.0)}, share=0.5)
    judge = metered(VisualJudge(SAFETY, instruction="Safe?", evidence="image"), Models(lm, lm, lm), meter)
    return meter, lambda image=None: judge(image=image or picture())


def received(status: int, body: Any) -> Received:
    """An answer with a JSON body."""
    return Received(status, json.dumps(body).encode())


def test_a_request_is_taken_down_and_its_answer_read_as_that_of_a_plain_call(asked: tuple[BatchMeter, Any]) -> None:
    """It ends the call until the answer is there, which costs what a batch costs."""
    meter, call = asked
    (request,) = meter.gather(call)
    assert (request.role, request.images, json.loads(request.body)["model"]) == ("judge", 1, "gpt-4o-mini")
    assert b"secret-key" not in request.body
    assert meter.ledger.total.calls == 0
    with pytest.raises(RunStoppedError):
        call()
    answer = received(200, completion("[[ ## label ## ]]\nUnsafe\n\n[[ ## completed ## ]]"))
    assert meter.take("judge", request.key, answer, request.options, images=1, repeated=True) is None
    assert meter.gather(call) == []
    assert call().label == "Unsafe"
    total = meter.ledger.total
    assert (total.calls, total.retries, total.images, total.prompt_tokens) == (1, 1, 1, 1000)
    assert total.usd == pytest.approx((1000 * 1 + 100 * 2) / 1e6)
    assert meter.endpoints["judge"].options["api_base"] == "http://127.0.0.1:9/v1"


def test_the_version_that_a_server_reports_is_in_the_verdict(asked: tuple[BatchMeter, Any]) -> None:
    """As of a plain call, so that drift sees it change; the name asked for says nothing new."""
    meter, call = asked
    for number, (name, noted) in enumerate({"gpt-4o-mini": "", "gpt-4o-mini-2026": "gpt-4o-mini-2026"}.items()):
        (request,) = meter.gather(partial(call, image=picture(number)))
        answer = received(200, {**completion("[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]"), "model": name})
        meter.take("judge", request.key, answer, request.options, images=1, repeated=False)
        assert label_one(call, {"image": picture(number)}).served_by == noted


@pytest.mark.parametrize(
    ("status", "body", "kind", "passing"),
    [
        (500, {"error": {"message": "boo"}}, LMServerError, True),
        (400, {"error": {"message": "no such option"}}, LMInvalidRequestError, False),
        (401, {"error": {"message": "who are you?", "code": "invalid_api_key"}}, LMAuthError, False),
        (200, [], UnreadableAnswerError, True),
        (200, completion("", completion_tokens=0), UnreadableAnswerError, True),
    ],
)
def test_failures_are_those_of_plain_calls(
    status: int, body: Any, kind: type[Exception], passing: bool, asked: tuple[BatchMeter, Any]
) -> None:
    """By kind, and by whether they may pass; each is counted."""
    meter, call = asked
    (request,) = meter.gather(call)
    error = meter.take("judge", request.key, received(status, body), request.options, images=1, repeated=False)
    assert error is not None
    if meter._lms["judge"].engine == "auto":  # by LiteLLM an answer of another shape is a provider's error
        assert isinstance(error, kind)
    assert is_outage(error) is passing
    assert (meter.ledger.total.calls, meter.ledger.total.failed) == (1, 1)
    meter.failures[request.key] = error
    with pytest.raises(type(error)):
        call()


def test_an_lm_of_another_class_is_not_asked_for_its_request() -> None:
    """It may send it by itself."""

    class Own(dspy.LM):
        def forward(self, *arguments: Any, **options: Any) -> Any:
            raise AssertionError("it was called")

    meter = BatchMeter(job=Job.in_memory(), prices=None, share=0.5)
    with pytest.raises(BlpoError, match="has no batch endpoint"):
        meter.wrap(Own(NAME, api_key="k"), "judge")
