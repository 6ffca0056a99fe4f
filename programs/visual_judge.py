"""VisualJudge: the program that labels an image, and its file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import dspy
from dspy.utils.exceptions import AdapterParseError
from dspy.utils.saving import get_dependency_versions

from blpo_dspy.errors import ArtifactError, BlpoError
from blpo_dspy.images import PixelPolicy
from blpo_dspy.labels import Label, LabelSpace
from blpo_dspy.programs.artifact import FORMAT, FORMAT_VERSION, read_artifact, write_json
from blpo_dspy.programs.metric import judge_metric
from blpo_dspy.programs.signatures import DEFAULT_VERBALIZER_INSTRUCTION, judge_signature, verbalize_signature
from blpo_dspy.text import as_data

Evidence = Literal["both", "image", "description"]
RESERVED_NAMES = frozenset({"image", "label", "description", "reasoning", "answer", "id", "group"})


class VisualJudge(dspy.Module):  # type: ignore[misc]
    """Labels an image as the people would whose labels it was aligned with.

    A call `judge(image=…, **context)` returns a `dspy.Prediction` with `label` (one of the label space, or None where
    the model's answer states none), `answer` (what the model wrote for it), `description` unless the evidence is the
    image alone, and `reasoning` if asked for.

    Args:
        labels: The closed set of labels.
        instruction: The judge instruction p: what to judge, by which rule.
        verbalizer_instruction: The verbalizer instruction q: what to report about an image.
        context: Names of further text inputs, such as the prompt that an image was made from.
        evidence: What the judge reads: "both" the image and the verbalizer's description of it (two LM calls), the
            "image" alone (one call; the verbalizer works only while compiling) or the "description" alone (two calls;
            the judge may be a text model).
        reasoning: Whether the judge states the evidence that decides before its label.
        pixel_policy: How images are brought into shape, the same when compiling and in use.

    Raises:
        BlpoError: If an instruction is empty, a context name is reserved, doubled or no identifier, or the evidence
            unknown.
    """

    def __init__(
        self,
        labels: LabelSpace,
        *,
        instruction: str,
        verbalizer_instruction: str = DEFAULT_VERBALIZER_INSTRUCTION,
        context: Sequence[str] = (),
        evidence: Evidence = "both",
        reasoning: bool = False,
        pixel_policy: PixelPolicy | None = None,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.context = _checked_context(context)
        if evidence not in get_args(Evidence):
            raise BlpoError(f"evidence {evidence!r} is unknown; choose one of {', '.join(get_args(Evidence))}")
        for name, text in (("instruction", instruction), ("verbalizer_instruction", verbalizer_instruction)):
            if not text.strip():
                raise BlpoError(f"{name} is empty; say in a sentence what the model is to do")
        self.evidence: Evidence = evidence
        self.reasoning = reasoning
        self.pixel_policy = PixelPolicy() if pixel_policy is None else pixel_policy
        self.card: dict[str, Any] = {}
        self.verbalizer = dspy.Predict(verbalize_signature(verbalizer_instruction, self.context))
        self.judge = dspy.Predict(
            judge_signature(instruction, labels, self.context, evidence=evidence, reasoning=reasoning)
        )

    @property
    def instruction(self) -> str:
        """The judge instruction p."""
        return str(self.judge.signature.instructions)

    @property
    def verbalizer_instruction(self) -> str:
        """The verbalizer instruction q."""
        return str(self.verbalizer.signature.instructions)

    def prepare(self, **inputs: Any) -> dict[str, Any]:
        """Returns the inputs as the predictors take them: the image under the pixel policy, context as plain data.

        Raises:
            BlpoError: If an input is missing or unknown, or the image cannot be used.
        """
        expected = ("image", *self.context)
        missing = [name for name in expected if inputs.get(name) is None]
        unknown = [name for name in inputs if name not in expected]
        if missing or unknown:
            raise BlpoError(f"this judge takes {', '.join(expected)}; missing: {missing}, unknown: {unknown}")
        image = self.pixel_policy.prepare(inputs["image"])
        return {"image": image, **{name: as_data(inputs[name]) for name in self.context}}

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Judges one image; see the class."""
        prepared = self.prepare(**inputs)
        with dspy.context(adapter=_adapter()):
            description = None
            if self.evidence != "image":
                description = _described(lambda: self.verbalizer(**prepared))
            return self._judged(lambda: self.judge(**self._evidence(prepared, description)), description)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Judges one image without blocking the event loop; see the class."""
        prepared = self.prepare(**inputs)
        with dspy.context(adapter=_adapter()):
            description = None
            if self.evidence != "image":
                described = await _outcome(self.verbalizer.acall(**prepared))
                description = _described(lambda: _settle(described))
            judged = await _outcome(self.judge.acall(**self._evidence(prepared, description)))
            return self._judged(lambda: _settle(judged), description)

    def _evidence(self, prepared: Mapping[str, Any], description: str | None) -> dict[str, Any]:
        evidence = dict(prepared)
        if self.evidence == "description":
            del evidence["image"]
        if description is not None:
            evidence["description"] = description
        return evidence

    def _judged(self, judge: Callable[[], dspy.Prediction], description: str | None) -> dspy.Prediction:
        """The prediction; an answer out of DSPy's form is still read for a label, never asked for again."""
        fields: dict[str, Any] = {}
        try:
            prediction = judge()
            answer, fields = prediction.label, {k: v for k, v in prediction.items() if k == "reasoning"}
        except AdapterParseError as error:
            partial = error.parsed_result or {}
            answer = partial.get("label", error.lm_response)
            fields = {"reasoning": partial.get("reasoning", "")} if self.reasoning else {}
        if description is not None:
            fields["description"] = description
        return dspy.Prediction(label=self.labels.parse(answer), answer=answer, **fields)

    def as_metric(
        self,
        *,
        image: str = "image",
        context: Mapping[str, str] | None = None,
        scores: Mapping[Label, float] | None = None,
    ) -> Callable[..., dspy.Prediction]:
        """Returns a DSPy metric that scores another program's output by this judge; see `judge_metric`."""
        return judge_metric(self, image=image, context=context, scores=scores)

    def save(
        self, path: str | os.PathLike[str], save_program: bool = False, modules_to_serialize: list[Any] | None = None
    ) -> None:
        """Writes the judge to one JSON file (see `VisualJudge.load`), or as DSPy does (`save_program=True`, ".pkl").

        Raises:
            BlpoError: If a demonstration holds an image: a judge file holds no pixels.
        """
        if save_program or Path(path).suffix != ".json":
            super().save(path, save_program=save_program, modules_to_serialize=modules_to_serialize)
            return
        write_json(path, self._artifact())

    def _artifact(self) -> dict[str, Any]:
        state = self.dump_state()
        for name, predictor in state.items():
            if "<<CUSTOM-TYPE-START-IDENTIFIER>>" in str(predictor["demos"]):
                raise BlpoError(
                    f"the {name} has demonstrations with images, which a judge.json doesn't hold; "
                    "save it with save_program=True, or compile without demonstrations"
                )
            # An LM belongs to the process, not to the judge: no endpoint, key or engine is written.
            predictor.update(lm=None, traces=[], train=[])
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "labels": self.labels.to_dict(),
            "evidence": self.evidence,
            "context": list(self.context),
            "reasoning": self.reasoning,
            "pixel_policy": self.pixel_policy.to_dict(),
            "card": self.card,
            **state,
            "metadata": {"dependency_versions": get_dependency_versions()},
        }

    @classmethod
    def _from_artifact(cls, path: str | os.PathLike[str]) -> VisualJudge:
        data = read_artifact(path)
        try:
            judge = cls(
                LabelSpace.from_dict(data["labels"]),
                instruction=data["judge"]["signature"]["instructions"],
                verbalizer_instruction=data["verbalizer"]["signature"]["instructions"],
                context=data["context"],
                evidence=data["evidence"],
                reasoning=data["reasoning"],
                pixel_policy=PixelPolicy.from_dict(data["pixel_policy"]),
            )
            judge.load_state({name: {**data[name], "lm": None} for name in ("verbalizer", "judge")})
        except (BlpoError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path}: not a judge that can be built ({error}); save the judge again") from error
        judge.card = dict(data["card"])
        return judge

    def _load_state_file(self, path: str | os.PathLike[str], **options: Any) -> None:
        """DSPy's own `load`, which leaves the judge's shape as it is; a judge file of another shape is refused."""
        if Path(path).suffix == ".json":
            try:
                saved = read_artifact(path)
            except ArtifactError as error:
                # A plain DSPy state has no format of ours: DSPy reads that itself.
                if "not a judge saved by" not in str(error):
                    raise
            else:
                self._check_fits(path, saved)
        super().load(path, **options)

    def _check_fits(self, path: str | os.PathLike[str], saved: Mapping[str, Any]) -> None:
        own = {"labels": self.labels.to_dict(), "evidence": self.evidence, "context": list(self.context)}
        differing = [f"{key} {saved[key]} (this judge: {value})" for key, value in own.items() if saved[key] != value]
        if differing:
            raise ArtifactError(
                f"{path}: saved with {'; '.join(differing)}; use VisualJudge.load({str(path)!r}) to build it as saved"
            )
        self.card = dict(saved["card"])


class _Load:
    """`VisualJudge.load(path)` builds a judge from its file; `judge.load(path)` is DSPy's, into an existing judge."""

    def __get__(self, instance: VisualJudge | None, owner: type[VisualJudge]) -> Callable[..., Any]:
        return owner._from_artifact if instance is None else instance._load_state_file


VisualJudge.load = _Load()


def _checked_context(context: Sequence[str]) -> tuple[str, ...]:
    names = (context,) if isinstance(context, str) else tuple(context)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise BlpoError(f"context name {name!r} is no identifier; use letters, digits and underscores")
        if name in RESERVED_NAMES:
            raise BlpoError(
                f"context name {name!r} is reserved ({', '.join(sorted(RESERVED_NAMES))}); rename the column"
            )
    if len(set(names)) != len(names):
        raise BlpoError(f"context names {list(names)} are not all different")
    return names


def _adapter() -> dspy.Adapter:
    """The user's adapter, or DSPy's chat adapter without its second call in JSON after an answer out of form."""
    return dspy.settings.adapter or dspy.ChatAdapter(use_json_adapter_fallback=False)


def _described(verbalize: Callable[[], dspy.Prediction]) -> str:
    """A description is text: an answer out of DSPy's form is taken as it stands."""
    try:
        return as_data(verbalize().description)
    except AdapterParseError as error:
        return as_data((error.parsed_result or {}).get("description", error.lm_response)).strip()


async def _outcome(awaitable: Any) -> dspy.Prediction | AdapterParseError:
    try:
        return await awaitable
    except AdapterParseError as error:
        return error


def _settle(outcome: dspy.Prediction | AdapterParseError) -> dspy.Prediction:
    if isinstance(outcome, AdapterParseError):
        raise outcome
    return outcome
