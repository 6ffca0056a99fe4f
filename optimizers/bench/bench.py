"""The student on the bench: its two predictors run under any instructions, each (instructions, example) once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.reasons import reason_of
from blpo_dspy.errors import BlpoError, ModelError, check_kind
from blpo_dspy.models.adapter import one_call_adapter
from blpo_dspy.models.failures import FATAL_ERRORS
from blpo_dspy.optimizers.bench.ahead import Ahead
from blpo_dspy.optimizers.bench.records import Instructions, Judgement
from blpo_dspy.optimizers.bench.scoring import Metric, scored
from blpo_dspy.text import as_data
from blpo_dspy.workspace.failures import RunStoppedError, is_outage
from blpo_dspy.workspace.workers import Workers

_SILENT_ANSWERS = 20
_NAMED_FAILURES = 5
_PROGRAMS = 4
_REASONING = "reasoning"  # as `VisualJudge` and `dspy.ChainOfThought` call it


@dataclass(frozen=True)
class Predictors:
    """The names of the two predictors in the student, as `named_predictors()` gives them."""

    verbalizer: str
    judge: str


def find_predictors(student: dspy.Module, verbalizer: str, judge: str) -> Predictors:
    """Returns the student's verbalizing and judging predictor.

    Raises:
        BlpoError: If the student is not a program, or one of them isn't there.
    """
    check_kind("student", student, dspy.Module, "program", "VisualJudge(labels, instruction=…) or a module of your own")
    own: tuple[str, str] | None = getattr(student, "predictor_names", None)
    if own is not None:
        return Predictors(*own)
    names = [name for name, _ in student.named_predictors()]

    def find(wanted: str) -> str:
        matches = [name for name in names if name == wanted or name.startswith(f"{wanted}.")]
        if len(matches) != 1:
            raise BlpoError(
                f"the program has no single predictor named {wanted!r} (it has {names}); "
                "name yours with BLPO(verbalizer=…, judge=…)"
            )
        return str(matches[0])

    return Predictors(find(verbalizer), find(judge))


class Bench:
    """Judges and describes examples with copies of the student; LM calls run in parallel.

    Attributes:
        examples: All examples of the run.
        answered: Whether the judge has stated a label.

    Args:
        student: The program; it is copied, never changed.
        predictors: The names of its two predictors.
        lms: For each predictor name the LM it is to use.
        examples: All examples of the run; judgements name them by position.
        metric: `metric(example, prediction)`, a number in [0, 1]; None for 1 − loss of the label space.
        labels: The label space, None if the metric alone says what is right.
        label_field: Name of the label in examples and predictions.
        workers: Where the calls run.
        max_failed_share: The largest share of a step's examples that the LM may fail on before the step is void.
        afford: Called with the most LM calls that a step makes, before the first of them; raises to refuse a step that
            the budget wouldn't see to its end.
        per_example: LM calls that judging an example takes.
    """

    def __init__(
        self,
        student: dspy.Module,
        predictors: Predictors,
        lms: dict[str, dspy.BaseLM],
        examples: Sequence[dspy.Example],
        *,
        metric: Metric | None,
        labels: LabelSpace | None,
        label_field: str,
        workers: Workers,
        max_failed_share: float,
        afford: Callable[[int], None] = lambda calls: None,
        per_example: int = 2,
    ) -> None:
        self._student, self._predictors, self._lms = student, predictors, lms
        self.examples = examples
        self._metric, self._labels, self._label_field = metric, labels, label_field
        self._workers, self._max_failed_share = workers, max_failed_share
        self._afford, self._per_example = afford, per_example
        self._judged: dict[tuple[Instructions, int], Judgement] = {}
        self._verbalized: dict[int, Mapping[str, Any]] = {}
        self._described: set[tuple[str, int]] = set()
        self.answered = False
        self._verbalizes: bool | None = None
        # A step judges with the same instructions several times, and making a program costs as much as some calls.
        self._program = lru_cache(_PROGRAMS)(self._with_lms)

    def program(self, instructions: Instructions) -> dspy.Module:
        """Returns a copy of the student with these instructions and its own LMs."""
        program = self._student.deepcopy()
        texts = {self._predictors.verbalizer: instructions.verbalizer, self._predictors.judge: instructions.judge}
        for name, predictor in program.named_predictors():
            if name in texts:
                predictor.signature = predictor.signature.with_instructions(texts[name])
        return program

    def judge(self, instructions: Instructions, examples: Sequence[int]) -> list[Judgement]:
        """Returns f(x; p) with its loss for each example, known ones from memory.

        What the LM refuses stands as a failure; `void` returns whether that leaves enough to compare.

        Raises:
            ModelError: If an outage took more than the allowed share of the examples, twice, or the judge never
                states a label.
        """
        key = self._key(instructions)
        known = {i: self._judged[key, i] for i in examples if (key, i) in self._judged}
        wanted = [i for i in dict.fromkeys(examples) if i not in known]
        undescribed = [i for i in wanted if (instructions.verbalizer, i) not in self._described]
        self._afford((self._per_example - 1) * len(wanted) + len(undescribed))
        fresh, size = self._judge_all(instructions, wanted, undescribed), len(set(examples))
        if any(judgement.outage for judgement in fresh):
            fresh = self._judged_again(instructions, fresh, size)
        self._check_failures("model", [j.failure for j in fresh if j.outage], size)
        answered = [judgement for judgement in fresh if not judgement.failure]
        if answered and not self._verbalizes:
            self._verbalizes = any(judgement.description is not None for judgement in answered)
        key = self._key(instructions)
        # What the provider refuses once it refuses again; what an outage swallowed is requested again when next needed.
        self._judged.update({(key, judgement.example): judgement for judgement in fresh if not judgement.outage})
        self._described.update((instructions.verbalizer, j.example) for j in answered if j.description is not None)
        self._check_answers(fresh)
        judged = {**known, **{judgement.example: judgement for judgement in fresh}}
        return [judged[i] for i in examples]

    def _judge_all(
        self, instructions: Instructions, wanted: Sequence[int], undescribed: Sequence[int]
    ) -> list[Judgement]:
        if not wanted:
            return []
        program = self._program(instructions)
        with Ahead(program, self.examples, undescribed, self._workers) as ahead:
            futures = []
            for position in wanted:
                ahead.keep_up()
                futures += self._workers.submit(lambda i: self._judge_one(program, i, ahead), [position])
            return self._workers.results(futures)

    def _check_failures(self, role: str, failures: Sequence[str], of: int) -> None:
        """A step that an outage took too much of is void: what is left of it would not be comparable."""
        if self._too_many(len(failures), of):
            raise ModelError(f"the {role} failed for {len(failures)} of {of} examples, twice: {failures[0]}")

    def _too_many(self, failures: int, of: int) -> bool:
        return failures > self._max_failed_share * of

    def void(self, judgements: Sequence[Judgement]) -> bool:
        """Returns whether the LM failed on too many: who is refused the hard examples would seem to be better."""
        return self._too_many(sum(bool(judgement.failure) for judgement in judgements), len(judgements))

    def check(self, judgements: Sequence[Judgement]) -> None:
        """Refuses to continue from judgements that are `void`.

        Raises:
            ModelError: If they are.
        """
        if not self.void(judgements):
            return
        failed = [judgement for judgement in judgements if judgement.failure]
        names = [str(self.examples[j.example].get("id", f"example {j.example}")) for j in failed[:_NAMED_FAILURES]]
        raise ModelError(
            f"the model failed for {len(failed)} of {len(judgements)} examples ({', '.join(names)}"
            f"{', …' if len(failed) > len(names) else ''}), so that the others say too little; leave out what it "
            f"refuses, or in Python raise max_failed_share: {failed[0].failure}"
        )

    def _key(self, instructions: Instructions) -> Instructions:
        """What a judgement depends on: not on q where no judgement so far used the verbalizer."""
        return instructions if self._verbalizes is not False else Instructions(instructions.judge, "")

    def _check_answers(self, fresh: Sequence[Judgement]) -> None:
        """A judge that never gives a label leaves nothing to optimize: that is said rather than scored."""
        self.answered = self.answered or self._labels is None or any(judgement.valid for judgement in fresh)
        if self.answered or len(self._judged) < min(_SILENT_ANSWERS, len(self.examples)):
            return
        assert self._labels is not None
        sample = next(iter(self._judged.values()))
        if sample.failure:
            raise ModelError(
                f"the judge model refused every one of its first {len(self._judged)} images: {sample.failure}"
            )
        raise ModelError(
            f"the judge model stated no label in any of its first {len(self._judged)} answers, so there is nothing to "
            f"align; it should answer with {self._labels.describe()}, it wrote for example {sample.answer[:200]!r}"
        )

    def describe(self, verbalizer: str, examples: Sequence[int]) -> list[str | None]:
        """Returns g(x; q) for each example, as data for a prompt; None where the LM refused it.

        Raises:
            ModelError: If an outage took more than the allowed share of the examples, twice.
        """
        program = self._program(Instructions("unused", verbalizer))
        self._afford(sum((verbalizer, i) not in self._described for i in examples))
        described = self._workers.map(lambda i: self._describe_one(program, i), examples)
        if any(_outage(answer) for answer in described):
            again = list(zip(examples, described, strict=True))
            described = self._workers.map(
                lambda one: self._describe_one(program, one[0]) if _outage(one[1]) else one[1], again
            )
        failures = [str(answer) for answer in described if _outage(answer)]
        self._check_failures("verbalizer model", failures, len(examples))
        self._described.update((verbalizer, i) for i, a in zip(examples, described, strict=True) if isinstance(a, str))
        return [answer if isinstance(answer, str) else None for answer in described]

    def _describe_one(self, program: dspy.Module, position: int) -> str | LMError | None:
        predictor = dict(program.named_predictors())[self._predictors.verbalizer]
        output = next(reversed(predictor.signature.output_fields))
        inputs = self._verbalizer_inputs(predictor, position)
        if inputs is None:
            return None
        with dspy.context(trace=[], adapter=one_call_adapter()):
            try:
                return as_data(predictor(**inputs)[output])
            except AdapterParseError as error:
                return as_data((error.parsed_result or {}).get(output, error.lm_response)).strip()
            except LMError as error:
                if isinstance(error, FATAL_ERRORS):
                    raise _model_error("verbalizer", error) from error
                return error

    def _verbalizer_inputs(self, predictor: Any, position: int) -> Mapping[str, Any] | None:
        """What the program gave the verbalizer for an example, else the example's inputs of the same names.

        None where the program computes them and, its answer being out of form, left no trace of them.

        Raises:
            BlpoError: If the program gives the verbalizer nothing, and examples have no inputs of these names.
        """
        if position in self._verbalized:
            return self._verbalized[position]
        inputs = dict(self.examples[position].inputs().items())
        missing = [name for name in predictor.signature.input_fields if name not in inputs]
        if not missing:
            return {name: inputs[name] for name in predictor.signature.input_fields}
        if self._verbalized:
            return None
        raise BlpoError(
            f"the verbalizer takes {', '.join(missing)}, which the program doesn't give it and examples don't have "
            f"(they have {', '.join(inputs)}); call it in the program's forward, or name its inputs as they do"
        )

    def mean_loss(self, judgements: Sequence[Judgement]) -> float:
        """Returns L(p) over the judgements that the LM did not fail on (eq. 2)."""
        losses = [judgement.loss for judgement in judgements if judgement.loss is not None]
        return sum(losses) / len(losses) if losses else 1.0

    def mean_score(self, judgements: Sequence[Judgement]) -> float | None:
        """Returns 1 − L(p), None where the judgements are `void`."""
        return None if self.void(judgements) else 1.0 - self.mean_loss(judgements)

    def gain(self, before: Sequence[Judgement], after: Sequence[Judgement]) -> float | None:
        """Returns the mean reduction of the loss, over the examples that the LM answered both times.

        None where it answered none before, or failed on too many of those now.
        """
        pairs = [(b.loss, a) for b, a in zip(before, after, strict=True) if b.loss is not None]
        gains = [loss - a.loss for loss, a in pairs if a.loss is not None]
        return sum(gains) / len(gains) if gains and not self.void([a for _, a in pairs]) else None

    def _with_lms(self, instructions: Instructions) -> dspy.Module:
        program = self.program(instructions)
        for name, predictor in program.named_predictors():
            predictor.lm = self._lms[name]
        return program

    def _judged_again(self, instructions: Instructions, judged: Sequence[Judgement], of: int) -> list[Judgement]:
        """The judgements, those that an outage took tried once more; a few that no budget pays for stand as failed."""
        program, refusals = self._program(instructions), list[RunStoppedError]()

        def again(judgement: Judgement) -> Judgement:
            try:
                return self._judge_one(program, judgement.example) if judgement.outage else judgement
            except RunStoppedError as refused:
                refusals.append(refused)
                return judgement

        judged = self._workers.map(again, judged)
        if refusals and self._too_many(sum(judgement.outage for judgement in judged), of):
            raise refusals[0]
        return judged

    def _judge_one(self, program: dspy.Module, position: int, ahead: Ahead | None = None) -> Judgement:
        example = self.examples[position]
        label = example[self._label_field]
        with dspy.context(trace=[]):
            try:
                if ahead is not None:
                    ahead.check(position)
                prediction = program(**example.inputs())
            except AdapterParseError as error:
                answer = as_data(error.lm_response)
                predicted = self._labels.parse(answer) if self._labels else None
                prediction = dspy.Prediction(**{self._label_field: predicted, "answer": answer})
            except LMError as error:
                if isinstance(error, FATAL_ERRORS):
                    raise _model_error("judge", error) from error
                return Judgement(position, label, None, None, failure=str(error), outage=is_outage(error))
            answer = self._answer(prediction)
            description = self._description(program, prediction, position)
        predicted = self._labels.parse(answer) if self._labels else answer
        loss = self._loss(example, prediction, label, predicted)
        said = str(prediction.get("answer", answer))
        why = as_data(prediction.get(_REASONING))
        return Judgement(position, label, predicted, loss, said, description, tolerated=self._tolerated, reasoning=why)

    def _answer(self, prediction: Any) -> Any:
        """The label that the program gives, as it stands; a metric alone needs none."""
        name = self._label_field
        check_kind("the program's result", prediction, dspy.Prediction, "prediction", f"dspy.Prediction({name}=…)")
        if self._labels is not None and name not in prediction:
            raise BlpoError(
                f"the program returns the fields {', '.join(prediction.keys())}, and no {name!r}; return "
                f"dspy.Prediction({name}=…), or name the field of examples and predictions with label_field=…"
            )
        return prediction.get(name)

    def _description(self, program: dspy.Module, prediction: dspy.Prediction, position: int) -> str | None:
        """What the verbalizer said while the program ran, if the program called it.

        An answer out of form is in no trace; `VisualJudge` returns it as it stands.
        """
        verbalizer = dict(program.named_predictors())[self._predictors.verbalizer]
        calls = [(given, said) for predictor, given, said in dspy.settings.trace or () if predictor is verbalizer]
        if calls:
            self._verbalized.setdefault(position, calls[-1][0])  # it depends on the example, not on instructions
        said = list(calls[-1][1].values())[-1] if calls else prediction.get("description")
        return None if said is None else as_data(said)

    def score(self, example: dspy.Example, prediction: dspy.Prediction) -> float:
        """Returns the metric of a prediction, in [0, 1]; 0 for an answer that states no label."""
        answer = prediction.get(self._label_field)
        predicted = self._labels.parse(answer) if self._labels else answer
        return 1.0 - self._loss(example, prediction, example[self._label_field], predicted)

    def feedback(self, example: dspy.Example, prediction: dspy.Prediction) -> str:
        """Returns how a prediction compares with the human label, in words, and the reason that people gave for it."""
        label, answer = example[self._label_field], as_data(prediction.get(self._label_field))
        reason = reason_of(example)
        wrote = f" Beside the label they wrote: “{reason}”" if reason else ""
        if self._labels is None:
            return f"People gave the label {label}; the judge gave {answer}.{wrote}"
        miss = self._labels.direction(label, self._labels.parse(answer))
        found = f"Right: people gave the label {label} too." if not miss else f"People gave the label {label}: {miss}."
        return f"{found}{wrote}"

    @property
    def _tolerated(self) -> float:
        """The largest loss that counts as right; a metric of the user's says what is wrong by itself."""
        return self._labels.tolerated if self._labels is not None and self._metric is None else 0.0

    def _loss(self, example: dspy.Example, prediction: dspy.Prediction, label: Any, predicted: Any) -> float:
        if self._metric is None:
            assert self._labels is not None
            return self._labels.loss(label, predicted)
        return 1.0 - scored(self._metric, example, prediction)


def _outage(answer: str | LMError) -> bool:
    return isinstance(answer, LMError) and is_outage(answer)


def _model_error(role: str, error: LMError) -> ModelError:
    return ModelError(f"the {role} model cannot be used: {error}")
