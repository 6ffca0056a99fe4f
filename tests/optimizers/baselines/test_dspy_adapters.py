"""DSPy's own optimizers on a judge with images: the cap from outside, and the traps that the adapters handle."""

from __future__ import annotations

import inspect
import sys
import threading
from collections import Counter
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import LMAuthError
from dspy.utils.parallelizer import ParallelExecutor
from engines import Seen, scripted_lm
from photographs import FIVE, Recording, digest, images_of, photographs, recorded_models, student

from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.baselines.dspy_adapters import COPRO, GEPA, SIMBA, DSPyAdapter, MIPROv2
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget

pytestmark = pytest.mark.slow

ALL = [COPRO, GEPA, SIMBA, MIPROv2]
SMALL: dict[type[DSPyAdapter], dict[str, Any]] = {
    COPRO: {"breadth": 2, "depth": 1, "score_size": 5},
    GEPA: {"max_metric_calls": 16},
    SIMBA: {"bsize": 4, "num_candidates": 2, "max_steps": 1},
    MIPROv2: {"num_candidates": 2, "num_trials": 2},
}


# Sizes whose end no cap here reaches.
WIDE: dict[type[DSPyAdapter], dict[str, Any]] = {
    COPRO: {"breadth": 4, "depth": 9, "score_size": 7},
    GEPA: {"max_metric_calls": 500},
    SIMBA: {"bsize": 4, "num_candidates": 2, "max_steps": 9},
    MIPROv2: {"num_candidates": 5, "num_trials": 30, "minibatch_size": 3},
}


def compiled(
    kind: type[DSPyAdapter],
    *,
    judge: VisualJudge | None = None,
    recording: Recording | None = None,
    models: Models | None = None,
    calls: int | None = None,
    sets: dict[str, list[dspy.Example]] | None = None,
    **options: Any,
) -> VisualJudge:
    """Compiles on the small sets of photographs."""
    models = models or recorded_models(recording or Recording())
    optimizer = kind(
        prompt_model=models.optimizer,
        task_model=models.judge,
        verbalizer_model=models.verbalizer,
        budget=None if calls is None else Budget(max_calls=calls),
        **{"num_threads": 2, **SMALL[kind], **options},
    )
    sets = sets or photographs()
    program = optimizer.compile(judge or student(), trainset=sets["trainset"], valset=sets["valset"])
    assert isinstance(program, VisualJudge)
    return program


@pytest.mark.parametrize("kind", ALL)
def test_it_runs_to_its_end_and_returns_a_judge(kind: type[DSPyAdapter], capfd: pytest.CaptureFixture[str]) -> None:
    """With the records of ours, an untouched student, and nothing printed."""
    judge, recording = student(), Recording()
    before = judge.dump_state()
    program = compiled(kind, judge=judge, recording=recording)
    result = program.detailed_results
    assert (result.stop_reason, result.capped) == ("finished", False)
    assert result.ledger.total.calls == len(recording.seen)
    assert result.returned.judge == program.instruction
    assert result.options["optimizer"] == kind.__name__
    assert judge.dump_state() == before
    assert type(judge) is type(program) is VisualJudge
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("calls", [9, 31])
def test_the_cap_holds_to_the_call(kind: type[DSPyAdapter], calls: int) -> None:
    """Whatever the optimizer would still like to do; it is halted and the best so far is returned."""
    recording = Recording()
    result = compiled(kind, recording=recording, calls=calls).detailed_results
    assert len(recording.seen) == result.ledger.total.calls <= calls
    assert "budget is spent" in result.stop_reason or result.stop_reason == "finished"
    if calls == 9:
        assert result.ledger.total.calls == calls
        assert result.returned.judge == student().instruction


@pytest.mark.parametrize("kind", ALL)
def test_what_a_capped_run_returns_doesnt_depend_on_the_number_of_threads(kind: type[DSPyAdapter]) -> None:
    """At caps that cut an evaluation in the middle, where threads decide which examples it reaches."""
    for calls, every in ((37, (1, 8, 8)), (83, (1, 8))):
        runs = [compiled(kind, calls=calls, num_threads=threads, **WIDE[kind]) for threads in every]
        found = [run.detailed_results for run in runs]
        assert len({(r.returned, r.capped, r.ledger.total.calls) for r in found}) == 1
        assert len({tuple((v.instructions, v.score, v.spent) for v in r.validations) for r in found}) == 1
        assert len({str(run.card) for run in runs}) == 1


@pytest.mark.parametrize(("kind", "given"), [(COPRO, {"breadth": 5}), (GEPA, {}), (MIPROv2, {"minibatch_size": 25})])
def test_sizes_that_are_not_given_grow_with_the_cap(kind: type[DSPyAdapter], given: dict[str, Any]) -> None:
    """So that it is the cap that ends the run."""
    sets = {"trainset": photographs()["trainset"][:6], "valset": photographs()["valset"][:3]}
    program = compiled(kind, calls=300, sets=sets, **dict.fromkeys(SMALL[kind], None) | given)
    assert program.detailed_results.capped


def test_copro_ends_before_dspy_cant_nest_signatures_any_deeper() -> None:
    """Each proposal that it tries is a signature made from the one before, and a copy of the last goes through all."""
    program = compiled(COPRO, calls=5000, depth=None, breadth=4, score_size=1)
    assert program.detailed_results.stop_reason == "finished"


def test_simba_goes_on_for_as_many_steps_as_the_cap_certainly_pays_for() -> None:
    """And not for four, whatever is left; answers that are known count as asked for, though not as calls."""
    totals = [compiled(SIMBA, calls=500, bsize=4, max_steps=steps).detailed_results.ledger.total for steps in (4, None)]
    asked = [total.calls + total.cached for total in totals]
    assert asked[0] + 48 <= asked[1], "at least one step more"
    assert totals[1].calls <= 500


@pytest.mark.parametrize("kind", ALL)
def test_a_judge_that_reads_the_image_alone_shows_no_verbalizer(kind: type[DSPyAdapter]) -> None:
    """It has no part in the answers, so nothing is spent on its instruction, and it stays as it was."""
    recording = Recording()
    program = compiled(kind, judge=student(evidence="image"), recording=recording)
    assert not recording.of("verbalizer")
    assert recording.of("optimizer")
    assert not any("Describe this image in detail" in seen.text for seen in recording.of("optimizer"))
    assert program.verbalizer_instruction == student().verbalizer_instruction


@pytest.mark.parametrize("kind", ALL)
def test_a_refused_key_ends_it_at_once(kind: type[DSPyAdapter]) -> None:
    """DSPy would score it as one wrong answer after the other."""
    refused = scripted_lm(lambda seen: LMAuthError("no such key", status=401))
    good = recorded_models(Recording())
    with pytest.raises(ModelError, match="no such key"):
        compiled(kind, models=Models(refused, refused, good.optimizer))
    assert len(refused.engine.seen) <= 2


def test_validated_candidates_are_on_record_with_what_was_spent() -> None:
    """The start first; scores on the validation set alone, calls never falling."""
    validations = compiled(GEPA, max_metric_calls=40).detailed_results.validations
    assert validations[0].instructions.judge == student().instruction
    assert len(validations) > 1
    spent = [validation.spent for validation in validations]
    assert spent == sorted(spent)
    assert all((validation.score * 5 * 4) % 1 == pytest.approx(0, abs=1e-9) for validation in validations)


@pytest.mark.parametrize("size", [2, 25])
def test_miprov2_takes_any_validation_set(size: int) -> None:
    """DSPy refuses a minibatch larger than it."""
    assert compiled(MIPROv2, minibatch_size=size).detailed_results.stop_reason == "finished"


@pytest.mark.parametrize("demos", [0, 2])
def test_miprov2_comes_to_a_first_choice_under_a_small_cap(demos: int) -> None:
    """By fewer proposals, smaller trials and a part of the validation examples, the same for all candidates."""
    sizes = dict.fromkeys(SMALL[MIPROv2], None) | {"minibatch_size": 25, "demos": demos}
    result = compiled(MIPROv2, calls=60, **sizes).detailed_results
    assert result.capped
    assert len(result.validations) > 1
    assert {validation.examples for validation in result.validations} <= {1, 2, 3, 4}


@pytest.mark.parametrize(("kind", "package"), [(MIPROv2, "optuna"), (GEPA, "gepa")])
def test_a_package_that_is_missing_is_named_before_the_first_call(
    kind: type[DSPyAdapter], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DSPy imports it once much is paid for."""
    monkeypatch.setitem(sys.modules, package, None)
    recording = Recording()
    with pytest.raises(
        BlpoError, match=f"{kind.__name__} needs {package}, which is not installed: pip install {package}"
    ):
        compiled(kind, recording=recording)
    assert not recording.seen


def test_miprov2_shows_demonstrations_only_if_asked_to() -> None:
    """Each one is an image more in every prompt of the judge; the result carries them."""
    shown = {}
    for demos in (0, 2):
        recording = Recording()
        program = compiled(MIPROv2, demos=demos, recording=recording, num_trials=4)
        shown[demos] = max(len(seen.images) for seen in recording.of("judge"))
        if not demos:
            assert not any(predictor.demos for predictor in program.predictors())
    assert shown[0] == 1
    assert shown[2] > 1


def test_gepa_feeds_back_both_labels_and_the_direction_of_a_miss() -> None:
    """And shows the images of its minibatch, no more."""
    recording = Recording()
    compiled(GEPA, recording=recording, max_metric_calls=40)
    reflections = recording.of("optimizer")
    misses = [FIVE.direction(label, answer) for label in FIVE.labels for answer in FIVE.labels if label != answer]
    told = [f"People gave the label {label}: " for label in FIVE.labels]
    assert any(lead in seen.text and miss in seen.text for seen in reflections for lead in told for miss in misses)
    assert all(len(seen.images) <= 3 for seen in reflections)


def test_simba_never_writes_an_image_as_text() -> None:
    """Its demonstrations would be base64 cut at 100,000 characters."""
    recording = Recording()
    compiled(SIMBA, recording=recording)
    assert recording.of("optimizer")
    pieces = {example.image.url.partition("base64,")[2][100:140] for example in photographs()["trainset"]}
    assert not [seen for _, seen in recording.seen if any(piece in seen.text for piece in pieces)]
    assert all(len(seen.images) == 1 for seen in recording.of("judge"))


def test_simba_refuses_two_models() -> None:
    """It sets one LM on the whole program, which would silently replace the verbalizer's."""
    models = recorded_models(Recording())
    other = scripted_lm(lambda seen: {"description": "grey"}, name="scripted/other")
    with pytest.raises(BlpoError, match="use the same model for judge and verbalizer"):
        compiled(SIMBA, models=Models(models.judge, other, models.optimizer))


def test_copro_scores_on_a_subset_that_is_drawn_with_the_seed() -> None:
    """And not on the first rows of a table, which may be sorted by label."""
    by_label = sorted(photographs()["trainset"], key=lambda example: example.label)
    sets = {**photographs(), "trainset": by_label}
    scored = {}
    for seed in (0, 1):
        recording = Recording()
        compiled(COPRO, recording=recording, sets=sets, seed=seed)
        scored[seed] = {digest(seen.images[0]) for seen in recording.of("verbalizer")}
        labels = [example.label for example in by_label if images_of([example]) <= scored[seed]]
        assert len(scored[seed]) == len(labels) == 5
        assert len(set(labels)) >= 3
    assert scored[0] != scored[1]
    assert images_of(by_label[:5]) not in scored.values()


def test_an_example_that_dspy_starts_again_is_paid_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """DSPy takes one for lost that takes long; both wait for one answer."""
    longest = inspect.signature(ParallelExecutor).parameters["timeout"]
    defaults = tuple(0.001 if value == longest.default else value for value in ParallelExecutor.__init__.__defaults__)
    monkeypatch.setattr(ParallelExecutor.__init__, "__defaults__", defaults)
    starts, again = Counter[str](), threading.Event()

    class Starts(BaseCallback):
        def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            if isinstance(instance, VisualJudge):
                url = inputs["kwargs"]["image"].url
                starts[url] += 1
                if starts[url] > 1:
                    again.set()

    def slow(seen: Seen) -> Any:
        if "label" in seen.fields and not again.is_set():
            assert again.wait(60)
        return {"label": "3"} if "label" in seen.fields else dict.fromkeys(seen.fields, "Rate it.")

    lm = scripted_lm(slow)
    train = photographs()["trainset"]
    few = {"trainset": [train[0], next(e for e in train if e.label != train[0].label)], "valset": train[:1]}
    with dspy.context(callbacks=[Starts()]):
        judge = student(evidence="image")
        program = compiled(COPRO, judge=judge, models=Models(lm, lm, lm), sets=few, num_threads=4)
    assert max(starts.values()) > 1
    requests = Counter(repr(seen.request) for seen in lm.engine.seen)
    assert max(requests.values()) == 1
    assert program.detailed_results.ledger.total.calls == len(lm.engine.seen)


def test_copros_samples_differ() -> None:
    """Its n samples are one request n times: an engine of one's own gets a seed for each, and answers apart."""
    recording = Recording()
    compiled(COPRO, recording=recording, breadth=4, judge=student(evidence="image"))
    first = [seen for seen in recording.of("optimizer") if seen.text == recording.of("optimizer")[0].text]
    assert len({seen.request.config.seed for seen in first}) == len(first) == 3
    engine = recorded_models(Recording()).optimizer.engine
    answers = {engine.complete(seen.request).message.parts[0].text for seen in first}
    assert len(answers) > 1


def test_a_provider_gets_no_seed_it_was_not_given() -> None:
    """Some refuse one; they draw samples by themselves."""
    from blpo_dspy.workspace.meter import Meter

    lm = Meter(num_threads=1).wrap(dspy.LM("openai/gpt-4o", temperature=1.0), "optimizer")
    own = Meter(num_threads=1).wrap(scripted_lm(lambda seen: "yes", temperature=1.0), "optimizer")
    cold = Meter(num_threads=1).wrap(scripted_lm(lambda seen: "yes", temperature=0.0), "optimizer")
    assert (lm._sampling({}, 7), own._sampling({}, 7), own._sampling({"seed": 2}, 7)) == ({}, {"seed": 7}, {"seed": 9})
    assert (own._sampling({}, 0), cold._sampling({}, 7)) == ({}, {})
