"""The optimizers that `compare` knows by name, each set up the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blpo_dspy.errors import BlpoError, check_kind
from blpo_dspy.optimizers import APO, BLPO, OPRO, TextGrad
from blpo_dspy.optimizers.base import JudgeOptimizer
from blpo_dspy.optimizers.baselines.dspy_adapters import COPRO, GEPA, SIMBA, MIPROv2
from blpo_dspy.optimizers.blpo.prompts import report_instruction
from blpo_dspy.programs.signatures import default_verbalizer_instruction, is_for_several
from blpo_dspy.programs.visual_judge import VisualJudge


@dataclass(frozen=True)
class Method:
    """One row of a comparison.

    Attributes:
        about: What it is, in a few words.
        make: The optimizer's constructor, None for no optimization.
        options: Its own options.
        task_aware: Whether the verbalizer instruction names the judge's task from the start (an ablation).
        images: The most images in one of its requests.
    """

    about: str
    make: Callable[..., JudgeOptimizer] | None
    options: Mapping[str, Any] = field(default_factory=dict)
    task_aware: bool = False
    images: int = 1

    def student(self, start: VisualJudge) -> VisualJudge:
        """Returns the program that this method starts from."""
        if not self.task_aware:
            return start
        copy = start.deepcopy()
        several = is_for_several(default_verbalizer_instruction(start.fields))
        text = report_instruction(start.instruction, several=several)
        copy.verbalizer.signature = copy.verbalizer.signature.with_instructions(text)
        assert isinstance(copy, VisualJudge)
        return copy


# Rounds, steps or epochs that no usual cap pays for: it is the cap that ends the search.
_MANY = 1000
# The published sizes spend some hundred calls before the first choice; a cap pays for more rounds of smaller ones.
_SMALL_BANDIT = {"rounds": _MANY, "minibatch_size": 16, "samples_per_eval": 8}
_ONE_UPDATE = {"inner_steps": 0}

METHODS: Mapping[str, Method] = {
    "none": Method("no optimization", None),
    "blpo": Method("BLPO, the defaults: as many rounds as the cap pays for", BLPO),
    "blpo-paper": Method("BLPO, the paper's letter: 5 rounds of 5 inner steps, if the cap pays for them", BLPO.paper),
    "fixed": Method("ablation: fixed generic verbalizer instruction", BLPO, _ONE_UPDATE),
    "fixed-task-aware": Method(
        "ablation: fixed task-aware verbalizer instruction, best of several updates",
        BLPO,
        {"verbalizer_search": "fixed", "inner_steps": 3},
        task_aware=True,
    ),
    "judge-as-verbalizer": Method(
        "ablation: the judge instruction is the verbalizer's", BLPO, {"verbalizer_search": "judge", **_ONE_UPDATE}
    ),
    "opro": Method("OPRO, scoring on 40 examples", OPRO, {"steps": _MANY, "score_size": 40}, images=3),
    "apo-images": Method("APO with error images (APO-image)", APO, {"errors_as": "images", **_SMALL_BANDIT}, images=4),
    "apo-descriptions": Method("APO with described errors", APO, {"errors_as": "descriptions", **_SMALL_BANDIT}),
    "textgrad": Method("TextGrad, as many steps as the cap pays for", TextGrad, {"epochs": _MANY}, images=3),
    "gepa": Method("dspy.GEPA", GEPA, images=3),
    "miprov2": Method("dspy.MIPROv2, instructions only", MIPROv2, images=3),
    "miprov2-demos": Method("dspy.MIPROv2 with demonstrations", MIPROv2, {"demos": 2}, images=3),
    "simba": Method("dspy.SIMBA", SIMBA),
    "copro": Method("dspy.COPRO", COPRO),
}


def chosen(names: str | None) -> dict[str, Method]:
    """Returns the methods named in a comma-separated list, all of them for None; "none" always comes first.

    Raises:
        BlpoError: Naming the unknown ones and those there are.
    """
    if names is not None:
        check_kind("optimizers", names, str, "comma-separated text", "optimizers='blpo,opro'")
    wanted = list(METHODS) if names is None else [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise BlpoError(
            f"no optimizer is named; choose from {', '.join(METHODS)}, or leave the choice out for all of them"
        )
    unknown = [name for name in wanted if name not in METHODS]
    if unknown:
        raise BlpoError(f"unknown optimizers {unknown}; choose from {', '.join(METHODS)}")
    return {name: METHODS[name] for name in dict.fromkeys(["none", *wanted])}


def images_together(methods: Mapping[str, Method]) -> str:
    """Returns in a sentence which methods send several images in one request; nothing if none does."""
    several = [f"{name} {method.images}" for name, method in methods.items() if method.images > 1]
    return f"most images in one request, which the models have to take: {', '.join(several)}" if several else ""
