import json
import re
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from worlds import examples, mind, student, threshold

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import BLPOResult, TextGrad
from blpo_dspy.optimizers.baselines.textgrad_prompts import ImproveInstruction
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget

STEP = 21
TRAIN = examples(range(0, 250, STEP))
VALIDATION = examples(range(STEP // 2, 250, STEP))
LABEL_OF = {example.image.url.partition(",")[2]: example.label for example in TRAIN}


def descending(seen: Seen) -> Any:
    """Criticizes what is wrong, says nothing of what is right, and raises the threshold by 12 if told to."""
    if seen.fields == ["criticism"]:
        if "evaluation ##" in seen.user:
            shown = json.loads(seen.field("evaluation"))
            return {"criticism": shown["difference"]}
        (shown,) = json.loads(seen.field("conversation"))
        return {"criticism": f"raise it, since {shown['criticism_of_output']}" if shown["criticism_of_output"] else ""}
    if seen.fields == ["improved_instruction"]:
        step = 12 if "raise it" in seen.field("conversations") else 0
        return {"improved_instruction": f"Bright is above {threshold(seen.field('instruction')) + step}"}
    return mind(seen)


def compiled(
    script: Any = descending, start: VisualJudge | None = None, **options: Any
) -> tuple[dspy.Module, list[Seen]]:
    """Returns the compiled program and every request that was sent for it."""
    lm = scripted_lm(script)
    options = {"num_threads": 4, "epochs": 1, **options}
    optimizer = TextGrad(prompt_model=lm, task_model=lm, **options)
    return optimizer.compile(start or student(), trainset=TRAIN, valset=VALIDATION), lm.engine.seen


def result(program: dspy.Module) -> BLPOResult:
    """Returns what the run recorded."""
    return program.detailed_results


def kind(seen: Seen) -> str:
    """Returns what a request is: (j)udgement, gradient of the (o)utput or of the (i)nstruction, (u)pdate."""
    if seen.fields == ["criticism"]:
        return "o" if "evaluation ##" in seen.user else "i"
    return {"label": "j", "improved_instruction": "u", "description": "d"}[seen.fields[0]]


def of_kind(seen: list[Seen], letter: str) -> list[Seen]:
    """Returns the requests of a kind, in order."""
    return [one for one in seen if kind(one) == letter]


def test_a_step_follows_the_published_order() -> None:
    """Three judgements, a gradient of each output, one of the instruction for each, an update; then the next three.

    Equal evaluations are one request, which is sent once and then remembered.
    """
    program, seen = compiled(num_threads=1, steps_per_epoch=3)
    assert re.fullmatch("(j{3}o{0,3}i{3}u){3}", "".join(kind(one) for one in seen))
    asked = result(program).ledger["optimizer"]
    assert asked.calls + asked.cached == 3 * (3 + 3 + 1)
    batches = [tuple(one.images[0] for one in of_kind(seen, "j")[start : start + 3]) for start in (0, 3, 6)]
    assert len({image for batch in batches for image in batch}) == 9
    assert [len(r.trials) for r in result(program).rounds] == [1, 1, 1]


@pytest.mark.slow
def test_epochs_are_shuffled_anew_and_end_after_four_steps() -> None:
    """The defaults make 3 x 4 updates; without a limit an epoch goes through everything, its rest as a small batch."""
    program, seen = compiled(epochs=3)
    assert len(of_kind(seen, "u")) == len(result(program).rounds) == 12
    firsts = [result(program).rounds[number].batch for number in (0, 4, 8)]
    examples_of = [{j.example for j in batch.judgements} for batch in firsts]
    assert len({frozenset(one) for one in examples_of}) == 3
    whole, _ = compiled(steps_per_epoch=None, batch_size=5)
    assert [r.batch.searched for r in result(whole).rounds] == [5, 5, 2]


def test_right_examples_are_criticized_too() -> None:
    """Both gradients are asked for every example of the batch, whether the judge was right or not."""
    program, seen = compiled(steps_per_epoch=2)
    outputs = [json.loads(one.field("evaluation"))["difference"] for one in of_kind(seen, "o")]
    assert set(outputs) == {"", "judge said bright, people said dark"}
    guards = [{j.example for j in r.batch.right} for r in result(program).rounds]
    assert any(guards)
    criticized = [json.loads(one.field("conversation"))[0]["difference"] for one in of_kind(seen, "i")]
    assert len(criticized) == 6
    assert criticized.count("") == sum(map(len, guards))


def test_the_gradient_of_an_output_sees_its_evaluation_and_no_image() -> None:
    """Loss to response: both labels, how they differ, and the score."""
    _, seen = compiled()
    for one in of_kind(seen, "o"):
        evaluation = json.loads(one.field("evaluation"))
        right = evaluation["human_label"] == evaluation["judge_label"]
        assert evaluation["score"] == (1.0 if right else 0.0)
        assert one.images == []
        assert "above" not in one.text


def test_the_gradient_of_the_instruction_sees_the_conversation_and_the_first_gradient() -> None:
    """Response to instruction: the whole instruction, one image, the output, and the criticism of the output."""
    program, seen = compiled()
    starts = [r.start.judge for r in result(program).rounds for _ in range(3)]
    for one, start in zip(of_kind(seen, "i"), starts, strict=True):
        assert one.field("instruction") == start
        (conversation,) = json.loads(one.field("conversation"))
        (image,) = one.images
        assert conversation["human_label"] == LABEL_OF[image]
        assert conversation["criticism_of_output"] == conversation["difference"]


def test_the_update_sees_each_conversation_with_its_feedback() -> None:
    """One call with three images, outputs and criticisms in the order of the batch; no label of people but in words."""
    program, seen = compiled()
    for one, completed in zip(of_kind(seen, "u"), result(program).rounds, strict=True):
        conversations = json.loads(one.field("conversations"))
        assert [c["feedback"] for c in conversations] == list(completed.trials[0].criticism)
        assert len(one.images) == len(conversations) == 3
        for conversation, image in zip(conversations, one.images, strict=True):
            assert set(conversation) == {"image", "judge_label", "feedback"}
            wrong = conversation["judge_label"] != LABEL_OF[image]
            assert conversation["feedback"].startswith("raise it") == wrong
        assert (one.field("past_iterations"), one.field("past_feedback")) == ("[]", "[]")
        assert "base64" not in one.text
    assert result(program).ledger["optimizer"].images == 4 * (3 + 3)


def test_each_step_starts_from_the_update_before_and_the_last_is_returned() -> None:
    """Updates follow one another; there is no selection."""
    program, _ = compiled(epochs=3)
    rounds = result(program).rounds
    for number, completed in enumerate(rounds):
        wrong = len(completed.batch.errors) > 0
        trial = completed.trials[0]
        expected = f"Bright is above {threshold(completed.start.judge) + 12}" if wrong else completed.start.judge
        assert completed.end.judge == expected
        assert trial.judge == expected
        assert completed.chosen == (0 if wrong else None)
        assert number == 0 or completed.start == rounds[number - 1].end
    assert program.instruction == rounds[-1].end.judge
    assert threshold(program.instruction) > 60
    assert result(program).validations == ()


def test_inputs_can_be_descriptions() -> None:
    """With inputs_as="descriptions" the verbalizer's text stands for the image in every conversation."""
    start = student(verbalizer_instruction="Say how bright it is.")
    program, seen = compiled(start=start, inputs_as="descriptions")
    assert all(one.images == [] for letter in "oiu" for one in of_kind(seen, letter))
    for one in of_kind(seen, "u"):
        assert all(c["description"].startswith("brightness") for c in json.loads(one.field("conversations")))
    assert result(program).ledger["optimizer"].images == 0
    assert program.verbalizer_instruction == "Say how bright it is."


def test_momentum_and_gradient_memory_show_earlier_steps() -> None:
    """The update is shown the last versions, the current one included, and the feedback of the last steps."""
    program, seen = compiled(momentum_window=2, gradient_memory=1)
    rounds = result(program).rounds
    updates = of_kind(seen, "u")
    assert json.loads(updates[0].field("past_iterations")) == ["Bright is above 20"]
    assert json.loads(updates[0].field("past_feedback")) == []
    for number in range(1, 4):
        versions = [rounds[number - 1].start.judge, rounds[number].start.judge]
        assert json.loads(updates[number].field("past_iterations")) == versions
        assert json.loads(updates[number].field("past_feedback")) == ["\n".join(rounds[number - 1].trials[0].criticism)]


@pytest.mark.slow
def test_a_fall_on_the_validation_set_is_taken_back_if_asked_for() -> None:
    """With revert an update that scores less on the validation set than the instruction before it is not taken."""

    def overshooting(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"]:
            return {"improved_instruction": f"Bright is above {threshold(seen.field('instruction')) + 60}"}
        return descending(seen)

    program, seen = compiled(overshooting, revert=True)
    assert [(threshold(r.trials[0].judge), r.chosen) for r in result(program).rounds] == [
        (80, 0),
        (140, 0),
        (200, None),
        (200, None),
    ]
    scores = [r.trials[0].score for r in result(program).rounds]
    assert scores[0] < scores[1] > scores[2] == scores[3]
    assert threshold(program.instruction) == 140
    free, _ = compiled(overshooting)
    assert threshold(free.instruction) == 20 + 4 * 60
    prompted = {image for letter in "oiu" for one in of_kind(seen, letter) for image in one.images}
    assert prompted <= set(LABEL_OF)


def test_an_update_that_cannot_be_used_is_asked_for_once_more() -> None:
    """The second call names the reason; without a usable text the step changes nothing."""
    answers = iter(["Bright is above 90. Answer in JSON."] * 2 + ["Bright is above 60"])

    def stubborn(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"]:
            return {"improved_instruction": next(answers)}
        return descending(seen)

    program, seen = compiled(stubborn, steps_per_epoch=2)
    first, second, _ = of_kind(seen, "u")
    assert first.field("feedback") == "none"
    assert "output format" in second.field("feedback")
    completed, later = result(program).rounds
    assert (completed.chosen, len(completed.trials[0].rejections)) == (None, 2)
    assert later.start.judge == "Bright is above 20"


def test_an_example_on_which_a_call_fails_is_left_out() -> None:
    """A refused judgement or criticism takes its example out of the step; a step without any makes no update."""
    refused = TRAIN[5].image.url.partition(",")[2]

    def refusing(seen: Seen) -> Any:
        if "label" in seen.fields and refused in seen.images:
            return dspy.lm15.InvalidRequestError("against our policy")
        if kind(seen) == "o" and json.loads(seen.field("evaluation"))["difference"]:
            return dspy.lm15.InvalidRequestError("against our policy")
        return descending(seen)

    program, seen = compiled(refusing, steps_per_epoch=None)
    shown = [len(json.loads(one.field("conversations"))) for one in of_kind(seen, "u")]
    assert shown == [len(r.batch.right) for r in result(program).rounds if r.batch.right]
    assert refused not in {image for one in of_kind(seen, "i") for image in one.images}

    def failing(seen: Seen) -> Any:
        return dspy.lm15.InvalidRequestError("no") if kind(seen) == "o" else descending(seen)

    program, seen = compiled(failing)
    assert of_kind(seen, "u") == of_kind(seen, "i") == []
    assert program.instruction == "Bright is above 20"


def test_ordinal_evaluations_say_how_far_and_which_way_they_miss() -> None:
    """An evaluation on a scale states direction and a score between 0 and 1."""

    def grading(seen: Seen) -> Any:
        return {"label": "4"} if "label" in seen.fields else descending(seen)

    lm = scripted_lm(grading)
    judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Bright is above 20", evidence="image")
    trainset = [example.copy(label=label) for example, label in zip(TRAIN[:9], [2, 4, 5] * 3, strict=True)]
    TextGrad(prompt_model=lm, task_model=lm, epochs=1).compile(judge, trainset=trainset)
    evaluations = [json.loads(one.field("evaluation")) for one in of_kind(lm.engine.seen, "o")]
    assert {(e["difference"], e["score"]) for e in evaluations} == {
        ("judge 2 too high", 0.5),
        ("", 1.0),
        ("judge 1 too low", 0.75),
    }


@pytest.mark.slow
def test_results_do_not_depend_on_threads_and_the_seed_draws_the_batches() -> None:
    """One thread and eight give the same records; another seed draws other examples."""
    one, eight, other = (result(compiled(num_threads=n, seed=s)[0]) for n, s in ((1, 0), (8, 0), (8, 1)))
    assert one.rounds == eight.rounds
    assert one.returned == eight.returned
    assert one.rounds[0].batch != other.rounds[0].batch


def test_a_spent_budget_returns_what_the_last_whole_step_ended_with() -> None:
    """A cap is never passed, and a step that it would cut short isn't begun."""
    program, seen = compiled(epochs=3, budget=Budget(max_calls=45))
    assert len(seen) <= 45
    assert 3 <= len(result(program).rounds) < 12
    assert program.instruction == result(program).rounds[-1].end.judge != "Bright is above 20"
    assert "budget" in result(program).stop_reason
    program, seen = compiled(budget=Budget(max_calls=6))
    assert (program.instruction, len(seen)) == ("Bright is above 20", 6)


def test_the_best_validated_program_is_returned_within_the_budget_if_asked_for() -> None:
    """select="best" validates start and end within the cap, and is never worse than the start there."""
    program, seen = compiled(select="best", epochs=3, budget=Budget(max_calls=90))
    found = result(program)
    assert len(seen) <= 90
    assert found.after.score > found.before.score


@pytest.mark.slow
def test_a_finished_run_is_taken_from_its_journal(tmp_path: Any) -> None:
    """The same call again makes no call and gives the same result."""
    first, _ = compiled(log_dir=tmp_path)
    again, seen = compiled(log_dir=tmp_path)
    assert seen == []
    assert result(again).rounds == result(first).rounds
    assert result(again).ledger.calls() == result(first).ledger.calls()


def test_another_signature_can_take_a_meta_prompts_place() -> None:
    """The meta-prompts are options; their text is what the optimizer LM reads."""
    own = ImproveInstruction.with_instructions("Do better.")
    _, seen = compiled(improve_instruction=own, steps_per_epoch=1)
    assert {one.instruction for one in of_kind(seen, "u")} == {"Do better."}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"momentum_window": -1}, "momentum_window=-1"),
        ({"inputs_as": "sounds"}, "inputs_as='sounds'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """An impossible option is named with its value when the optimizer is made."""
    with pytest.raises(BlpoError, match=message):
        TextGrad(prompt_model=scripted_lm(mind), **options)


def test_the_defaults_are_the_published_ones() -> None:
    """The options that the reference experiment runs with, on record as JSON-ready data."""
    options = json.loads(json.dumps(TextGrad(prompt_model=scripted_lm(mind)).options))
    published = {"epochs": 3, "steps_per_epoch": 4, "batch_size": 3, "momentum_window": 0, "gradient_memory": 0}
    assert {**published, "revert": False, "select": "last"}.items() <= options.items()
