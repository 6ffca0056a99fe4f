"""The batch endpoint of the loopback server, as a client of OpenAI's endpoint meets it."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from blpo_dspy.embedded.server.batches import BatchOptions, body_of
from blpo_dspy.embedded.server.faults import Faults
from blpo_dspy.embedded.server.http import Options, start_server

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"


def line(number: int, url: str = CHAT) -> str:
    """A request of a batch."""
    body = {"model": "embedded", "messages": [{"role": "user", "content": f"Hello {number}"}]}
    return json.dumps({"custom_id": f"r{number}", "method": "POST", "url": url, "body": body})


class Client:
    """The client of OpenAI's own library."""

    def __init__(self, base: str) -> None:
        self.api = openai.OpenAI(base_url=base, api_key="x", max_retries=0)

    def batch(self, lines: Sequence[str], **options: Any) -> Any:
        """Uploads requests and returns their batch once it is over."""
        content = io.BytesIO("\n".join(lines).encode())
        file = self.api.files.create(file=("requests.jsonl", content), purpose="batch")
        created = self.api.batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"name": "n"}, **options
        )
        return self.ended(created.id)

    def ended(self, name: str) -> Any:
        """Returns a batch once it is over."""
        while (batch := self.api.batches.retrieve(name)).status in ("validating", "in_progress", "cancelling"):
            time.sleep(0.01)
        return batch

    def read(self, name: str | None) -> list[dict[str, Any]]:
        """Returns the lines of a file; none without one."""
        return [] if name is None else [json.loads(one) for one in self.api.files.content(name).text.splitlines()]


def test_a_batch_answers_as_the_chat_endpoint_does(tmp_path: Path) -> None:
    """Each request once, under its own name, with a line in the log."""
    log = tmp_path / "log.jsonl"
    with start_server(Options(log=log)) as base:
        client = Client(base)
        batch = client.batch([line(number) for number in range(3)])
        plain = client.api.chat.completions.create(
            model="embedded", messages=[{"role": "user", "content": "Hello 1"}]
        ).choices
        found = {row["custom_id"]: row["response"] for row in client.read(batch.output_file_id)}
    assert (batch.status, batch.error_file_id, batch.metadata) == ("completed", None, {"name": "n"})
    assert (batch.request_counts.total, batch.request_counts.completed) == (3, 3)
    assert sorted(found) == ["r0", "r1", "r2"]
    assert found["r1"]["body"]["choices"][0]["message"]["content"] == plain[0].message.content
    assert [json.loads(entry)["method"] for entry in log.read_text().splitlines()].count("BATCH") == 3


def test_requests_fail_by_their_share_and_pass_the_next_time() -> None:
    """The failed ones are in the other file."""
    with start_server(Options(faults=Faults(prow=0.3))) as base:
        client, lines = Client(base), [line(number) for number in range(40)]
        first = client.batch(lines)
        failed = [row["custom_id"] for row in client.read(first.error_file_id)]
        again = client.batch([text for text in lines if json.loads(text)["custom_id"] in failed])
    assert 4 < len(failed) < 20
    assert first.request_counts.failed == len(failed) > again.request_counts.failed


def test_a_batch_expires_half_done_and_one_is_cancelled() -> None:
    """What was answered is kept; the rest is named with the reason."""
    with start_server(Options(batches=BatchOptions(expiring=1))) as base:
        client = Client(base)
        expired = client.batch([line(number) for number in range(4)])
        codes = [row["error"]["code"] for row in client.read(expired.error_file_id)]
        assert (expired.status, expired.request_counts.completed, codes) == ("expired", 2, ["batch_expired"] * 2)
    with start_server(Options(batches=BatchOptions(seconds=60))) as base:
        client = Client(base)
        file = client.api.files.create(file=("r", line(0).encode()), purpose="batch")
        batch = client.api.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        assert client.api.batches.cancel(batch.id).status == "cancelling"


def test_a_batch_that_breaks_a_rule_fails_as_a_whole() -> None:
    """Another endpoint, two requests of one name, no JSON, more than the account may have under way."""
    with start_server(Options(batches=BatchOptions(limit=2))) as base:
        client = Client(base)
        for lines, reason in (
            ([line(0, "/v1/responses")], "not a POST to"),
            ([line(0), line(0)], "no custom_id of its own"),
            (["{"], "is not JSON"),
            ([line(0), line(1), line(2)], "token limit"),
        ):
            batch = client.batch(lines)
            assert batch.status == "failed"
            assert reason in batch.errors.data[0].message


def test_the_list_of_batches_has_pages() -> None:
    """Newest first."""
    with start_server(Options()) as base:
        client = Client(base)
        names = [client.batch([line(number)]).id for number in range(5)]
        page = client.api.batches.list(limit=2)
        assert [batch.id for batch in page.data] == names[:2:-1]
        assert [batch.id for batch in page] == names[::-1]


def test_a_submission_whose_answer_is_lost_is_in_the_list() -> None:
    """The connection drops after the batch was accepted."""
    with start_server(Options(faults=Faults(pdrop=0.5))) as base:
        api = Client(base).api

        def sooner_or_later(ask: Callable[[], Any]) -> Any:
            while True:
                with contextlib.suppress(openai.APIConnectionError):
                    return ask()

        for number in range(12):
            text = line(number).encode()
            file = sooner_or_later(lambda text=text: api.files.create(file=("r", text), purpose="batch"))
            try:
                api.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            except openai.APIConnectionError:
                break
        newest = sooner_or_later(lambda: api.batches.list(limit=1).data[0])
        assert newest.input_file_id == file.id


def test_a_server_without_the_endpoint_says_so() -> None:
    """404, as of any other path."""
    with start_server(Options(batches=None)) as base, pytest.raises(openai.NotFoundError):
        Client(base).batch([line(0)])


def test_the_body_of_a_line_is_found_byte_for_byte() -> None:
    """Whatever stands behind it."""
    assert body_of(b'{"custom_id": "a", "body": {"x": "\\u00fc{}",  "y":1 }, "z": 0}') == b'{"x": "\\u00fc{}",  "y":1 }'
