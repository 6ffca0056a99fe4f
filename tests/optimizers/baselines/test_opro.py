import json
import re
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from worlds import TRUE_THRESHOLD, brightness, examples, mind, student, threshold

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import OPRO, BLPOResult
from blpo_dspy.optimizers.baselines.opro_prompts import WriteInstruction
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget

STEP = 24
TRAIN = examples(range(0, 250, STEP))
VALIDATION = examples(range(STEP // 2, 250, STEP))
LABEL_OF = {example.image.url.partition(",")[2]: example.label for example in TRAIN}


def history(seen: Seen) -> list[dict[str, Any]]:
    """Returns the scored instructions that a meta-prompt shows."""
    return json.loads(seen.field("previous_instructions"))


def climbing(seen: Seen) -> Any:
    """Raises the best threshold that the prompt shows, a little more with every proposal of a step."""
    if seen.fields == ["instruction"]:
        number = int(re.search(r"proposal (\d+) of", seen.field("sample")).group(1))
        return {"instruction": f"Bright is above {threshold(history(seen)[-1]['instruction']) + 12 * number}"}
    return mind(seen)


def compiled(
    script: Any = climbing, start: VisualJudge | None = None, **options: Any
) -> tuple[dspy.Module, list[Seen]]:
    """Returns the compiled program and every request that was sent for it."""
    lm = scripted_lm(script)
    options = {"num_threads": 4, "steps": 2, **options}
    program = OPRO(prompt_model=lm, task_model=lm, **options).compile(
        start or student(), trainset=TRAIN, valset=VALIDATION
    )
    return program, lm.engine.seen


def result(program: dspy.Module) -> BLPOResult:
    """Returns what the run recorded."""
    return program.detailed_results


def prompts(seen: list[Seen]) -> list[Seen]:
    """Returns the meta-prompts among the requests."""
    return [one for one in seen if one.fields == ["instruction"]]


def accuracy(instruction: str) -> float:
    """Returns the true training score of an instruction."""
    met = [(STEP * i > threshold(instruction)) == (example.label == "bright") for i, example in enumerate(TRAIN)]
    return sum(met) / len(TRAIN)


@pytest.mark.slow
def test_a_step_follows_the_published_order() -> None:
    """The start is scored on the whole training set; then eight samples a step, each scored on the whole of it."""
    program, seen = compiled(num_threads=1)
    roles = "".join("p" if one.fields == ["instruction"] else "j" for one in seen)
    judged = "j" * len(TRAIN)
    assert roles == judged + 2 * ("p" * 8 + 8 * judged)
    for one in seen[: len(TRAIN)]:
        assert one.instruction == "Bright is above 20"
    assert [len(r.trials) for r in result(program).rounds] == [8, 8]


@pytest.mark.slow
def test_trials_are_scored_by_training_accuracy_and_the_best_ends_the_step() -> None:
    """Each score is the share of training labels met; a step ends with the first of the best if it beats all before."""
    program, _ = compiled(steps=3)
    best, score = "Bright is above 20", accuracy("Bright is above 20")
    for completed in result(program).rounds:
        assert completed.start.judge == best
        for trial in completed.trials:
            if trial.judge is not None:
                assert trial.score == pytest.approx(accuracy(trial.judge))
                if trial.score > score + 1e-9:
                    best, score = trial.judge, trial.score
        assert completed.end.judge == best
    assert program.instruction == best
    assert score > accuracy("Bright is above 20")


@pytest.mark.slow
def test_the_prompt_holds_the_twenty_best_in_ascending_order_with_whole_scores() -> None:
    """After 25 scored instructions the meta-prompt lists the best twenty, lowest first, scores from 0 to 100."""

    def wandering(seen: Seen) -> Any:
        if seen.fields == ["instruction"]:
            step, number = map(int, re.findall(r"\d+", seen.field("sample"))[:2])
            return {"instruction": f"Bright is above {(97 * (8 * step + number)) % 250}"}
        return mind(seen)

    program, seen = compiled(wandering, steps=4)
    scored = [(result(program).start.judge, accuracy(result(program).start.judge))]
    for completed in result(program).rounds[:3]:
        scored += [(t.judge, t.score) for t in completed.trials if t.judge is not None]
    assert len(scored) > 20
    shown = history(prompts(seen)[-1])
    expected = sorted(scored, key=lambda pair: pair[1])[-20:]
    assert [(entry["instruction"], entry["score"]) for entry in shown] == [(t, round(100 * s)) for t, s in expected]
    assert all(isinstance(entry["score"], int) for entry in shown)


@pytest.mark.slow
def test_low_scores_are_hidden_but_never_the_best() -> None:
    """Instructions under the threshold aren't shown; where all are, the best one is."""
    _, seen = compiled(steps=2, score_threshold=0.7)
    shown = history(prompts(seen)[-1])
    assert all(entry["score"] >= 70 for entry in shown)
    _, seen = compiled(steps=1, score_threshold=1.0)
    assert [entry["instruction"] for entry in history(prompts(seen)[0])] == ["Bright is above 20"]


def test_exemplars_are_three_images_with_their_labels_drawn_anew_for_each_step() -> None:
    """Every sample of a step sees the same three training images as images, with what people said."""
    program, seen = compiled()
    images = [one.images for one in prompts(seen)]
    assert images[:8] == [images[0]] * 8
    assert images[8:] == [images[8]] * 8
    assert images[0] != images[8]
    for one in prompts(seen):
        labels = [exemplar["label"] for exemplar in json.loads(one.field("exemplars"))]
        assert labels == [LABEL_OF[image] for image in one.images]
        assert len(labels) == 3
        assert "base64" not in one.text
    assert result(program).ledger["optimizer"].images == 2 * 8 * 3


@pytest.mark.slow
def test_exemplars_can_be_descriptions_or_left_out() -> None:
    """Verbalized exemplars put no image into the prompt, and none at all leave the field out."""
    program, seen = compiled(start=student(verbalizer_instruction="Say how bright it is."), exemplars_as="descriptions")
    for one in prompts(seen):
        described = [exemplar["description"] for exemplar in json.loads(one.field("exemplars"))]
        assert [d.startswith("brightness") for d in described] == [True] * 3
    assert result(program).ledger["optimizer"].images == 0
    program, seen = compiled(exemplars_as="none")
    assert not any("exemplars ##" in one.text for one in prompts(seen))
    assert result(program).ledger.calls()["verbalizer"] == result(program).ledger["optimizer"].images == 0


@pytest.mark.slow
def test_samples_are_told_apart_by_number_and_drawn_at_temperature_one() -> None:
    """Eight equal requests would be one; the number in the prompt makes them eight."""
    _, seen = compiled(steps=1)
    assert sorted(one.field("sample") for one in prompts(seen)) == [f"step 1, proposal {n} of 8" for n in range(1, 9)]
    assert {one.request.config.temperature for one in prompts(seen)} == {1.0}
    assert {one.request.config.temperature for one in seen if "label" in one.fields} == {None}
    _, seen = compiled(steps=1, temperature=None)
    assert {one.request.config.temperature for one in prompts(seen)} == {None}


def test_an_instruction_is_scored_once_however_often_it_is_proposed() -> None:
    """What was proposed before, in this step or an earlier one, is dropped and said so."""

    def repeating(seen: Seen) -> Any:
        if seen.fields == ["instruction"]:
            return {"instruction": "Bright is above 60"}
        return mind(seen)

    program, seen = compiled(repeating)
    first, second = result(program).rounds
    assert [trial.judge for trial in first.trials] == ["Bright is above 60"] + 7 * [None]
    assert {trial.rejections[0].reason for trial in second.trials} == {"the instruction was proposed before"}
    assert second.chosen is None
    assert len(seen) - len(prompts(seen)) == 2 * len(TRAIN)


def test_proposals_that_cannot_be_used_are_dropped_without_another_call() -> None:
    """Too long, with an output format, empty, out of form, failed or cut off: recorded with the reason."""
    answers = [
        {"instruction": "Bright is above 90. " + "Look. " * 100},
        {"instruction": "Bright is above 90. Answer in JSON."},
        {"instruction": ""},
        "Sure!",
        dspy.lm15.InvalidRequestError("against our policy"),
        ("[[ ## instruction ## ]]\nBright is", "length"),
        {"instruction": "Bright is above 10"},
    ]

    def spoiling(seen: Seen) -> Any:
        if seen.fields == ["instruction"]:
            return answers[int(re.search(r"proposal (\d+)", seen.field("sample")).group(1)) - 1]
        return mind(seen)

    program, seen = compiled(spoiling, steps=1, samples_per_step=7, max_instruction_tokens=50)
    (completed,) = result(program).rounds
    reasons = [trial.rejections[0].reason if trial.rejections else "" for trial in completed.trials]
    expected = ["longer than 50", "states an output format", "empty", "no readable field", "against our", "cut off", ""]
    for reason, words in zip(reasons, expected, strict=True):
        assert words in reason
    assert len(prompts(seen)) == 7
    assert program.instruction == "Bright is above 20"


@pytest.mark.slow
def test_results_do_not_depend_on_threads_and_the_seed_draws_the_exemplars() -> None:
    """One thread and eight give the same records; another seed shows other exemplars."""
    one, eight, other = (result(compiled(num_threads=n, seed=s)[0]) for n, s in ((1, 0), (8, 0), (8, 1)))
    assert one.rounds == eight.rounds
    assert one.returned == eight.returned
    assert one.rounds[0].batch != other.rounds[0].batch


def test_a_spent_budget_returns_the_best_instruction_scored_so_far() -> None:
    """A cap in the middle of the first step still counts what was scored, and pays for no score that it would cut."""
    cap = len(TRAIN) + 8 + 3 * len(TRAIN) + 5
    for threads in (1, 8):
        program, seen = compiled(steps=5, budget=Budget(max_calls=cap), num_threads=threads)
        assert len(seen) == cap - 5
        (completed,) = result(program).rounds
        assert [trial.judge for trial in completed.trials] == [f"Bright is above {20 + 12 * n}" for n in (1, 2, 3)]
        assert program.instruction == completed.end.judge == "Bright is above 56"
        assert "budget" in result(program).stop_reason
    program, seen = compiled(budget=Budget(max_calls=5))
    assert (program.instruction, len(seen)) == ("Bright is above 20", 0)


@pytest.mark.slow
def test_a_budget_leaves_the_last_validation_its_share() -> None:
    """With select="best" the search ends in time to validate the start and the end, also in the middle of a step."""
    cap = 5 * len(TRAIN) + 8 + 3 * len(VALIDATION)
    for threads in (2, 8):
        program, seen = compiled(select="best", budget=Budget(max_calls=cap), num_threads=threads)
        found = result(program)
        assert len(seen) <= cap
        assert 2 <= len(found.rounds[0].trials) < 8
        assert [v.after_round for v in found.validations] == [0, 1]
        assert found.after.score > found.before.score
        assert program.instruction == found.rounds[0].end.judge


def test_the_best_validated_program_is_returned_if_asked_for() -> None:
    """select="best" validates each step's end; an instruction that only fits the training set isn't returned."""

    def overfitting(seen: Seen) -> Any:
        if seen.fields == ["instruction"]:
            return {"instruction": "Bright is above 20, by heart"}
        if "by heart" in seen.instruction:
            value = brightness(seen)
            return {"label": "bright" if (value > TRUE_THRESHOLD) == (value % STEP == 0) else "dark"}
        return mind(seen)

    assert "by heart" in compiled(overfitting, steps=1)[0].instruction
    program, _ = compiled(overfitting, steps=1, select="best")
    assert program.instruction == "Bright is above 20"
    assert [v.after_round for v in result(program).validations] == [0, 1]


@pytest.mark.slow
def test_a_finished_run_is_taken_from_its_journal(tmp_path: Any) -> None:
    """The same call again makes no call and gives the same result."""
    first, _ = compiled(log_dir=tmp_path)
    again, seen = compiled(log_dir=tmp_path)
    assert seen == []
    assert result(again).rounds == result(first).rounds
    assert result(again).returned == result(first).returned
    assert result(again).ledger.calls() == result(first).ledger.calls()


def test_a_part_of_the_training_set_can_stand_for_it() -> None:
    """With score_size the same few examples score every instruction and are the only exemplars."""
    program, seen = compiled(score_size=5)
    judged = {image for one in seen if "label" in one.fields for image in one.images}
    assert len(judged) == 5
    assert {image for one in prompts(seen) for image in one.images} <= judged
    assert len(seen) == 5 + sum(8 + 5 * sum(t.judge is not None for t in r.trials) for r in result(program).rounds)


def test_the_verbalizer_and_the_student_are_left_alone() -> None:
    """Only the judge instruction is optimized, on a copy."""
    start = student(evidence="both", verbalizer_instruction="Say how bright it is.")
    program, seen = compiled(start=start, steps=1)
    assert program.verbalizer_instruction == start.verbalizer_instruction == "Say how bright it is."
    assert start.instruction == "Bright is above 20"
    assert program.instruction != start.instruction
    assert {one.instruction for one in seen if one.fields == ["description"]} == {"Say how bright it is."}


def test_ordinal_scores_are_mean_scores() -> None:
    """On a scale an answer that is near counts in part: scores are 1 − mean loss."""
    scale = LabelSpace.ordinal(1, 5)
    trainset = [example.copy(label=label) for example, label in zip(TRAIN[:10], [1, 3] * 5, strict=True)]

    def grading(seen: Seen) -> Any:
        if seen.fields == ["instruction"]:
            return {"instruction": "Rate it low"}
        return {"label": "1" if "low" in seen.instruction else "5"}

    lm = scripted_lm(grading)
    judge = VisualJudge(scale, instruction="Rate it", evidence="image")
    program = OPRO(prompt_model=lm, task_model=lm, steps=1, samples_per_step=1).compile(judge, trainset=trainset)
    assert history(prompts(lm.engine.seen)[0]) == [{"instruction": "Rate it", "score": 25}]
    assert result(program).rounds[0].trials[0].score == pytest.approx(0.75)


def test_another_signature_can_take_the_meta_prompts_place() -> None:
    """The meta-prompt is an option; its text is what the optimizer LM reads."""
    own = WriteInstruction.with_instructions("Invent a better rule.")
    _, seen = compiled(write_instruction=own, steps=1)
    assert {one.instruction for one in prompts(seen)} == {"Invent a better rule."}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"samples_per_step": 0}, "samples_per_step=0"),
        ({"score_size": 0}, "score_size=0"),
        ({"exemplars": -1}, "exemplars=-1"),
        ({"exemplars_as": "sounds"}, "exemplars_as='sounds'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """An impossible option is named with its value when the optimizer is made."""
    with pytest.raises(BlpoError, match=message):
        OPRO(prompt_model=scripted_lm(mind), **options)


def test_the_options_are_on_record() -> None:
    """The result says how the run was made, as JSON-ready data."""
    program, _ = compiled(steps=1, samples_per_step=1)
    options = json.loads(json.dumps(result(program).to_dict()))["options"]
    assert (options["optimizer"], options["steps"], options["select"]) == ("OPRO", 1, "last")
