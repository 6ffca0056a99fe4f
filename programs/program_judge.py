"""A DSPy program of one's own as a judge, which can be aligned, measured, saved, and used on folders and tables."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import dspy
from dspy.utils.exceptions import AdapterParseError

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace, check_space
from blpo_dspy.errors import ArtifactError, BlpoError, check_kind
from blpo_dspy.programs.artifact import (
    FORMAT_VERSION,
    PROGRAM_FORMAT,
    artifact,
    differences,
    predictor_state,
    read_json,
    state_of,
)
from blpo_dspy.programs.card_fields import checked_card
from blpo_dspy.programs.pairs import check_pair
from blpo_dspy.programs.predictor import MALFORMED
from blpo_dspy.programs.visual_judge import VisualJudge, check_policy

_J = TypeVar("_J", bound="ProgramJudge")


class ProgramJudge(VisualJudge):
    """A DSPy program with a verbalizing and a judging predictor as a judge.

    It is called as the program is, `judge(**inputs)`, and gives what `VisualJudge` gives. Images come to the program
    under the pixel policy; further predictors run on the judge's model.

    Args:
        program: The program; it returns a `dspy.Prediction` with the label.
        labels: The labels.
        images: Names of its image inputs; those of its predictors' signatures that are images if None.
        context: Names of its text inputs; those of its predictors' signatures that no predictor writes if None.
        verbalizer: Name of the predictor that describes the images.
        judge: Name of the predictor that labels them.
        label_field: Name of the label in the program's prediction.
        pixel_policy: How images are brought into shape.

    Raises:
        BlpoError: If a predictor or an input cannot be found, or the program takes others.
    """

    _suffixes = (".json",)

    def __init__(
        self,
        program: dspy.Module,
        labels: LabelSpace,
        *,
        images: Sequence[str] | None = None,
        context: Sequence[str] | None = None,
        verbalizer: str = "verbalizer",
        judge: str = "judge",
        label_field: str = "label",
        pixel_policy: PixelPolicy | None = None,
    ) -> None:
        dspy.Module.__init__(self)
        check_kind("program", program, dspy.Module, "DSPy program", "ProgramJudge(MyProgram(), labels)")
        check_space(labels)
        self.program, self.labels, self.label_field = program, labels, label_field
        self.predictor_names = (self._find("verbalizer", verbalizer), self._find("judge", judge))
        found = _inputs_of(program)
        self.fields = InputFields.of(
            [str(image) for image in found.images] if images is None else images,
            found.context if context is None else context,
        )
        _check_forward(program, self.fields)
        check_pair(labels, self.fields)
        self.evidence = "both"
        self.reasoning = False
        self.card: dict[str, Any] = {}
        self._policy = PixelPolicy() if pixel_policy is None else pixel_policy
        check_policy(self._policy)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a copied or unpickled state."""
        dspy.Module.__setstate__(self, state)

    def _find(self, role: str, wanted: str) -> str:
        """The name of a predictor, as that of this module."""
        names = [name for name, _ in self.named_predictors()]
        full = f"program.{wanted}"
        matches = [name for name in names if name == full or name.startswith(f"{full}.")]
        if len(matches) != 1:
            there = [name.removeprefix("program.") for name in names]
            raise BlpoError(
                f"the program has no single predictor named {wanted!r} (it has {there}); name the one that is the "
                f"{role} with {role}=…",
                option=role,
            )
        return str(matches[0])

    @property
    def verbalizer(self) -> Any:  # type: ignore[override] # it belongs to the program
        """The predictor that describes the images."""
        return dict(self.named_predictors())[self.predictor_names[0]]

    @property
    def judge(self) -> Any:  # type: ignore[override] # likewise
        """The predictor that labels them."""
        return dict(self.named_predictors())[self.predictor_names[1]]

    @property
    def pixel_policy(self) -> PixelPolicy:
        """How images are brought into shape."""
        return self._policy

    @pixel_policy.setter
    def pixel_policy(self, policy: PixelPolicy) -> None:
        check_policy(policy)
        self._policy = policy

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each LM call that judging takes, as far as each predictor is called once."""
        names = [name for name, _ in self.named_predictors()]
        return tuple("verbalizer" if name == self.predictor_names[0] else "judge" for name in names)

    def forward(self, *image: Any, **inputs: Any) -> dspy.Prediction:
        """Calls the program, and reads the label off its prediction."""
        prepared = self.prepare(**self._named(image, inputs))
        try:
            return self._read(self.program(**prepared))
        except AdapterParseError as error:
            return self._unreadable(error)

    async def aforward(self, *image: Any, **inputs: Any) -> dspy.Prediction:
        """Calls the program without blocking the event loop."""
        prepared = self.prepare(**self._named(image, inputs))
        try:
            return self._read(await self.program.acall(**prepared))
        except AdapterParseError as error:
            return self._unreadable(error)

    def confident(self, *method: Any, **options: Any) -> Any:
        """Refuses: how often a program of one's own is asked, and for what, is the program's to say."""
        raise BlpoError("a program of your own has no confidence here; use a VisualJudge for one")

    def _read(self, prediction: Any) -> dspy.Prediction:
        check_kind("the program's result", prediction, dspy.Prediction, "prediction", "dspy.Prediction(label=…)")
        if self.label_field not in prediction:
            raise BlpoError(
                f"the program returns the fields {', '.join(prediction.keys())}, and no {self.label_field!r}; return "
                f"dspy.Prediction({self.label_field}=…), or name the field with label_field=…"
            )
        answer = prediction[self.label_field]
        fields = dict(prediction.items())
        if fields.get("description") is None and (said := self._said()) is not None:
            fields["description"] = said
        return dspy.Prediction(**{**fields, "label": self.labels.parse(answer), "answer": answer})

    def _unreadable(self, error: AdapterParseError) -> dspy.Prediction:
        answer, said = error.lm_response, self._said()
        described = {} if said is None else {"description": said}
        return dspy.Prediction(label=self.labels.parse(answer), answer=answer, **described)

    def _said(self) -> str | None:
        """What the verbalizer wrote, where a trace has it."""
        verbalizer = self.verbalizer
        said = [list(output.values())[-1] for called, _, output in dspy.settings.trace or () if called is verbalizer]
        return str(said[-1]) if said else None

    def _shape(self) -> dict[str, Any]:
        return {
            "program": type(self.program).__qualname__,
            "labels": self.labels.to_dict(),
            "images": list(self.images),
            "context": list(self.context),
            "predictors": list(self.predictor_names),
        }

    def identity(self) -> dict[str, Any]:
        """Returns what its verdicts depend on apart from the models and the program's code, as plain data."""
        states = {name: state_of(predictor) for name, predictor in self.named_predictors()}
        return {**self._shape(), "pixel_policy": self.pixel_policy.to_dict(), "states": states}

    def _artifact(self) -> dict[str, Any]:
        return artifact(PROGRAM_FORMAT, FORMAT_VERSION, **self.identity(), card=self.card)

    @classmethod
    def _from_file(cls: type[_J], path: str | os.PathLike[str]) -> _J:
        raise BlpoError(
            "a file of a program of your own holds its state, not its code: build the program, then load into it, "
            "judge = ProgramJudge(program, labels); judge.load(path)"
        )

    def _load_into(
        self, path: str | os.PathLike[str], allow_pickle: bool = False, allow_unsafe_lm_state: bool = False
    ) -> None:
        """Takes over instructions, demonstrations, pixel policy and card; no code of the file is run.

        Raises:
            ArtifactError: If the file is damaged, or of another program.
        """
        data = read_json(path)
        if data.get("format") != PROGRAM_FORMAT or data.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(f"{path}: not a program saved by ProgramJudge.save() in version {FORMAT_VERSION}")
        if differing := differences(data, self._shape(), "program"):
            raise ArtifactError(f"{path}: saved by another program: {differing}; build the one it was saved by")
        try:
            policy, card = PixelPolicy.from_dict(data["pixel_policy"]), checked_card(data["card"])
            states = data["states"]
            for name, predictor in self.named_predictors():
                predictor.load_state(predictor_state(states[name]))
        except MALFORMED as error:
            raise ArtifactError(f"{path}: not a program that can be loaded ({error}); save it again") from error
        self._policy, self.card = policy, card


def _inputs_of(program: dspy.Module) -> InputFields:
    """The inputs of a program as its predictors' signatures have them, without what a predictor writes."""
    signatures = [predictor.signature for _, predictor in program.named_predictors()]
    written = {name for signature in signatures for name in signature.output_fields}
    images: dict[str, str] = {}
    texts: dict[str, None] = {}
    for signature in signatures:
        for name, field in signature.input_fields.items():
            if field.annotation is dspy.Image:
                images[name] = name
            elif field.annotation == list[dspy.Image]:
                images[name] = f"{name}: list[dspy.Image]"
            elif name not in written:
                texts[name] = None
    if not images:
        raise BlpoError(
            "no predictor of the program takes a dspy.Image; name its image inputs with images=…", option="images"
        )
    return InputFields.of(list(images.values()), list(texts))


def _check_forward(program: dspy.Module, fields: InputFields) -> None:
    """Refuses inputs that the program's forward doesn't take, before the first call."""
    # Of the class: DSPy warns of whoever looks at the method of a module.
    _, *own = inspect.signature(type(program).forward).parameters.items()
    parameters = dict(own)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    unknown = [name for name in fields.names if name not in parameters]
    needed = [n for n, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    missing = [name for name in needed if name not in fields.names]
    if unknown or missing:
        raise BlpoError(
            f"the program's forward takes {', '.join(parameters)}, but its inputs are {', '.join(fields.names)}; name "
            "them as forward does with images=… and context=…",
            option=("images", "context"),
        )
