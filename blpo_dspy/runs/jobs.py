"""What a run is asked for, as plain values; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from blpo_dspy.errors import BlpoError
from blpo_dspy.runs.options.fields import described, option, same
from blpo_dspy.workspace.budget import Budget, least_caps
from blpo_dspy.workspace.ledger import Usage

EMBEDDED = "embedded"


@dataclass(frozen=True)
class ModelNames:
    """The models by role; the judge's stands in for one that is not named, the offline engine for that of the judge."""

    heading: ClassVar[str | None] = "Models"
    judge_model: str | None = option("The judge's model, e.g. openai/gpt-4o (default `embedded`).", metavar="MODEL")
    verbalizer_model: str | None = option("The verbalizer's model (default: the judge's).", metavar="MODEL")
    optimizer_model: str | None = option("The optimizer's model (default: the judge's).", metavar="MODEL")
    api_base: str | None = option(
        "Your own server, e.g. http://localhost:8000/v1, for all but `embedded`.", metavar="URL"
    )
    timeout: float | None = option(
        "Timeout of an LM call (default 120; 300 for an optimizer and for models that reason first).",
        metavar="SECONDS",
    )
    no_cache: bool = option("Bypass DSPy's cache: call the models for every answer.", False)

    def connection(self) -> dict[str, Any]:
        """Returns the connection options, as `Models.named` takes them."""
        return {"api_base": self.api_base, **({} if self.timeout is None else {"timeout": self.timeout})}

    def by_role(self) -> dict[str, str]:
        """Returns the name that each role has in the end."""
        judge = self.judge_model or EMBEDDED
        named = {"verbalizer": self.verbalizer_model, "optimizer": self.optimizer_model}
        return {"judge": judge, **{role: name or judge for role, name in named.items()}}


@dataclass(frozen=True)
class JudgeModels(ModelNames):
    """The models of a judge, without an optimizer's."""

    heading: ClassVar[str | None] = None
    judge_model: str | None = same(ModelNames, "judge_model", flag="--model")
    optimizer_model: str | None = None


_search, _guards = partial(option, heading="Search"), partial(option, heading="Guards")


@described
@dataclass(frozen=True)
class Search:
    """How BLPO searches; None leaves an option to BLPO's own default."""

    rounds: int | None = _search(
        "Outer rounds (default 24, or as many as the caps pay for; 5 with --paper).", metavar="N", min=1
    )
    inner_steps: int | None = _search(
        "Verbalizer instructions tried in a round (default 1; 5 with --paper).", metavar="N", min=0
    )
    batch_size: int | None = _search("Maximum number of mistakes shown at once (default 10).", metavar="N", min=1)
    shown_right: int | None = _search(
        "Right examples shown with the mistakes (default 4; 0 with --paper).", metavar="N", min=0
    )
    minibatch_size: int | None = _search("Images judged in a round (default 20; all with --paper).", metavar="N", min=1)
    keep_back: Literal["auto", "always", "never"] | None = _search(
        "Whether to hide half of the mistakes from the optimizer model and score updates on them (default auto: once "
        "it corrects nine tenths of what it is shown; never with --paper)."
    )
    instruction_words: int | None = _search(
        "How many words longer than the first a judge instruction may be (default 150; any with --paper).",
        metavar="N",
        min=1,
    )
    paper: bool = _search(
        "The paper's algorithm to the letter; add --evidence image for the paper's judge, which sees the image alone.",
        default=False,
    )
    seed: int = _search("Seeds every draw.", default=0, metavar="N")
    max_calls: int | None = _search("Maximum number of LM calls in total, the test split included.", metavar="N", min=1)
    max_tokens: int | None = _search("Maximum number of tokens, likewise.", metavar="N", min=1)
    max_usd: float | None = _search(
        "Maximum cost of the same calls in dollars, if prices are known.", metavar="X", min=0
    )
    max_seconds: float | None = _search("Maximum time in seconds, likewise.", metavar="X", min=0)
    fidelity: int = _search(
        "Test images to check on, at 2 or 4 calls each, whether descriptions carry what the pixels show.",
        default=0,
        metavar="N",
        min=0,
    )
    label_errors: int = _search(
        "Training images to judge again, at 1 or 2 calls each, to find labels that may be wrong.",
        default=100,
        metavar="N",
        min=0,
    )
    max_instruction_tokens: int | None = _guards(
        "Longest instruction that is accepted (default 1500).", metavar="N", min=1
    )
    copied_words: int | None = _guards(
        "Refuse instructions with that many words of an example in a row (default 8, 0 off).", metavar="N", min=0
    )
    label_shift: float | None = _guards(
        "Refuse a judge whose label shares are farther from people's by X in [0, 1].", metavar="X"
    )
    part_loss: float | None = _guards(
        "Refuse a judge that is worse by X in [0, 1] for a label or a group.", metavar="X"
    )
    batch_api: bool = _search(
        "After the search, use the provider's batch endpoint, with --run-dir: test split, label errors.", default=False
    )

    def after(self, spent: Usage, seconds: float = 0.0) -> Search:
        """Returns the search with what its caps leave once so much was spent.

        Raises:
            BlpoError: If that is nothing.
        """
        left: dict[str, Any] = {}
        used = {"LM calls": spent.calls, "tokens": spent.tokens, "usd": spent.usd, "seconds": seconds}
        for what, amount in used.items():
            name = f"max_{what.split()[-1]}"
            cap = getattr(self, name)
            if cap is not None and amount >= cap:
                raise BlpoError(
                    f"--preflight and --repeat take {amount:g} {what}, and {name}={cap:g} leaves none for the search; "
                    "raise it, or leave one of them out",
                    option=name,
                )
            left[name] = None if cap is None else cap - amount
        return replace(self, **left)

    def within(self, room: Mapping[str, float]) -> Search:
        """Returns the search with caps no higher than what a workspace leaves.

        Raises:
            BlpoError: If that is nothing.
        """
        caps = {name: cap for name in room if (cap := getattr(self, name)) is not None}
        return replace(self, **least_caps(caps, room))

    def budget(self, reserved: int = 0) -> Budget | None:
        """Returns the caps, None if there are none; `reserved` calls are kept for the test split."""
        caps = (self.max_calls, self.max_tokens, self.max_usd, self.max_seconds)
        kept = reserved if self.max_calls is None else min(reserved, self.max_calls - 1)
        return None if all(cap is None for cap in caps) else Budget(*caps, kept)

    def given(self) -> dict[str, Any]:
        """Returns the options that were set, by BLPO's names."""
        names = (
            "rounds",
            "inner_steps",
            "batch_size",
            "shown_right",
            "minibatch_size",
            "keep_back",
            "instruction_words",
            "max_instruction_tokens",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def guards(self) -> dict[str, Any]:
        """Returns the guards that were set, by their names in `Guards`; None switches one off."""
        given = {name: getattr(self, name) for name in ("copied_words", "label_shift", "part_loss")}
        set_ones = {name: value for name, value in given.items() if value is not None}
        return {**set_ones, **({"copied_words": None} if self.copied_words == 0 else {})}
