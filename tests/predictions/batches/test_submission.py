"""Verdicts by way of a batch endpoint over real HTTP: those of plain calls, each request paid once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import completion, scripted_lm
from image_files import encoded
from PIL import Image
from raw_servers import Raw, raw_server
from workspaces import shared

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded.server.batches import BatchOptions
from blpo_dspy.embedded.server.faults import Faults
from blpo_dspy.embedded.server.http import Options, start_server
from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.batches.api import BatchApi, Offer, Waiting
from blpo_dspy.predictions.predict import predict
from blpo_dspy.predictions.progress import Progress
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

SCALE = LabelSpace.ordinal(1, 5)
PRICES = {"openai/embedded": (1.0, 2.0)}
QUICK = BatchApi(poll=0.01, prices=PRICES)
# Options of an LM whose calls DSPy hands to LiteLLM.
BY_LITELLM = {"engine": "litellm"}


class Endpoint:
    """A server, its log, and models that it answers."""

    def __init__(self, base: str, log: Path, **options: Any) -> None:
        self.base, self.log = base, log
        self.models = Models.named("openai/embedded", api_base=base, api_key="k", cache=False, **options)

    def lines(self) -> list[dict[str, Any]]:
        """The requests so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def paid(self, method: str) -> Counter[str]:
        """How often each request was answered: of single ones "POST", in batches "BATCH"."""
        chats = [line for line in self.lines() if "chat" in line["path"] and line["method"] == method]
        return Counter(line["request"] for line in chats if line["status"] == 200)

    def submitted(self) -> int:
        """How many batches were submitted, whether or not the answer arrived."""
        return sum((line["method"], line["path"]) == ("POST", "/v1/batches") for line in self.lines())


class World:
    """Photographs, a judge of them, and what plain calls to it predict."""

    def __init__(self, folder: Path, evidence: str, number: int = 12) -> None:
        self.folder, self.photos = folder, folder / "photos"
        self.photos.mkdir(parents=True)
        for grey in range(number):
            (self.photos / f"{grey:03}.png").write_bytes(encoded(Image.new("RGB", (8, 8), (grey,) * 3)))
        self.judge = VisualJudge(SCALE, instruction="Rate it.", evidence=evidence)

    @contextmanager
    def served(self, options: Options | None = None, **lm: Any) -> Iterator[Endpoint]:
        """Yields an endpoint with a log of its own."""
        log = self.folder / "log.jsonl"
        log.write_text("")
        with start_server(replace(options or Options(), log=log)) as base:
            yield Endpoint(base, log, **lm)

    def predict(self, at: Endpoint, name: str, **options: Any) -> Progress:
        """Predicts into a table."""
        return shared(predict, self.judge, self.photos, out=self.at(name), models=at.models, num_threads=2, **options)

    def table(self, name: str) -> str:
        """What was predicted."""
        return self.at(name).read_text()

    def at(self, name: str) -> Path:
        """Where a table is: in a folder of its own, as outputs in one folder share their answers."""
        return self.folder / name.partition(".")[0] / name

    def plain(self) -> tuple[str, Counter[str]]:
        """What plain calls predict, and their requests."""
        with self.served() as at:
            self.predict(at, "plain.jsonl")
            return self.table("plain.jsonl"), at.paid("POST")


@pytest.fixture(scope="module", params=["image", "both"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Any]:
    """A world for each kind of evidence, with what plain calls predict."""
    world = World(tmp_path_factory.mktemp(request.param), request.param)
    return world, world.plain()


@pytest.fixture
def small(tmp_path: Path) -> World:
    """Four photographs and a judge that sees them."""
    return World(tmp_path, "image", 4)


def test_a_batch_predicts_what_plain_calls_do_by_the_same_requests(world: tuple[World, Any]) -> None:
    """Byte for byte, each once; descriptions make a batch of their own, before that of the judgements."""
    here, (table, requests) = world
    offers: list[Offer] = []
    with here.served() as at:
        done = here.predict(at, "batch.jsonl", batch_api=replace(QUICK, on_submit=offers.append))
        assert (at.paid("BATCH"), at.paid("POST")) == (requests, Counter())
    assert here.table("batch.jsonl") == table
    assert ([offer.role for offer in offers], offers[0].requests) == ([*here.judge.roles], 12)
    total = done.ledger.total
    assert (total.calls, total.failed) == (sum(offer.requests for offer in offers), 0) == (len(requests), 0)
    assert total.usd == pytest.approx((total.prompt_tokens * 0.5 + total.completion_tokens * 1.0) / 1e6)
    assert all(offer.cost and offer.cost.usual < offer.cost.most for offer in offers)
    shutil.rmtree(here.at("batch.jsonl").parent)


def test_failed_rows_expired_batches_and_lost_answers_change_no_prediction(world: tuple[World, Any]) -> None:
    """What failed is submitted again, what was answered never; the ledger has the failures of the server's log."""
    here, (table, requests) = world
    faults = Faults(prow=0.05, p429=0.1, p500=0.1, pdrop=0.15, pgarbage=0.1, pshape=0.1, retry_after=0.01)
    with here.served(Options(faults=faults, batches=BatchOptions(expiring=1))) as at:
        done = here.predict(at, "faulty.jsonl", batch_api=QUICK)
        assert at.paid("BATCH") == requests
        failed = sum(line["method"] == "BATCH" and line["status"] == 500 for line in at.lines())
    assert here.table("faulty.jsonl") == table
    assert (done.ledger.total.failed, done.ledger.total.retries) == (failed, failed)


def test_litellm_sends_the_same_requests_but_for_the_order_of_their_parts(small: World) -> None:
    """Where DSPy hands calls to LiteLLM, a batch has what LiteLLM would send."""
    bodies: dict[str, list[Any]] = {"plain": [], "batch": []}

    def script(kind: str) -> Callable[[Raw], None]:
        def answer(raw: Raw) -> None:
            if "chat" in raw.path:
                bodies[kind].append(json.loads(raw.body))
                raw.send(200, json.dumps(completion("3")).encode())
            else:
                lines = [line for line in raw.body.splitlines() if line.startswith(b"{")]
                bodies[kind] += [json.loads(line)["body"] for line in lines]
                raw.send(400, b'{"error": {"message": "that is all"}}')

        return answer

    for kind, options in (("plain", {}), ("batch", {"batch_api": QUICK})):
        with raw_server(script(kind)) as base:
            at = Endpoint(base, small.folder / "no", **BY_LITELLM)
            try:
                small.predict(at, f"{kind}.jsonl", **options)
            except ModelError as error:
                assert "that is all" in str(error)  # noqa: PT017 - of the batch alone

    def in_order(found: list[Any]) -> list[str]:
        return sorted(json.dumps(body, sort_keys=True) for body in found)

    assert len(bodies["plain"]) == 4
    assert in_order(bodies["plain"]) == in_order(bodies["batch"])


def test_by_way_of_litellm_predictions_are_the_same_with_faults(tmp_path: Path) -> None:
    """Failures of single requests are read as DSPy reads LiteLLM's."""
    small = World(tmp_path, "image", 12)
    table, _ = small.plain()
    with small.served(Options(faults=Faults(prow=0.3, seed=2)), **BY_LITELLM) as at:
        done = small.predict(at, "batch.jsonl", batch_api=QUICK)
        assert set(at.paid("BATCH").values()) == {1}
    assert small.table("batch.jsonl") == table
    assert done.ledger.total.failed


def test_pairs_in_both_orders_take_one_batch(tmp_path: Path) -> None:
    """Both orders of a pair are in it."""
    world = World(tmp_path, "image", 4)
    world.judge = VisualJudge(
        LabelSpace.pairwise("A", "B", tie="tie"), instruction="Which is better?", images=["a", "b"], evidence="image"
    )
    rows = [{"a": str(world.photos / "000.png"), "b": str(world.photos / f"{n:03}.png")} for n in (1, 2, 3)]
    offers: list[Offer] = []
    tables = []
    with world.served() as at:
        for name, more in (("plain", {}), ("batch", {"batch_api": replace(QUICK, on_submit=offers.append)})):
            out = world.at(f"{name}.jsonl")
            shared(predict, world.judge, rows, out=out, models=at.models, allow_outside=True, **more)
            tables.append(out.read_text())
        assert at.paid("BATCH") == at.paid("POST")
    assert tables[0] == tables[1]
    assert [offer.requests for offer in offers] == [6]


def test_plain_calls_and_batches_pay_nothing_for_what_the_other_has_bought(small: World) -> None:
    """They share the store; new images are bought as the call says."""
    with small.served() as at:
        small.predict(at, "p.jsonl", max_calls=2)
        small.predict(at, "p.jsonl", batch_api=QUICK)
        (small.photos / "new.png").write_bytes(encoded(Image.new("RGB", (8, 8), (200, 0, 0))))
        small.predict(at, "p.jsonl")
        small.predict(at, "p.jsonl", batch_api=True)
        assert (sum(at.paid("POST").values()), sum(at.paid("BATCH").values())) == (3, 2)
        assert set((at.paid("POST") + at.paid("BATCH")).values()) == {1}


def test_caps_hold_and_the_same_call_continues(small: World) -> None:
    """What a cap does not pay for is not submitted."""
    offers: list[Offer] = []
    with small.served() as at:
        done = small.predict(at, "p.jsonl", batch_api=QUICK, max_calls=3)
        assert (done.known, done.complete, sum(at.paid("BATCH").values())) == (3, False, 3)
        dear = replace(QUICK, on_submit=offers.append)
        assert small.predict(at, "p.jsonl", batch_api=dear, max_usd=1e-5).known == 3
        assert not offers
        assert small.predict(at, "p.jsonl", batch_api=QUICK, max_usd=1.0).complete
        assert sum(at.paid("BATCH").values()) == 4
        with pytest.raises(BlpoError, match="the price of openai/embedded is not known"):
            small.predict(at, "q.jsonl", batch_api=True, max_usd=1)


def test_a_cap_in_dollars_is_used_up_over_several_batches(tmp_path: Path) -> None:
    """Answers cost less than they might, so that there is room for further ones; it never costs more than the cap."""
    world = World(tmp_path, "image", 60)
    offers: list[Offer] = []
    with world.served() as at:
        done = world.predict(at, "p.jsonl", batch_api=replace(QUICK, on_submit=offers.append), max_usd=0.1)
    assert done.complete
    assert len(offers) > 1
    assert all(offer.cost and offer.cost.most <= 0.1 for offer in offers)
    assert done.ledger.total.usd < 0.1


def test_a_small_cap_does_not_buy_one_answer_after_the_other(tmp_path: Path) -> None:
    """The first ones say that there is money for many more at once."""
    world = World(tmp_path, "image", 30)
    offers: list[Offer] = []
    with world.served() as at:
        done = world.predict(at, "p.jsonl", batch_api=replace(QUICK, on_submit=offers.append), max_usd=0.012)
    assert done.complete
    assert done.ledger.total.usd < 0.012
    assert (offers[0].requests, len(offers)) == (2, 3)


def test_large_jobs_are_split_and_wait_for_room(small: World) -> None:
    """By number and size of the requests; a batch that the account has no room for is submitted after the others."""
    offers: list[Offer] = []
    with small.served(Options(batches=BatchOptions(seconds=2, limit=2))) as at:
        small.predict(at, "p.jsonl", batch_api=replace(QUICK, poll=0.1, most_requests=2, on_submit=offers.append))
        assert set(at.paid("BATCH").values()) == {1}
        assert at.submitted() == 3
    assert [offer.requests for offer in offers] == [2, 2, 2]
    assert all(
        offer.whole == pytest.approx(2 * offers[0].cost.usual, rel=0.1) for offer in offers[:2] if offers[0].cost
    )
    with small.served() as at:
        small.predict(at, "q.jsonl", batch_api=replace(QUICK, largest_file=2000))
        assert at.submitted() == 4


def test_what_fails_for_good_is_the_error_of_its_row(tmp_path: Path) -> None:
    """After as many batches as the LM retries calls; the same call tries it again."""
    small = World(tmp_path, "image", 12)
    with small.served(Options(faults=Faults(prow=0.5))) as at:
        at.models = Models.named("openai/embedded", api_base=at.base, api_key="k", cache=False, num_retries=1)
        done = small.predict(at, "p.jsonl", batch_api=QUICK)
        rows = [json.loads(line) for line in small.table("p.jsonl").splitlines()]
        assert 0 < done.errors < 12
        assert sum("The server had an error" in (row["error"] or "") for row in rows) == done.errors
        for _ in range(20):
            if not small.predict(at, "p.jsonl", batch_api=QUICK).errors:
                break
        assert set(at.paid("BATCH").values()) == {1}


def test_invalid_answers_are_counted_and_not_asked_for_again(small: World) -> None:
    """As those of plain calls."""
    with small.served(Options(garbage=True)) as at:
        done = small.predict(at, "p.jsonl", batch_api=QUICK)
        assert (done.invalid, done.errors, at.submitted()) == (4, 0, 1)


def test_a_batch_cancelled_at_the_provider_ends_the_call_and_keeps_its_answers(small: World) -> None:
    """Then plain calls may follow; before that they are refused."""
    ids: list[str] = []

    def cancel(waiting: Waiting) -> None:
        if waiting.completed and not ids:
            ids.extend(waiting.ids)
            import openai

            openai.OpenAI(base_url=at.base, api_key="k").batches.cancel(waiting.ids[0])

    def interrupt(waiting: Waiting) -> None:
        raise KeyboardInterrupt

    with small.served(Options(batches=BatchOptions(seconds=6))) as at:
        with pytest.raises(KeyboardInterrupt):
            small.predict(at, "p.jsonl", batch_api=replace(QUICK, on_wait=interrupt))
        with pytest.raises(
            BlpoError, match=r"batches are under way \(batch_\d+\); repeat the call with batch_api=True"
        ):
            small.predict(at, "p.jsonl")
        with pytest.raises(ModelError, match=r"the batch batch_\d+ was cancelled at the provider; its \d answers"):
            small.predict(at, "p.jsonl", batch_api=replace(QUICK, on_wait=cancel))
        assert small.predict(at, "p.jsonl").complete
        assert set((at.paid("POST") + at.paid("BATCH")).values()) == {1}


def test_a_batch_that_the_provider_does_not_know_is_named_and_may_be_abandoned(small: World) -> None:
    """Its requests are then submitted again."""

    def interrupt(waiting: Waiting) -> None:
        raise KeyboardInterrupt

    with small.served(Options(batches=BatchOptions(seconds=60))) as at, pytest.raises(KeyboardInterrupt):
        small.predict(at, "p.jsonl", batch_api=replace(QUICK, on_wait=interrupt))
    with small.served() as at:
        with pytest.raises(ModelError, match=r"batch_\d+ cannot be looked at: .*; use the key .*, abandon=True, which"):
            small.predict(at, "p.jsonl", batch_api=QUICK)
        assert small.predict(at, "p.jsonl", batch_api=replace(QUICK, abandon=True)).complete
        assert at.submitted() == 1


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("openai/embedded", {}, "no batch endpoint at http://127.0.0.1"),
        ("anthropic/claude-sonnet-4-5", {}, "anthropic has no batch endpoint for such requests that LiteLLM carries"),
        ("embedded", {}, "answers in this process, has no batch endpoint"),
    ],
)
def test_a_route_without_a_batch_endpoint_is_refused(
    name: str, options: dict[str, Any], reason: str, small: World
) -> None:
    """By the server's answer, or before anything is sent."""
    with small.served(Options(batches=None)) as at:
        models = Models.named(name, api_base=at.base, api_key="k", cache=False, **options) if "/" in name else None
        at.models = models or Models.named("embedded")
        with pytest.raises(BlpoError, match=reason):
            small.predict(at, "p.jsonl", batch_api=QUICK)
        small.predict(Endpoint(at.base, at.log) if "/" in name else at, "q.jsonl")


def test_a_key_that_is_refused_ends_the_call(small: World) -> None:
    """Without repetition, and without the key in the message."""
    with small.served(Options(api_key="right")) as at, pytest.raises(ModelError, match="Incorrect API key"):
        small.predict(at, "p.jsonl", batch_api=QUICK)


def test_an_endpoint_that_stops_answering_is_waited_for_no_longer_than_allowed(small: World) -> None:
    """Then the call ends, and the same call finds what was submitted."""
    with small.served(Options(batches=BatchOptions(seconds=60))) as at:

        def gone(waiting: Waiting) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            small.predict(at, "p.jsonl", batch_api=replace(QUICK, on_wait=gone))
    with pytest.raises(ModelError, match="the batch endpoint of openai/embedded failed"):
        small.predict(at, "p.jsonl", batch_api=QUICK, max_outage=0.05)


def test_options_that_cannot_be_are_refused(small: World) -> None:
    """With what to write."""
    for options, reason in (
        ({"poll": 0}, "poll=0 is not a positive number"),
        ({"share": "half"}, "share='half' is not a number"),
        ({"most_requests": 0}, "most_requests=0 is too small"),
    ):
        with pytest.raises(BlpoError, match=reason):
            BatchApi(**options)
    lm = scripted_lm(lambda seen: "3")
    models: Any = Models(lm, lm, lm)
    with pytest.raises(BlpoError, match="batch_api='yes' is not a truth value"):
        shared(predict, small.judge, small.photos, out=small.folder / "p.csv", models=models, batch_api="yes")  # type: ignore[arg-type]


def test_answers_of_dspys_cache_are_not_submitted(small: World) -> None:
    """They cost nothing."""
    with small.served() as at:
        at.models = Models.named("openai/embedded", api_base=at.base, api_key="k", temperature=0.125)
        small.predict(at, "p.jsonl")
        done = small.predict(at, "q.jsonl", batch_api=QUICK)
        assert (at.submitted(), done.ledger.total.cached, done.ledger.total.calls) == (0, 4, 0)
    assert small.table("p.jsonl") == small.table("q.jsonl")
    assert not dspy.settings.get("disable_history", False)
