"""VisualJudge: the program that labels images, and its file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, overload

import dspy

from blpo_dspy.data.fields import IMAGE, InputFields
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace, Method, Orders, check_space
from blpo_dspy.errors import ArtifactError, BlpoError, brief, check_kind, notice
from blpo_dspy.files import as_path, check_path, write_json
from blpo_dspy.models.lean import lean_calls
from blpo_dspy.notebook import html_table
from blpo_dspy.programs.artifact import (
    FORMAT,
    artifact,
    check_judge,
    differences,
    format_version,
    predictor_state,
    read_json,
    state_of,
    states_of,
)
from blpo_dspy.programs.batching import Item, batch_inputs, listed, run_batch
from blpo_dspy.programs.card_fields import checked_card
from blpo_dspy.programs.confidence import TEMPERATURE, VOTES, Confidence
from blpo_dspy.programs.judging import Judgement, arun, describe, run
from blpo_dspy.programs.metric import judge_metric
from blpo_dspy.programs.pairs import asked_in, check_pair
from blpo_dspy.programs.predictor import MALFORMED, FittingPredict, JudgingPredict
from blpo_dspy.programs.signatures import default_verbalizer_instruction, judge_signature, verbalize_signature

Evidence = Literal["both", "image", "description"]

_SHOWN = 1000  # characters of an instruction in a notebook

_J = TypeVar("_J", bound="VisualJudge")
_P = TypeVar("_P", bound=dspy.Module)


class _Load:
    """`VisualJudge.load(path)` builds the judge of a file; `judge.load(path)` is DSPy's, into an existing judge."""

    @overload
    def __get__(self, instance: None, owner: type[_J]) -> Callable[[str | os.PathLike[str]], _J]: ...

    @overload
    def __get__(self, instance: VisualJudge, owner: type[VisualJudge]) -> Callable[..., None]: ...

    def __get__(self, instance: VisualJudge | None, owner: type[VisualJudge]) -> Callable[..., Any]:
        return owner._from_file if instance is None else instance._load_into


class VisualJudge(dspy.Module):
    """Labels an image, or several that belong together, as the people would whose labels it was aligned with.

    With `LabelSpace.pairwise` it compares two images; a call shows them in the order given, see `BothOrders`.

    A call `judge(image=…, **context)`, each image under its name, returns a `dspy.Prediction` with `label` (one of the
    label space, or None where the model's answer states none), `answer` (what the model wrote for it), `description`
    unless the evidence is the image alone, and `reasoning` if requested; see `confident` for `confidence`, and
    `blpo_dspy.calibrate` for `escalate`.

    Args:
        labels: The closed set of labels.
        instruction: The judge instruction p: what to judge, by which rule.
        verbalizer_instruction: The verbalizer instruction q: what to report about the images; to describe them in
            detail if None.
        images: Names of the image inputs, in order; "photos: list[dspy.Image]" names one that takes a list of images.
            Verbalizer and judge see each under its name.
        context: Names of further text inputs, such as the prompt that an image was made from.
        evidence: What the judge reads: "both" the image and the verbalizer's description of it (two LM calls), the
            "image" alone (one call; the verbalizer works only while compiling) or the "description" alone (two calls;
            the judge may be a text model).
        reasoning: Whether the judge states the evidence that decides before its label.
        pixel_policy: How images are brought into shape, the same when compiling and in use.

    In a larger program, whose state DSPy saves and loads, the judge's part of it takes over instructions,
    demonstrations and pixel policy, and is refused (`ArtifactError`) where labels, evidence, context or reasoning
    differ. The card is in a judge file alone.

    Raises:
        BlpoError: If an instruction is empty, the name of an input is reserved, doubled or not an identifier, the
            evidence unknown, `reasoning` neither true nor false, or the labels compare two images of which it doesn't
            take two.
    """

    confidence: Confidence | None = None
    """How its confidence is found; None if it has none."""
    threshold: float | None = None
    """The confidence in [0, 1] below which it escalates; None if it isn't calibrated."""
    orders: Orders = "both"
    """In which orders of the images jobs ask a judge of pairs."""

    def __init__(
        self,
        labels: LabelSpace,
        *,
        instruction: str,
        verbalizer_instruction: str | None = None,
        images: Sequence[str] = (IMAGE,),
        context: Sequence[str] = (),
        evidence: Evidence = "both",
        reasoning: bool = False,
        pixel_policy: PixelPolicy | None = None,
    ) -> None:
        super().__init__()
        check_space(labels)
        self.labels = labels
        self.fields = InputFields.of(
            (images,) if isinstance(images, str) else images, (context,) if isinstance(context, str) else context
        )
        if verbalizer_instruction is None:
            verbalizer_instruction = default_verbalizer_instruction(self.fields)
        check_pair(labels, self.fields)
        _check(evidence, reasoning, instruction, verbalizer_instruction)
        if pixel_policy is not None:
            check_policy(pixel_policy)
        self.evidence: Evidence = evidence
        self.reasoning = reasoning
        self.card: dict[str, Any] = {}
        self.verbalizer = FittingPredict(verbalize_signature(verbalizer_instruction, self.fields))
        self.judge = JudgingPredict(
            judge_signature(instruction, labels, self.fields, evidence=evidence, reasoning=reasoning),
            PixelPolicy() if pixel_policy is None else pixel_policy,
        )

    def in_orders(self: _J, orders: Orders) -> _J:
        """Returns a copy that `predict` and other jobs ask in "both" orders of two images (the default), or in "one".

        In both, the label is the one on which they agree, else the tie or none.

        Raises:
            BlpoError: If it is neither.
        """
        asked_in(self.labels, orders)
        copied = self._copied()
        copied.orders = orders
        return copied

    def __repr__(self) -> str:
        inputs = ", ".join(self.fields.names)
        return f"VisualJudge({inputs} → {brief(str(self.labels), 60)}; {brief(self.instruction, 80)})"

    def _repr_html_(self) -> str:
        rows = [
            ("labels", self.labels),
            ("inputs", ", ".join([*self.images, *self.context])),
            ("evidence", self.evidence),
            ("judge instruction", self.instruction),
            ("verbalizer instruction", self.verbalizer_instruction),
            *([] if self.confidence is None else [("confidence", self._doubt())]),
        ]
        return html_table([("VisualJudge", ""), *((name, brief(str(value), _SHOWN)) for name, value in rows)])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a copied or unpickled state; of a saved program that was changed this refuses what can't be."""
        super().__setstate__(state)
        try:
            LabelSpace.from_dict(self.labels.to_dict())
            check_pair(self.labels, InputFields.of(self.images, self.context))
            _check(self.evidence, self.reasoning, self.instruction, self.verbalizer_instruction)
            check_kind("card", self.card, dict, "dictionary", "{}")
            check_kind("pixel_policy", self.pixel_policy, PixelPolicy, "pixel policy", "PixelPolicy()")
            if self.confidence is not None:
                self._take_doubt(self._doubt())
        except MALFORMED as error:
            raise ArtifactError(
                f"the saved program was changed, or is of another version: {error}; save the judge again"
            ) from error

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the image inputs, in order; with their type where they take a list of images."""
        return tuple(map(str, self.fields.images))

    @property
    def context(self) -> tuple[str, ...]:
        """The names of the further text inputs."""
        return self.fields.context

    @property
    def pixel_policy(self) -> PixelPolicy:
        """How images are brought into shape."""
        policy: PixelPolicy = self.judge.pixel_policy
        return policy

    @pixel_policy.setter
    def pixel_policy(self, policy: PixelPolicy) -> None:
        check_policy(policy)
        self.judge.pixel_policy = policy

    @property
    def instruction(self) -> str:
        """The judge instruction p."""
        return str(self.judge.signature.instructions)

    @property
    def verbalizer_instruction(self) -> str:
        """The verbalizer instruction q."""
        return str(self.verbalizer.signature.instructions)

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each LM call that judging takes."""
        if self.confidence is not None:
            return self.confidence.roles(self.evidence)
        return ("judge",) if self.evidence == "image" else ("verbalizer", "judge")

    @property
    def calls_per_image(self) -> int:
        """How many LM calls judging an image takes."""
        return len(self.roles)

    def prepare(self, **inputs: Any) -> dict[str, Any]:
        """Returns the inputs as the predictors take them: images under the pixel policy, context as plain data.

        Raises:
            BlpoError: If an input is missing, unknown or of the wrong kind, or an image cannot be used.
        """
        return self.fields.prepare(inputs, self.pixel_policy)

    def confident(
        self: _J, method: Method | None = "votes", *, votes: int = VOTES, temperature: float = TEMPERATURE
    ) -> _J:
        """Returns a copy whose predictions have a `confidence` in [0, 1]; it is a judge like any other.

        `calls_per_image` says what it costs. The copy isn't calibrated: see `blpo_dspy.calibrate`.

        Args:
            method: How the confidence is found, see `Confidence`; None for a judge without.
            votes: Of "votes", how often the judge is asked.
            temperature: Of "votes", at which temperature.

        Raises:
            BlpoError: If the method is unknown, or a number is not a possible one.
        """
        copied = self._copied()
        copied.confidence = None if method is None else Confidence(method, votes, temperature)
        copied.threshold, copied.card = None, {k: v for k, v in self.card.items() if k != "calibration"}
        return copied

    def calibrated(self: _J, threshold: float, calibration: Mapping[str, Any] | None = None) -> _J:
        """Returns a copy that escalates below a threshold, with what its card is to say of how that was found.

        Raises:
            BlpoError: If this judge has no confidence, or the threshold is not in [0, 1].
        """
        copied = self._copied()
        copied._take_doubt({**self._doubt(), "threshold": threshold})
        copied.card = {k: v for k, v in self.card.items() if k != "calibration"}
        if calibration is not None:
            copied.card["calibration"] = dict(calibration)
        return copied

    def _copied(self: _J) -> _J:
        """A copy with the same LMs, not copies of them."""
        copied: _J = self.deepcopy()
        for (_, own), (_, other) in zip(self.named_predictors(), copied.named_predictors(), strict=True):
            other.lm = own.lm
        return copied

    def escalates(self, label: Label | None, confidence: float | None) -> bool | None:
        """Returns whether a label of this confidence is for the next judge, or people, to give; None if uncalibrated.

        An answer without a label, and one whose confidence is not known, always is.
        """
        if self.threshold is None:
            return None
        return label is None or confidence is None or confidence < self.threshold

    def forward(self, *image: Any, **inputs: Any) -> dspy.Prediction:
        """Judges one image, which may be given without its name if it is the only one, or those of one row."""
        prepared = self.prepare(**self._named(image, inputs))
        with lean_calls():
            return self._escalated(run(self._judgement().steps(prepared)))

    def describe(self, *image: Any, **inputs: Any) -> str:
        """Returns the verbalizer's description, the first call of judging with one; arguments as for `forward`."""
        prepared = self.prepare(**self._named(image, inputs))
        with lean_calls():
            return describe(self.verbalizer, prepared)

    async def aforward(self, *image: Any, **inputs: Any) -> dspy.Prediction:
        """Judges without blocking the event loop; arguments as for `forward`."""
        prepared = await asyncio.to_thread(self.prepare, **self._named(image, inputs))
        with lean_calls():
            return self._escalated(await arun(self._judgement().steps(prepared)))

    def _judgement(self) -> Judgement:
        # An optimizer may be shown the judge without a verbalizer that it has no use for.
        parts = (getattr(self, "verbalizer", None), self.judge, self.labels, self.fields)
        return Judgement(*parts, self.evidence, self.reasoning, self.confidence)

    def _escalated(self, prediction: dspy.Prediction) -> dspy.Prediction:
        """The prediction, of a calibrated judge with whether it escalates."""
        if self.confidence is None or self.threshold is None:
            return prediction
        escalate = self.escalates(prediction.label, prediction.confidence)
        return dspy.Prediction(**dict(prediction.items()), escalate=escalate)

    def _named(self, image: tuple[Any, ...], inputs: dict[str, Any]) -> dict[str, Any]:
        if not image:
            return inputs
        name = self.fields.images[0].name
        if len(image) > 1 or len(self.fields.images) > 1 or name in inputs:
            raise BlpoError(f"this judge takes {', '.join(self.fields.names)}: give each by its name, judge({name}=…)")
        return {name: image[0], **inputs}

    def batch(
        self,
        examples: Iterable[Item],
        num_threads: int | None = None,
        max_errors: int | None = None,
        return_failed_examples: bool = False,
        provide_traceback: bool | None = None,
        disable_progress_bar: bool = False,
        timeout: int = 0,
        straggler_limit: int = 3,
    ) -> Any:
        """Judges many images in threads; DSPy's `Module.batch`, which takes images as they are, too.

        Images are loaded lazily: as many are in memory as there are threads. For results that
        survive a crash see `blpo_dspy.predictions.predict.predict`.

        Args:
            examples: `dspy.Example`s with their inputs set, dicts of inputs, or, where the judge takes one image and no
                context, images: paths, URLs, bytes, PIL images, NumPy arrays or `dspy.Image`s; or a
                `pandas.DataFrame` or `datasets.Dataset` with a column for each input.
            num_threads: Threads; DSPy's setting if None.
            max_errors: How many calls may fail before the batch is stopped; if None as many in a row, without an answer
                between them, as DSPy's setting of that name says. Images that cannot be read, or that the model
                refuses, don't count: they are those images' failures.
            return_failed_examples: Whether to return failures too.
            provide_traceback: Whether DSPy logs them with a traceback.
            disable_progress_bar: Whether DSPy shows no progress bar.
            timeout: Seconds after which DSPy sends one of the last calls a second time; never if 0, the default here,
                as both are paid for.
            straggler_limit: How many calls count as the last ones.

        Returns:
            A list with a prediction for each item, in order, and None for one that failed; a warning names the causes.
            With `return_failed_examples` this list, the items that failed and their exceptions.

        Raises:
            BlpoError: If an item lacks an input or has one too many, or there is one item instead of a list.
            BatchStoppedError: If the model refuses every call (a wrong key, no credit, an unknown model), or too many
                fail: what was answered is in its `predictions`.
        """
        items = listed(examples, self.fields.names)
        batch = run_batch(
            self,
            batch_inputs(items, self.fields.names),
            max_errors,
            num_threads=num_threads,
            provide_traceback=provide_traceback,
            disable_progress_bar=disable_progress_bar,
            timeout=timeout,
            straggler_limit=straggler_limit,
        )
        if return_failed_examples:
            return batch.predictions, [items[position] for position in batch.failures], list(batch.failures.values())
        batch.warn()
        return batch.predictions

    def as_metric(
        self, *, fields: Mapping[str, str] | None = None, scores: Mapping[Label, float] | None = None
    ) -> Callable[..., dspy.Prediction]:
        """Returns a DSPy metric that scores another program's output by this judge; see `judge_metric`."""
        return judge_metric(self, fields=fields, scores=scores)

    def save(
        self, path: str | os.PathLike[str], save_program: bool = False, modules_to_serialize: list[Any] | None = None
    ) -> None:
        """Writes the judge to one JSON file (see `VisualJudge.load`), or as DSPy does (`save_program=True`, ".pkl").

        What DSPy writes is a pickle: loading it runs the code in it, and nothing can look at that beforehand. Load it
        (`dspy.load(folder, allow_pickle=True)`) only from who you trust, and pass on a judge.json instead. A judge that
        was changed in it is refused where it is not a valid judge (`ArtifactError`); a file that was cut off, by Python
        (`UnpicklingError`, `EOFError`).

        Raises:
            BlpoError: If the file would be of another kind, or a demonstration holds an image: a judge file holds no
                pixels.
        """
        suffix = as_path(path).suffix
        if not save_program and suffix not in self._suffixes:
            raise BlpoError(f"{path}: a judge is saved as JSON; name a .json file")
        if suffix == ".pkl":
            notice(f"{path} is a pickle, which VisualJudge.load doesn't read; a judge that it does is a .json file")
        if save_program or suffix == ".pkl":
            check_path(as_path(path))
            super().save(path, save_program=save_program, modules_to_serialize=modules_to_serialize)
            return
        write_json(path, self._artifact())

    load = _Load()
    _suffixes: tuple[str, ...] = (".json", ".pkl")

    def _artifact(self) -> dict[str, Any]:
        shape, policy = self._shape(), self.pixel_policy.to_dict()
        states = states_of(self.named_predictors())
        return artifact(FORMAT, format_version(shape), **shape, pixel_policy=policy, card=self.card, **states)

    def identity(self) -> dict[str, Any]:
        """Returns what its verdicts depend on apart from the models, as plain data: equal if two judges judge alike."""
        used = [name for name in ("verbalizer", "judge") if name == "judge" or self.evidence != "image"]
        predictors = {}
        for name in used:
            state = state_of(getattr(self, name))
            demos = hashlib.sha256(json.dumps(state["demos"], sort_keys=True, default=str).encode()).hexdigest()
            predictors[name] = {
                "instruction": state["signature"]["instructions"],
                "demonstrations": f"{len(state['demos'])}, sha256 {demos}",
            }
        return {**self._shape(), "pixel_policy": self.pixel_policy.to_dict(), **predictors}

    def _shape(self) -> dict[str, Any]:
        """What makes a judge another program, not the same one with another state."""
        named = {} if self.images == (IMAGE,) else {"images": list(self.images)}
        return {
            "labels": self.labels.to_dict(),
            **named,
            "evidence": self.evidence,
            "context": list(self.context),
            "reasoning": self.reasoning,
            **({} if self.confidence is None else {"confidence": self._doubt()}),
        }

    def _doubt(self) -> dict[str, Any]:
        """How the confidence is found and, of a calibrated judge, the threshold, as plain data."""
        if self.confidence is None:
            raise BlpoError("this judge has no confidence; give it one, judge.confident('votes')")
        return {**self.confidence.to_dict(), **({} if self.threshold is None else {"threshold": self.threshold})}

    def _take_doubt(self, data: Mapping[str, Any]) -> None:
        """Takes over what `_doubt` returned."""
        check_kind("confidence", data, Mapping, "dictionary", "what the file of a judge says")
        threshold = data.get("threshold")
        if threshold is not None and not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
            raise BlpoError(f"the threshold {brief(repr(threshold))} is not a number from 0 to 1")
        confidence = Confidence.from_dict({name: value for name, value in data.items() if name != "threshold"})
        self.confidence, self.threshold = confidence, threshold

    @classmethod
    def _from_file(cls: type[_J], path: str | os.PathLike[str]) -> _J:
        """Returns the judge that `judge.save(path)` wrote, built from the file alone; no code of the file is run.

        Raises:
            ArtifactError: If the file is missing, damaged, no judge, or one of another format version, or if its
                predictors are made for other labels, evidence or context than it names.
        """
        return cls._built(path, read_json(path))

    @classmethod
    def _built(cls: type[_J], path: str | os.PathLike[str], data: Mapping[str, Any]) -> _J:
        """Returns the judge of the data of a file, which `path` names in errors."""
        check_judge(path, data)
        try:
            names = {"images": data.get("images", [IMAGE]), "context": data["context"]}
            for what, value in names.items():
                if not isinstance(value, list):
                    raise BlpoError(f"{what} {value!r} is not a list of names")
            judge = cls(
                LabelSpace.from_dict(data["labels"]),
                instruction=data["judge"]["signature"]["instructions"],
                verbalizer_instruction=data["verbalizer"]["signature"]["instructions"],
                **names,
                evidence=data["evidence"],
                reasoning=data["reasoning"],
            )
            if "confidence" in data:
                judge._take_doubt(data["confidence"])
            judge._restore(data)
        except MALFORMED as error:
            raise ArtifactError(f"{path}: not a judge that can be built ({error}); save the judge again") from error
        return judge

    def _load_into(
        self, path: str | os.PathLike[str], allow_pickle: bool = False, allow_unsafe_lm_state: bool = False
    ) -> None:
        """Takes over instructions, demonstrations, pixel policy and card from a judge file; DSPy's `Module.load`.

        A plain DSPy state is loaded as DSPy does; the two options are for that.

        Raises:
            ArtifactError: If the file is damaged, or was saved by a judge of other labels, evidence or context.
        """
        if as_path(path).suffix != ".json" and not Path(path).is_dir():
            super().load(path, allow_pickle, allow_unsafe_lm_state)
            return
        data = read_json(path)
        if data.get("format") != FORMAT:
            try:
                super().load(path, allow_pickle, allow_unsafe_lm_state)
            except BlpoError as error:
                raise ArtifactError(f"{path}: {error}") from error
            except MALFORMED as error:  # its metadata are all that is left to be wrong
                raise ArtifactError(
                    f"{path}: its 'metadata' are missing or damaged ({error!r}); save the judge again"
                ) from error
            return
        check_judge(path, data)
        if differing := differences(data, {"images": None, "confidence": None, **self._shape()}, "judge"):
            raise ArtifactError(
                f"{path}: saved with {differing}; use VisualJudge.load({str(path)!r}) to build it as saved"
            )
        try:
            self._restore(data)
        except MALFORMED as error:
            raise ArtifactError(f"{path}: not a judge that can be loaded ({error}); save the judge again") from error

    def load_state(self, state: Mapping[str, Any], *, allow_unsafe_lm_state: bool = False) -> None:
        """Takes over instructions, demonstrations and pixel policy; see `dspy.Module.load_state`.

        Raises:
            ArtifactError: If the state is damaged, or of a judge with other labels, evidence or context.
        """
        names = [name for name, _ in self.named_predictors()]
        if not isinstance(state, Mapping) or not all(isinstance(state.get(name), Mapping) for name in names):
            raise ArtifactError(
                f"neither a judge file nor the DSPy state of a {type(self).__name__}, which has the entries "
                f"{' and '.join(names)}; save the judge again"
            )
        super().load_state(state, allow_unsafe_lm_state=allow_unsafe_lm_state)

    def _restore(self, data: Mapping[str, Any]) -> None:
        pixel_policy, card = PixelPolicy.from_dict(data["pixel_policy"]), checked_card(data["card"])
        self.load_state({name: predictor_state(data[name]) for name in ("verbalizer", "judge")})
        self.pixel_policy, self.card = pixel_policy, card


def single(program: _P) -> _P:
    """Returns a program as an optimizer takes it: a judge with a confidence as one that gives a single answer."""
    if isinstance(program, VisualJudge) and program.confidence is not None:
        return program.confident(None)
    return program


def check_policy(policy: object) -> None:
    """Refuses what is not a pixel policy."""
    check_kind("pixel_policy", policy, PixelPolicy, "pixel policy", "PixelPolicy(max_side=1024)")


def _check(evidence: str, reasoning: bool, instruction: str, verbalizer_instruction: str) -> None:
    """Refuses what no judge is made of."""
    if evidence not in get_args(Evidence):
        raise BlpoError(f"evidence {evidence!r} is unknown; choose one of {', '.join(get_args(Evidence))}")
    for name, text in (("instruction", instruction), ("verbalizer_instruction", verbalizer_instruction)):
        if not isinstance(text, str) or not text.strip():
            raise BlpoError(f"{name} is empty or not a text; say in a sentence what the model is to do")
    if not isinstance(reasoning, bool):
        raise BlpoError(f"reasoning {reasoning!r} is neither True nor False")
