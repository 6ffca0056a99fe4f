"""The judging predictor, whose DSPy state holds all that must fit when it is loaded, also inside a larger program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from blpo_dspy.errors import ArtifactError
from blpo_dspy.images import PixelPolicy


class FittingPredict(dspy.Predict):
    """A predictor that takes over the state of no predictor with other fields.

    DSPy saves fields without names and types, and loads other labels' descriptions without a word.
    """

    def load_state(self, state: Mapping[str, Any], *, allow_unsafe_lm_state: bool = False) -> FittingPredict:
        """Takes over instructions and demonstrations; see `dspy.Predict.load_state`.

        Raises:
            ArtifactError: If the state is of a predictor with other labels, evidence or context.
        """
        own = _descriptions(self.signature.dump_state()["fields"])
        try:
            saved = _descriptions(state["signature"]["fields"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"no DSPy state of a predictor ({error!r}); save the program again") from error
        if saved != own:
            raise ArtifactError(
                f"saved by a judge of other labels, evidence or context: its fields are {saved}, here they are {own}; "
                "build the judge as it was when it was saved"
            )
        super().load_state(dict(state), allow_unsafe_lm_state=allow_unsafe_lm_state)
        return self


class JudgingPredict(FittingPredict):
    """The predictor that labels; the pixel policy of its program is part of its state.

    Args:
        signature: Evidence in, a label out.
        pixel_policy: How the images of the program are brought into shape.
    """

    def __init__(self, signature: type[dspy.Signature], pixel_policy: PixelPolicy) -> None:
        super().__init__(signature)
        self.pixel_policy = pixel_policy

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Returns the state as `dspy.Predict.dump_state` does, with the pixel policy."""
        return {**super().dump_state(json_mode), "pixel_policy": self.pixel_policy.to_dict()}

    def load_state(self, state: Mapping[str, Any], *, allow_unsafe_lm_state: bool = False) -> JudgingPredict:
        """Takes over instructions, demonstrations and pixel policy; see `FittingPredict.load_state`.

        Raises:
            BlpoError: If the pixel policy is none.
        """
        saved = dict(state)
        policy = PixelPolicy.from_dict(saved.pop("pixel_policy")) if "pixel_policy" in saved else self.pixel_policy
        super().load_state(saved, allow_unsafe_lm_state=allow_unsafe_lm_state)
        self.pixel_policy = policy
        return self


def _descriptions(fields: list[Mapping[str, Any]]) -> list[str]:
    """What tells fields apart; their prefixes are for optimizers to change."""
    return [field["description"] for field in fields]
