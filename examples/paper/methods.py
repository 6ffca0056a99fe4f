"""The methods of the paper's tables and the sweeps of its Fig. 4, at the paper's sizes and at those of `--smoke`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blpo_dspy.comparison.methods import Method
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import APO, BLPO, OPRO, TextGrad

ABLATIONS = ("blpo-fixed", "blpo-judge", "blpo")
# The swept options: the paper's symbol, and what it stands for.
AXES = {"batch_size": ("B", "most errors in a batch"), "inner_steps": ("K", "inner steps"), "rounds": ("T", "rounds")}


@dataclass(frozen=True)
class Sizes:
    """How large a run is.

    Attributes:
        blpo: Options of `BLPO.paper`; the paper's own if empty.
        opro: Options of `OPRO`; likewise for the other baselines.
        textgrad: Options of `TextGrad`.
        apo: Options of `APO`.
        sweeps: The values of each swept option; the middle of a sweep is what `blpo` states.
    """

    blpo: Mapping[str, int]
    opro: Mapping[str, Any]
    textgrad: Mapping[str, Any]
    apo: Mapping[str, Any]
    sweeps: Mapping[str, Sequence[int]]


# Appendix A. The baselines have published sizes of their own; the cap makes their cost that of BLPO.
PAPER = Sizes(
    blpo={"rounds": 5, "inner_steps": 5, "batch_size": 10},
    opro={},
    textgrad={"epochs": 50},
    apo={},
    sweeps={"batch_size": (1, 3, 5, 10, 15, 20), "inner_steps": (1, 2, 3, 5, 7), "rounds": (1, 2, 3, 5, 7)},
)
SMOKE = Sizes(
    blpo={"rounds": 2, "inner_steps": 1, "batch_size": 3},
    opro={"steps": 1, "samples_per_step": 2},
    textgrad={"epochs": 1, "steps_per_epoch": 2},
    apo={"rounds": 1, "beam_size": 2, "minibatch_size": 6, "n_gradients": 1, "mc_samples": 1, "max_expansion": 2}
    | {"eval_rounds": 2, "eval_prompts_per_round": 2, "samples_per_eval": 3},
    sweeps={"batch_size": (1, 3, 5), "inner_steps": (0, 1, 2), "rounds": (1, 2, 3)},
)


def methods(sizes: Sizes, names: Sequence[str] | None = None) -> dict[str, Method]:
    """Returns the rows of the main table and of the ablation by name.

    Raises:
        BlpoError: Naming unknown ones and those there are.
    """
    blpo = Method("BLPO, the paper's letter", BLPO.paper, sizes.blpo)
    every = {
        "none": Method("no optimization", None),
        "opro": Method("OPRO", OPRO, sizes.opro),
        "textgrad": Method("TextGrad", TextGrad, sizes.textgrad),
        "apo-image": Method("APO with error images", APO, {"errors_as": "images", **sizes.apo}),
        "blpo-fixed": _with(blpo, "BLPO with a fixed verbalizer instruction", verbalizer_search="fixed"),
        "blpo-judge": _with(blpo, "BLPO with the judge instruction as the verbalizer's", verbalizer_search="judge"),
        "blpo": blpo,
    }
    unknown = [name for name in names or () if name not in every]
    if unknown:
        raise BlpoError(f"unknown methods {', '.join(unknown)}; choose from {', '.join(every)}")
    return {name: method for name, method in every.items() if names is None or name in names}


def sweep(sizes: Sizes) -> dict[str, Method]:
    """Returns the points of Fig. 4 by name ("rounds=3"), without the point that is "blpo" itself."""
    blpo = methods(sizes, ["blpo"])["blpo"]
    return {
        f"{option}={value}": _with(blpo, f"BLPO with {AXES[option][0]} = {value}", **{option: value})
        for option, values in sizes.sweeps.items()
        for value in values
        if value != sizes.blpo[option]
    }


def _with(method: Method, about: str, **options: Any) -> Method:
    return replace(method, about=about, options={**method.options, **options})
