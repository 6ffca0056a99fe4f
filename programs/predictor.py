"""The judging predictor, whose DSPy state holds all that must fit when it is loaded, also inside a larger program."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import dspy

from blpo_dspy.data.images.prepare import PixelPolicy, PreparedImage
from blpo_dspy.errors import ArtifactError, brief, cause
from blpo_dspy.models.splicing import spliced

MALFORMED = (KeyError, TypeError, ValueError, AttributeError)
"""What data with the right keys and wrong values leads to."""

# What DSPy writes into the state of a predictor: it sets anything else as an attribute, whatever that does.
_ENTRIES = frozenset({"signature", "demos", "traces", "train", "lm", "fields"})


class FittingPredict(dspy.Predict):
    """A predictor that takes over the state of no predictor with other fields.

    DSPy saves fields without names and types, and loads other labels' descriptions without a warning.
    """

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Predicts as `dspy.Predict` does; prepared images take a shorter way to a server where one is open."""
        images = [value for value in inputs.values() if isinstance(value, dspy.Image)]
        if not images or not all(isinstance(image, PreparedImage) for image in images):
            return super().forward(**inputs)
        with spliced(inputs.pop("lm", self.lm) or dspy.settings.lm) as lm:
            return super().forward(**inputs, lm=lm)

    def load_state(self, state: Mapping[str, Any], *, allow_unsafe_lm_state: bool = False) -> FittingPredict:
        """Takes over instructions and demonstrations; see `dspy.Predict.load_state`."""
        own = _descriptions(self.signature.dump_state()["fields"])
        try:
            saved = _descriptions(state["signature"]["fields"])
            problem = _problem(state)
        except MALFORMED as error:
            raise ArtifactError(f"not a DSPy state of a predictor ({cause(error)}); save the program again") from error
        if problem is not None:
            raise ArtifactError(f"not a DSPy state of a predictor: {problem}; save the program again")
        if saved != own:
            raise ArtifactError(
                f"saved by a judge of other labels, evidence or context: its fields are {_listed(saved)}, here they "
                f"are {_listed(own)}; build the judge as it was when it was saved"
            )
        try:
            super().load_state(dict(state), allow_unsafe_lm_state=allow_unsafe_lm_state)
        except MALFORMED as error:
            raise ArtifactError(
                f"not a DSPy state that can be loaded ({cause(error)}); save the program again"
            ) from error
        return self


class JudgingPredict(FittingPredict):
    """The predictor that labels; the pixel policy of its program is part of its state."""

    def __init__(self, signature: type[dspy.Signature], pixel_policy: PixelPolicy) -> None:
        super().__init__(signature)
        self.pixel_policy = pixel_policy

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Returns the state as `dspy.Predict.dump_state` does, with the pixel policy."""
        return {**super().dump_state(json_mode), "pixel_policy": self.pixel_policy.to_dict()}

    def load_state(self, state: Mapping[str, Any], *, allow_unsafe_lm_state: bool = False) -> JudgingPredict:
        """Takes over instructions, demonstrations and pixel policy; see `FittingPredict.load_state`."""
        policy, saved = self.pixel_policy, state
        if isinstance(state, Mapping) and "pixel_policy" in state:
            policy = PixelPolicy.from_dict(state["pixel_policy"])
            saved = {name: entry for name, entry in state.items() if name != "pixel_policy"}
        super().load_state(saved, allow_unsafe_lm_state=allow_unsafe_lm_state)
        self.pixel_policy = policy
        return self


def _problem(state: Mapping[str, Any]) -> str | None:
    """What is wrong with the values of a predictor's state, None if nothing is."""
    instructions, demos = state["signature"]["instructions"], state.get("demos", [])
    if not isinstance(instructions, str) or not instructions.strip():
        return f"its instructions are empty or not a text ({reprlib.repr(instructions)})"
    if not isinstance(demos, list) or not all(isinstance(demo, (Mapping, dspy.Example)) for demo in demos):
        return f"its demonstrations are not a list of examples ({reprlib.repr(demos)})"
    if not all(isinstance(field["prefix"], str) for field in state["signature"]["fields"]):
        return "the prefix of a field is not a text"
    unknown = sorted(set(state) - _ENTRIES)
    return f"it has unknown entries {unknown}" if unknown else None


def _listed(descriptions: list[str]) -> str:
    return brief([brief(text) for text in descriptions], 600)


def _descriptions(fields: list[Mapping[str, Any]]) -> list[str]:
    """What distinguishes fields; their prefixes are for optimizers to change."""
    return [field["description"] for field in fields]
