"""Judges in a row: the next one is asked where the one before escalates."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import dspy

from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.errors import ArtifactError, BlpoError, brief, check_kind
from blpo_dspy.models.lm import Models, check_models
from blpo_dspy.programs.artifact import CASCADE_FORMAT, FORMAT_VERSION, artifact, read_json
from blpo_dspy.programs.card_fields import checked_card
from blpo_dspy.programs.predictor import MALFORMED
from blpo_dspy.programs.program_judge import ProgramJudge
from blpo_dspy.programs.visual_judge import VisualJudge

_MOST_JUDGES = 10

_C = TypeVar("_C", bound="Cascade")


class Cascade(VisualJudge):
    """Judges in a row, usually a cheap one before a strong one: the next is asked where the one before escalates.

    It is called as each of them is, and returns the prediction of the last one that was asked. What the last judge
    escalates is for people to label; one that isn't calibrated escalates nothing. `blpo_dspy.calibrate` finds the
    thresholds of all judges together, so that its level holds for the cascade as a whole.

    Each judge runs on its own models (`judge.set_lm(…)`). In `blpo_dspy.predict` and `calibrate`, `models` may be a
    list with the models of each.

    Args:
        judges: From 2 to 10 judges with the same labels and inputs; all but the last one escalate, once calibrated.

    Raises:
        BlpoError: If there are fewer or more judges, they differ in labels or inputs, or one is a program of one's own.
    """

    _suffixes = (".json",)

    def __init__(self, judges: Sequence[VisualJudge]) -> None:
        dspy.Module.__init__(self)
        check_kind("judges", judges, (list, tuple), "list of judges", "Cascade([cheap_judge, strong_judge])")
        if not 2 <= len(judges) <= _MOST_JUDGES:
            raise BlpoError(f"a cascade has from 2 to {_MOST_JUDGES} judges, not {len(judges)}")
        for position, judge in enumerate(judges):
            check_kind(f"judges[{position}]", judge, VisualJudge, "judge", "VisualJudge.load('judge.json')")
            if isinstance(judge, (ProgramJudge, Cascade)):
                raise BlpoError(f"judges[{position}] is a {type(judge).__name__}; a cascade is made of VisualJudges")
            if (judge.labels, judge.fields) != (judges[0].labels, judges[0].fields):
                raise BlpoError(
                    f"judges[{position}] has other labels or inputs than the first one; a cascade is made of judges of "
                    "the same task"
                )
        # The same judge twice, for two models: each place needs LMs of its own.
        self.judges = [one._copied() if one in judges[:place] else one for place, one in enumerate(judges)]
        self.labels, self.fields = judges[0].labels, judges[0].fields
        self.evidence = "image" if all(judge.evidence == "image" for judge in judges) else "both"
        self.reasoning = any(judge.reasoning for judge in judges)
        self.card: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Cascade({', '.join(map(repr, self.judges))})"

    def _repr_html_(self) -> str:
        return "".join(judge._repr_html_() for judge in self.judges)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a copied or unpickled state."""
        dspy.Module.__setstate__(self, state)

    @property
    def instruction(self) -> str:
        """The judge instruction of the first judge."""
        return self.judges[0].instruction

    @property
    def verbalizer_instruction(self) -> str:
        """The verbalizer instruction of the first judge."""
        return self.judges[0].verbalizer_instruction

    @property
    def pixel_policy(self) -> PixelPolicy:
        """How the first judge brings images into shape; each has its own."""
        return self.judges[0].pixel_policy

    @pixel_policy.setter
    def pixel_policy(self, policy: PixelPolicy) -> None:
        raise BlpoError("each judge of a cascade has its own pixel policy: set it on the judge")

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each LM call that judging takes where every judge is asked."""
        return tuple(role for judge in self.judges for role in judge.roles)

    def ask(self, judges: Sequence[Callable[..., dspy.Prediction]], **inputs: Any) -> dspy.Prediction:
        """Returns the prediction of the last judge asked, of judges that stand for those of this cascade.

        Raises:
            BlpoError: If a judge before the last one isn't calibrated.
        """
        self.check_calibrated()
        for judge in judges:
            prediction = judge(**inputs)
            if not prediction.get("escalate"):
                break
        return prediction

    def forward(self, *image: Any, **inputs: Any) -> dspy.Prediction:
        """Judges one image, which may be given without its name if it is the only one, or those of one row."""
        return self.ask(self.judges, **self._named(image, inputs))

    async def aforward(self, *image: Any, **inputs: Any) -> dspy.Prediction:
        """Judges without blocking the event loop; arguments as for `forward`."""
        self.check_calibrated()
        named = self._named(image, inputs)
        for judge in self.judges:
            answer: Awaitable[dspy.Prediction] = judge.acall(**named)
            prediction = await answer
            if not prediction.get("escalate"):
                break
        return prediction

    def check_calibrated(self) -> None:
        """Checks that each judge before the last one escalates."""
        for position, judge in enumerate(self.judges[:-1]):
            if judge.threshold is None:
                raise BlpoError(
                    f"judge {position + 1} of the cascade isn't calibrated, so that it never escalates and no further "
                    "judge would be asked; calibrate the cascade first (blpo_dspy.calibrate, blpo calibrate)"
                )

    def escalates(self, label: Any, confidence: float | None) -> bool | None:
        """Returns whether the last judge escalates a label of this confidence; see `VisualJudge.escalates`."""
        return self.judges[-1].escalates(label, confidence)

    def confident(self, *method: Any, **options: Any) -> Any:
        """Refuses: each judge has its own confidence."""
        raise BlpoError("each judge of a cascade has its own confidence: Cascade([judge.confident('votes'), …])")

    def identity(self) -> dict[str, Any]:
        """Returns what its verdicts depend on apart from the models, as plain data."""
        return {"cascade": [judge.identity() for judge in self.judges]}

    def _artifact(self) -> dict[str, Any]:
        judges = [judge._artifact() for judge in self.judges]
        return artifact(CASCADE_FORMAT, FORMAT_VERSION, judges=judges, card=self.card)

    @classmethod
    def _from_file(cls: type[_C], path: str | os.PathLike[str]) -> _C:
        """Returns the cascade that `save` wrote; no code of the file is run.

        Raises:
            ArtifactError: If the file is damaged, or holds no cascade of this version.
        """
        data = read_json(path)
        if data.get("format") != CASCADE_FORMAT or data.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(
                f"{path}: not a cascade saved by Cascade.save() in version {FORMAT_VERSION}; a single judge is loaded "
                "by VisualJudge.load"
            )
        try:
            judges, card = data["judges"], checked_card(data["card"])
            if not isinstance(judges, list) or not all(isinstance(judge, dict) for judge in judges):
                raise BlpoError(f"'judges' are not a list of judges ({brief(judges)})")
            cascade = cls([VisualJudge._built(f"{path}, judge {i + 1}", judge) for i, judge in enumerate(judges)])
        except ArtifactError:
            raise
        except MALFORMED as error:
            raise ArtifactError(f"{path}: not a cascade that can be built ({error}); save it again") from error
        cascade.card = card
        return cascade

    def _load_into(self, *path: Any, **options: Any) -> None:
        raise BlpoError("a cascade is built from its file: Cascade.load(path)")


def load_judge_file(path: str | os.PathLike[str]) -> VisualJudge:
    """Returns the judge, or the cascade, of a file."""
    if read_json(path).get("format") == CASCADE_FORMAT:
        return Cascade.load(path)
    return VisualJudge.load(path)


def stages_of(judge: VisualJudge) -> list[VisualJudge]:
    """Returns the judges of a cascade, or the judge itself."""
    return judge.judges if isinstance(judge, Cascade) else [judge]


def models_of_stages(judge: VisualJudge, models: Models | Sequence[Models]) -> list[Models]:
    """Returns the models of each judge of a cascade, or of the only one."""
    count = len(stages_of(judge))
    if isinstance(models, str) or not isinstance(models, Sequence):
        check_models(models)
        return [models] * count
    if len(models) != count:
        raise BlpoError(
            f"models: {len(models)} for {count} judges; give one Models for all, or a list with those of each judge",
            option="models",
        )
    return list(models)
