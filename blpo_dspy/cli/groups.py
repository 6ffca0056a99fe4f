"""Groups of options that belong together, and are one value of the commands that take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from blpo_dspy.data.labels.space import Method
from blpo_dspy.runs.options.fields import option
from blpo_dspy.workspace.outages import MAX_OUTAGE

if TYPE_CHECKING:
    from blpo_dspy.workspace.workspace import Workspace

Prices = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Escalation:
    """How sure a judge has to be, and who is asked where it isn't."""

    heading: ClassVar[str] = "Confidence"
    confidence: Method | None = option(
        "How sure the judge is: votes (several answers), logprobs (the label's probability) or views (image, "
        "description and both).",
        metavar="METHOD",
    )
    votes: int | None = option("Answers of a judge, for --confidence votes (default 5).", metavar="K", min=2)
    temperature: float | None = option("Temperature of these answers (default 1).", metavar="X")
    escalate_to: list[Path] = option(
        "A further judge.json to ask where the one before escalates, and so on; last of all a table for people, such "
        "as people.csv.",
        list,
        metavar="FILE",
    )
    escalate_model: list[str] = option(
        "The model of each further judge, in order (default: the first one's).", list, metavar="MODEL"
    )


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a page for people is served."""

    host: str | None = option("Address to listen on, if other machines should reach the page.", metavar="ADDRESS")
    port: int = option("Port to listen on.", 8010, metavar="N", min=1, max=65535)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the commands of a workflow share."""

    heading: ClassVar[str] = "Workspace"
    workspace: Path | None = option(
        "Folder of a workspace, whose jobs share answers and caps; see blpo status.", metavar="DIR"
    )
    store: Path | None = option("File of its store, if the folder is on a network file system.", metavar="FILE")
    total_calls: int | None = option("Cap on LM calls over all its jobs, kept in it.", metavar="N", min=1)
    total_tokens: int | None = option("Cap on tokens, likewise.", metavar="N", min=1)
    total_usd: float | None = option("Cap on dollars, likewise.", metavar="X", min=0)
    threads: int | None = option("Concurrent LM calls (default 8); results don't depend on it.", metavar="N", min=1)
    prices: Prices = option(
        "A model's dollars per million prompt and completion tokens.", dict, flag="--price", metavar="MODEL=IN,OUT"
    )
    max_outage: float = option(
        "Maximum time to wait for a server that has stopped answering.", MAX_OUTAGE, metavar="SECONDS", min=0
    )

    def opened(self) -> Workspace:
        """Returns the workspace, to be entered.

        Raises:
            BlpoError: If a cap or store is given without a workspace.
        """
        from blpo_dspy.workspace.workspace import Workspace  # noqa: PLC0415 - slow, and help does not need it

        return Workspace(
            self.workspace,
            prices=self.prices,
            max_calls=self.total_calls,
            max_tokens=self.total_tokens,
            max_usd=self.total_usd,
            num_threads=self.threads,
            max_outage=self.max_outage,
            store=self.store,
        )


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How `blpo judge --out` uses several processes."""

    heading: ClassVar[str] = "Many images, with --out"
    workers: int | None = option("Number of processes that judge, each with --threads calls.", metavar="N", min=1)
    cluster: str | None = option(
        "Judge on the workers of a Dask cluster, such as tcp://10.0.0.5:8786.", metavar="ADDRESS"
    )
    max_in_flight: int | None = option("Maximum number of LM calls at once, over all.", metavar="N", min=1)
    max_usd: float | None = option("Maximum cost in dollars, if prices are known.", metavar="X", min=0)


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Whether and how `blpo judge --out` uses the provider's batch endpoint."""

    heading: ClassVar[str] = "Batches of a provider"
    batch_api: bool = option("Use the provider's batch endpoint: within a day, usually at half the price.", False)
    poll: float | None = option(
        "Seconds before a batch is polled again; they double up to a minute (default 1).", metavar="SECONDS", min=0
    )
    abandon: bool = option("Forget the batches under way, and pay for their requests again.", False)
