"""The tokens of an LM call by role, from a formatted prompt and stated assumptions, and their price."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import mean

import dspy

from blpo_dspy.models.prices import known_price
from blpo_dspy.optimizers.estimates.plan import MetaPrompt, Plan
from blpo_dspy.optimizers.options import OptimizerOptions
from blpo_dspy.programs.costs import Assumed, characters, given_tokens, shown_tokens, text_tokens
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.ledger import Usage
from blpo_dspy.workspace.workspace import current_workspace


def call_costs(
    optimizer: OptimizerOptions,
    plan: Plan,
    student: dspy.Module,
    verbalizer: str,
    lms: Mapping[str, dspy.BaseLM],
    examples: Sequence[dspy.Example],
    assumed: Assumed,
) -> dict[str, Usage]:
    """Returns the usage of one call of each role, given the program's verbalizing predictor and each predictor's LM."""
    named = dict(student.named_predictors())
    judging = [name for name in named if name != verbalizer]
    instruction = min(assumed.instruction, optimizer.max_instruction_tokens + 100)
    texts = given_tokens(examples, assumed)

    def usage(lm: dspy.BaseLM, text: float, answer: float, images: float = 0) -> Usage:
        price = known_price(lm, current_workspace().prices)
        rate, written_rate = price or (0.0, 0.0)
        prompt, written = math.ceil(text + images), math.ceil(answer)
        usd = (prompt * rate + written * written_rate) / 1e6
        return Usage(1, 0, 0, 0, prompt, written, math.ceil(images), usd, int(price is None))

    def predicted(names: Sequence[str], answer: float) -> Usage:
        lm = lms[names[-1]]
        images = shown_tokens(lm.model, named[names[-1]], examples, assumed)
        text = mean(text_tokens(named[name], examples, assumed) + instruction for name in names)
        return usage(lm, text, answer, images)

    def update(prompt: MetaPrompt) -> float:
        errors = prompt.errors * (assumed.verdict + assumed.description + texts)
        listed = instruction * min(assumed.listed, prompt.instructions)
        return characters(prompt.signature, [], {}) * assumed.per_character + errors + listed

    label = assumed.reasoned_label if getattr(student, "reasoning", False) else assumed.label
    return {
        "judge": predicted(judging, label),
        "verbalizer": predicted([verbalizer], assumed.description),
        "optimizer": usage(optimizer.prompt_model, assumed.over(map(update, plan.prompts)), instruction),
    }


def times(calls: Mapping[str, int], costs: Mapping[str, Usage]) -> dict[str, Usage]:
    """Returns the usage of so many calls by role, without tokens where the usage of one call is not given."""
    each = {role: asdict(costs.get(role, Usage(1))) for role in calls}
    return {role: Usage(**{name: calls[role] * value for name, value in one.items()}) for role, one in each.items()}


def shortfall(budget: Budget, plan: Plan, usual: Mapping[str, Usage]) -> str | None:
    """Returns which cap doesn't pay for two rounds of usual calls and what it pays for, in words, or None."""
    one, two = (sum(times(calls, usual).values(), Usage()) for calls in plan.shortest)
    needed = {
        "max_calls": (one.calls, two.calls, "{:,} calls", budget.keep_calls),
        "max_tokens": (one.tokens, two.tokens, "{:,} tokens", 0),
        "max_usd": (one.usd, two.usd, "{:,.2f} dollars", 0),
    }
    for name, (first, both, unit, kept) in needed.items():
        cap = budget.caps().get(name, math.inf)
        if cap < both + kept:
            pays = f"for a round, which takes about {unit.format(first)}"
            if cap >= first + kept:
                pays = f"for more than one round: two take about {unit.format(both)}, one about {unit.format(first)},"
            keeping = f", and {kept} are kept for later" if kept else ""
            return (
                f"{name}={cap:g} hardly pays {pays} with the validations before and after{keeping}; raise it, or give "
                "fewer examples"
            )
    return None
