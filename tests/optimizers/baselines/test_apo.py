import itertools
import json
import random
import re
from typing import Any

import dspy
import pytest
import worlds
from engines import Seen, scripted_lm
from worlds import TRUE_THRESHOLD, examples, mind, student, threshold

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.optimizers import APO, BLPOResult
from blpo_dspy.optimizers.baselines.apo_prompts import FindReasons
from blpo_dspy.optimizers.bench.records import Trial
from blpo_dspy.optimizers.bench.run import Run
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.workers import Workers

STEP = 24
TRAIN = examples(range(0, 250, STEP))
VALIDATION = examples(range(STEP // 2, 250, STEP))
LABEL_OF = {example.image.url.partition(",")[2]: example.label for example in TRAIN}
SMALL = {"rounds": 2, "eval_rounds": 3, "eval_prompts_per_round": 4, "samples_per_eval": 6, "num_threads": 4}


def climbing(seen: Seen) -> Any:
    """Gives a step as the reason, adds it to the threshold, and rewords without changing the threshold."""
    if seen.fields == ["reasons"]:
        number = re.match(r"\d+", seen.field("sample")).group()
        return {"reasons": json.dumps([f"the threshold is {10 * int(number) + more} too low" for more in range(3)])}
    if seen.fields == ["improved_instructions"]:
        step = int(re.search(r"is (\d+) too low", seen.field("problem")).group(1))
        return {"improved_instructions": json.dumps([f"Bright is above {threshold(current(seen)) + step}"] * 3)}
    if seen.fields == ["varied_instruction"]:
        return {"varied_instruction": f"{seen.field('instruction')}, said in way {seen.field('sample')[0]}"}
    return mind(seen)


def current(seen: Seen) -> str:
    """Returns the instruction that a prompt asks to change."""
    return seen.field("current_instruction")


def compiled(
    script: Any = climbing, start: VisualJudge | None = None, **options: Any
) -> tuple[dspy.Module, list[Seen]]:
    """Returns the compiled program and every request that was sent for it."""
    lm = scripted_lm(script)
    optimizer = APO(prompt_model=lm, task_model=lm, **{**SMALL, **options})
    return optimizer.compile(start or student(), trainset=TRAIN, valset=VALIDATION), lm.engine.seen


def result(program: dspy.Module) -> BLPOResult:
    """Returns what the run recorded."""
    return program.detailed_results


def asking(seen: list[Seen], field: str) -> list[Seen]:
    """Returns the requests for an output field."""
    return [one for one in seen if one.fields == [field]]


def test_an_expansion_follows_the_published_order() -> None:
    """Minibatch, four gradients, an edit for each, two paraphrases of each edit and of the parent; then selection."""
    _, seen = compiled(rounds=1, num_threads=1)
    letters = {"label": "j", "reasons": "g", "improved_instructions": "e", "varied_instruction": "p"}
    order = "".join(letters[one.fields[0]] for one in seen)
    assert re.fullmatch(rf"j{{{len(TRAIN)}}}gggge{{4}}p{{10}}j+", order)
    for one in seen[: len(TRAIN)]:
        assert one.instruction == "Bright is above 20"
    varied = [one.field("instruction") for one in asking(seen, "varied_instruction")]
    edited = [f"Bright is above {threshold}" for threshold in (30, 40, 50, 60)]
    assert varied == [text for text in [*edited, "Bright is above 20"] for _ in range(2)]


def test_each_gradient_sees_four_errors_of_the_minibatch_as_images() -> None:
    """A gradient call holds the current instruction and four wrongly labelled examples: image, both labels."""
    program, seen = compiled(rounds=1)
    groups = []
    for one in asking(seen, "reasons"):
        assert current(one) == "Bright is above 20"
        assert one.field("number_of_reasons") == "1"
        errors = json.loads(one.field("errors"))
        groups.append(tuple(one.images))
        assert len(errors) == len(one.images) == len(set(one.images)) == 4
        for error, image in zip(errors, one.images, strict=True):
            assert error["human_label"] == LABEL_OF[image] != error["judge_label"]
        assert "base64" not in one.text
    assert len(set(groups)) == len(groups) == 4
    assert result(program).ledger["optimizer"].images == (4 + 4) * 4


def test_each_edit_sees_its_gradient_with_the_same_errors() -> None:
    """An edit call holds the reason and exactly the errors that it was found for; one edit comes of one reason."""
    program, seen = compiled(rounds=1)
    gradients = {f"the threshold is {10 * n} too low": n for n in range(1, 5)}
    images = {int(one.field("sample")[0]): one.images for one in asking(seen, "reasons")}
    edits = asking(seen, "improved_instructions")
    assert len(edits) == 4
    for one in edits:
        assert one.images == images[gradients[one.field("problem")]]
        assert current(one) == "Bright is above 20"
    tried = [trial for trial in result(program).rounds[0].trials if trial.criticism]
    for trial in tried:
        assert threshold(trial.judge) == 20 + 10 * gradients[trial.criticism[0]]


def test_errors_can_be_descriptions() -> None:
    """With errors_as="descriptions" the verbalizer's text stands for the image in every prompt."""
    start = student(verbalizer_instruction="Say how bright it is.")
    program, seen = compiled(start=start, rounds=1, errors_as="descriptions")
    for one in asking(seen, "reasons") + asking(seen, "improved_instructions"):
        assert one.images == []
        assert all(error["description"].startswith("brightness") for error in json.loads(one.field("errors")))
    assert result(program).ledger["optimizer"].images == 0
    assert program.verbalizer_instruction == "Say how bright it is."


def test_ordinal_errors_say_how_far_and_which_way_they_miss() -> None:
    """An error on a scale states its direction in words."""

    def grading(seen: Seen) -> Any:
        return {"label": "4"} if "label" in seen.fields else climbing(seen)

    lm = scripted_lm(grading)
    trainset = [example.copy(label=label) for example, label in zip(TRAIN, itertools.cycle([2, 5]), strict=False)]
    judge = VisualJudge(LabelSpace.ordinal(1, 5), instruction="Bright is above 20", evidence="image")
    APO(prompt_model=lm, task_model=lm, **{**SMALL, "rounds": 1}).compile(judge, trainset=trainset)
    differences = {
        e["difference"] for one in asking(lm.engine.seen, "reasons") for e in json.loads(one.field("errors"))
    }
    assert differences == {"judge 2 too high", "judge 1 too low"}


def test_at_most_eight_children_of_a_parent_are_tried_beside_the_beam() -> None:
    """Of 4 edits and 10 paraphrases 8 are drawn; the pool is these and the parents."""
    program, _ = compiled(rounds=2, beam_size=2)
    first, second = result(program).rounds
    assert len([t for t in first.trials if t.origin == "proposal"]) == 8
    assert [t.judge for t in first.trials if t.origin == "start"] == ["Bright is above 20"]
    assert {t.judge for t in second.trials if t.origin == "start"} == {t.judge for t in first.trials[:2]}
    assert len(second.trials) <= 2 * 8 + 2
    assert len({t.judge for t in second.trials}) == len(second.trials)


@pytest.mark.slow
def test_rejection_on_errors_keeps_the_children_that_correct_most() -> None:
    """With reject_on_errors twice as many children are tried on the errors, and the best of them stay."""
    program, _ = compiled(rounds=1, max_expansion=3, reject_on_errors=True)
    kept = [threshold(t.judge) for t in result(program).rounds[0].trials if t.origin == "proposal"]
    drawn, _ = compiled(rounds=1, max_expansion=3)
    random_ones = [threshold(t.judge) for t in result(drawn).rounds[0].trials if t.origin == "proposal"]
    assert len(kept) == len(random_ones) == 3
    assert min(kept) > 20
    assert sum(kept) > sum(random_ones)


@pytest.mark.slow
def test_twice_as_many_children_as_may_stay_are_tried_on_sixteen_errors() -> None:
    """Drawn at random; where all may stay, or nothing is rejected on errors, none is judged."""
    children = [Trial("proposal", "q", f"Bright is above {threshold}") for threshold in (30, 60, 90, 110, 120)]
    asked = {}
    for most, reject in ((2, True), (5, True), (2, False)):
        lm = scripted_lm(mind)
        optimizer = APO(prompt_model=lm, task_model=lm, max_expansion=most, reject_on_errors=reject)
        with Workers(2) as workers, Run(optimizer, student(), worlds.TRAIN, None, workers) as run:
            errors = [judgement for judgement in run.bench.judge(run.start, run.data.train) if judgement.loss]
            before = len(lm.engine.seen)
            kept = optimizer._expansion(run).filtered(children, errors, random.Random(0))
            asked[most, reject] = len(lm.engine.seen) - before
            assert len(kept) == most
    assert len(errors) == 18
    assert asked == {(2, True): 4 * 16, (5, True): 0, (2, False): 0}


def test_the_bandit_tries_chosen_candidates_on_random_training_examples() -> None:
    """Each of eval_rounds choices judges eval_prompts_per_round candidates on the same samples_per_eval examples."""
    program, seen = compiled(rounds=1, eval_rounds=1, samples_per_eval=6)
    tried: dict[str, list[str]] = {}
    for one in asking(seen, "label"):
        tried.setdefault(one.instruction, []).extend(one.images)
    assert len(tried.pop("Bright is above 20")) == len(TRAIN)
    (sample,) = {frozenset(images) for images in tried.values()}
    assert len(sample) == 6
    scores = {t.judge: t.score for t in result(program).rounds[0].trials if t.score is not None}
    assert len(scores) == 4
    assert set(tried) <= set(scores)
    for text, score in scores.items():
        right = [(brightness_of(image) > threshold(text)) == (LABEL_OF[image] == "bright") for image in sample]
        assert score == pytest.approx(sum(right) / 6)


def brightness_of(image: str) -> int:
    """Returns the grey of a training image."""
    return STEP * list(LABEL_OF).index(image)


@pytest.mark.slow
def test_the_best_estimate_is_returned_and_the_best_four_are_the_next_beam() -> None:
    """Trials are ranked by the bandit's estimate; the first ends the round, the first four are expanded next."""
    program, _ = compiled(rounds=3, eval_rounds=6, eval_prompts_per_round=8)
    rounds = result(program).rounds
    for completed, following in itertools.pairwise(rounds):
        scores = [t.score for t in completed.trials if t.score is not None]
        assert scores == sorted(scores, reverse=True)
        assert completed.end.judge == completed.trials[0].judge
        beam = {t.judge for t in following.trials if t.origin == "start"}
        assert beam == {t.judge for t in completed.trials[:4]}
    assert program.instruction == rounds[-1].trials[0].judge
    assert threshold(program.instruction) > 60
    assert result(program).validations == ()


@pytest.mark.slow
def test_of_equal_estimates_the_older_instruction_wins() -> None:
    """Paraphrases that judge alike don't displace what they were made from, nor do children that repeat it."""

    def repeating(seen: Seen) -> Any:
        if seen.fields == ["improved_instructions"]:
            return {"improved_instructions": json.dumps([f"Bright is above {threshold(current(seen))}, as ever"])}
        return climbing(seen)

    options = {"samples_per_eval": len(TRAIN), "eval_prompts_per_round": 40, "eval_rounds": 1}
    program, _ = compiled(repeating, rounds=3, **options)
    assert program.instruction == "Bright is above 20"
    assert [r.chosen for r in result(program).rounds] == [None] * 3
    assert all(r.trials[0].origin == "start" for r in result(program).rounds)


def test_no_instruction_and_example_are_judged_twice() -> None:
    """Minibatches, bandit and later rounds share what was judged."""
    _, seen = compiled(rounds=3)
    judged = [(one.instruction, tuple(one.images)) for one in asking(seen, "label")]
    assert len(judged) == len(set(judged))


def test_an_instruction_without_errors_is_only_paraphrased() -> None:
    """There is nothing to find a reason for; the beam stays."""
    program, seen = compiled(start=student(instruction=f"Bright is above {TRUE_THRESHOLD}"), rounds=1)
    assert asking(seen, "reasons") == asking(seen, "improved_instructions") == []
    assert len(asking(seen, "varied_instruction")) == 2
    assert program.instruction == f"Bright is above {TRUE_THRESHOLD}"
    assert result(program).rounds[0].chosen is None


def test_more_reasons_and_edits_can_be_asked_for() -> None:
    """gradients_per_error reasons come of a call, steps_per_gradient instructions of an edit; a surplus is left out."""
    _, seen = compiled(rounds=1, n_gradients=1, gradients_per_error=2, steps_per_gradient=2, mc_samples=0)
    assert [one.field("number_of_reasons") for one in asking(seen, "reasons")] == ["2"]
    assert [one.field("number_of_instructions") for one in asking(seen, "improved_instructions")] == ["2", "2"]
    assert asking(seen, "varied_instruction") == []


def test_failed_and_unusable_answers_are_recorded() -> None:
    """A gradient call that fails, an edit with an output format and an unreadable paraphrase are no candidates."""

    def failing(seen: Seen) -> Any:
        if seen.fields == ["reasons"] and seen.field("sample").startswith("1"):
            return dspy.lm15.InvalidRequestError("against our policy")
        if seen.fields == ["improved_instructions"]:
            return {"improved_instructions": '["Bright is above 90. Answer in JSON."]'}
        if seen.fields == ["varied_instruction"]:
            return "Sure!" if seen.field("sample").startswith("1") else {"varied_instruction": "Bright is above 10"}
        return climbing(seen)

    program, seen = compiled(failing, rounds=1)
    assert len(asking(seen, "improved_instructions")) == 3
    reasons = [r.reason for r in result(program).rejections]
    assert len(reasons) == 1 + 3 + 1
    for words, times in (("against our policy", 1), ("output format", 3), ("no readable field", 1)):
        assert sum(words in reason for reason in reasons) == times
    assert program.instruction == "Bright is above 20"


@pytest.mark.slow
def test_results_do_not_depend_on_threads_and_the_seed_draws_the_minibatch() -> None:
    """One thread and eight give the same records; another seed draws other examples."""
    one, eight, other = (
        result(compiled(minibatch_size=7, num_threads=n, seed=s)[0]) for n, s in ((1, 0), (8, 0), (8, 1))
    )
    assert one.rounds == eight.rounds
    assert one.returned == eight.returned
    assert one.rounds[0].batch != other.rounds[0].batch


def test_a_spent_budget_returns_the_best_candidate_tried_so_far() -> None:
    """A cap in the middle of a selection ends it with the estimates so far; one before it leaves the last beam."""
    expansion = len(TRAIN) + 4 + 4 + 10
    for threads in (1, 8):
        program, seen = compiled(budget=Budget(max_calls=expansion + 3 * 6 + 2), num_threads=threads)
        assert len(seen) == expansion + 3 * 6
        (completed,) = result(program).rounds
        tried = [trial for trial in completed.trials if trial.score is not None]
        assert 0 < len(tried) < 4 + 1
        assert program.instruction == tried[0].judge
        assert "budget" in result(program).stop_reason
    program, seen = compiled(budget=Budget(max_calls=expansion))
    assert (program.instruction, len(seen)) == ("Bright is above 20", expansion)


@pytest.mark.slow
def test_the_best_validated_program_is_returned_within_the_budget_if_asked_for() -> None:
    """select="best" keeps enough of a budget to validate start and end, and is never worse than the start there."""
    program, seen = compiled(select="best", budget=Budget(max_calls=160))
    found = result(program)
    assert len(seen) <= 160
    assert found.before is not None
    assert found.after.score >= found.before.score
    assert len(found.validations) >= 2


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
    own = FindReasons.with_instructions("What is wrong?")
    _, seen = compiled(find_reasons=own, rounds=1)
    assert {one.instruction for one in asking(seen, "reasons")} == {"What is wrong?"}


def test_an_example_without_an_image_is_refused_before_any_call() -> None:
    """All of them, with the inputs that there are."""

    class Reading(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.verbalizer = dspy.Predict("text -> description")
            self.judge = dspy.Predict(dspy.Signature("text -> label", "Bright is above 20"))

        def forward(self, text: str) -> dspy.Prediction:
            return self.judge(text=text)

    lm = scripted_lm(lambda seen: {"label": "bright"})
    trainset = [
        dspy.Example(text=str(n), label=label).with_inputs("text") for n, label in enumerate(["dark", "bright"])
    ]
    with pytest.raises(DataError, match=r"trainset\[0\]: none of its inputs is a dspy\.Image"):
        APO(prompt_model=lm, task_model=lm).compile(Reading(), trainset=trainset)
    assert lm.engine.seen == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"beam_size": 0}, "beam_size=0"),
        ({"n_gradients": -1}, "n_gradients=-1"),
        ({"exploration": -0.5}, "exploration=-0.5"),
        ({"errors_as": "sounds"}, "errors_as='sounds'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """An impossible option is named with its value when the optimizer is made."""
    with pytest.raises(BlpoError, match=message):
        APO(prompt_model=scripted_lm(mind), **options)


def test_the_defaults_are_the_published_ones() -> None:
    """The options that the reference implementation starts with, on record as JSON-ready data."""
    published = {
        "rounds": 6,
        "beam_size": 4,
        "minibatch_size": 64,
        "n_gradients": 4,
        "errors_per_gradient": 4,
        "gradients_per_error": 1,
        "steps_per_gradient": 1,
        "mc_samples": 2,
        "max_expansion": 8,
        "reject_on_errors": False,
        "eval_rounds": 8,
        "eval_prompts_per_round": 8,
        "samples_per_eval": 32,
        "exploration": 1.0,
        "select": "last",
    }
    options = json.loads(json.dumps(APO(prompt_model=scripted_lm(mind)).options))
    assert published.items() <= options.items()
