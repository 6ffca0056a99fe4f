import itertools
import json
import re
import threading
import warnings
from dataclasses import replace
from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm
from worlds import LABELS, TRAIN, brightness, mind, student, threshold, world
from worlds import VALIDATION as WHOLE

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, DataError, ModelError
from blpo_dspy.optimizers import BLPO, BLPOResult, Guards, Round
from blpo_dspy.optimizers.bench.records import Instructions, Validation
from blpo_dspy.optimizers.bench.setup import label_space
from blpo_dspy.optimizers.estimate import estimate
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget

pytestmark = pytest.mark.slow

VALIDATION = WHOLE[::2]


def compiled(lm: dspy.LM, program: dspy.Module | None = None, **options: Any) -> dspy.Module:
    """Compiles a judge of the scripted world, small unless told otherwise."""
    options = {"num_threads": 4, "rounds": 3, "inner_steps": 2, **options}
    optimizer = BLPO(prompt_model=lm, task_model=lm, **options)
    return optimizer.compile(program or student(), trainset=TRAIN, valset=VALIDATION)


def vain(seen: Seen) -> Any:
    """As `mind`, but no update changes a label."""
    return {"improved_instruction": "Bright is above 19"} if seen.fields == ["improved_instruction"] else mind(seen)


def result(program: dspy.Module) -> BLPOResult:
    """Returns what a compiled program tells of its run."""
    return program.detailed_results


def by_field(lm: dspy.LM, field: str) -> list[Seen]:
    """Returns the requests that asked for a field."""
    return [seen for seen in lm.engine.seen if field in seen.fields]


def test_the_compiled_judge_is_better_than_the_start() -> None:
    """The returned program scores higher on the validation set than the start, and is the best candidate."""
    program = compiled(world(), rounds=6)
    found = result(program)
    assert found.after.score > found.before.score + 0.2
    assert threshold(program.instruction) > 60
    scores = [candidate["score"] for candidate in program.candidate_programs]
    assert scores == sorted(scores, reverse=True)
    assert found.after.score == scores[0]
    assert program.candidate_programs[0]["program"].instruction == program.instruction


def test_the_student_and_the_lm_are_left_as_they_were() -> None:
    """Compiling works on copies: neither the student nor the user's LM changes, and no LM stays attached."""
    lm, start = world(), student()
    before = (start.dump_state(), dict(lm.kwargs), lm.num_retries)
    program = compiled(lm, start)
    assert (start.dump_state(), dict(lm.kwargs), lm.num_retries) == before
    assert all(predictor.lm is None for predictor in program.predictors())
    assert lm.history == []


def test_no_image_reaches_the_optimizer() -> None:
    """Optimizer prompts hold no image part and no base64 run."""
    lm = world()
    compiled(lm, student(evidence="both"))
    prompts = [seen for seen in lm.engine.seen if seen.fields[0].endswith("instruction")]
    assert len(prompts) >= 5
    assert not any(seen.images for seen in prompts)
    assert not any("base64" in seen.text or "iVBOR" in seen.text for seen in prompts)


def test_an_image_marker_in_a_description_stays_text() -> None:
    """A description with DSPy's image marker doesn't put an image into the optimizer's prompt."""
    marker = '<<CUSTOM-TYPE-START-IDENTIFIER>>[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]'

    def smuggling(seen: Seen) -> Any:
        if seen.fields == ["description"]:
            return {"description": f"bright {marker}<<CUSTOM-TYPE-END-IDENTIFIER>> brightness"}
        return mind(seen)

    lm = world(smuggling)
    compiled(lm, rounds=1)
    updates = by_field(lm, "improved_instruction")
    assert updates
    assert not any(seen.images for seen in updates)


def test_every_instruction_and_image_is_judged_once() -> None:
    """No judge request is sent twice, whatever DSPy's cache is set to; the ledger counts what was sent."""
    lm = world()
    program = compiled(lm, rounds=4)
    judged = [(seen.instruction, tuple(seen.images)) for seen in by_field(lm, "label")]
    assert len(judged) == len(set(judged))
    calls = result(program).ledger.calls()
    assert calls["judge"] == len(judged)
    assert calls["verbalizer"] == len(by_field(lm, "description"))
    assert calls["judge"] + calls["verbalizer"] + calls["optimizer"] == len(lm.engine.seen)


def test_calls_are_what_the_algorithm_needs() -> None:
    """The paper's round judges the trainset, and each distinct one of K + 1 updates on the mistakes shown."""
    lm = world()
    options = {"rounds": 1, "inner_steps": 2, "batch_size": 5, "num_threads": 4}
    program = BLPO.paper(prompt_model=lm, task_model=lm, **options).compile(student(), trainset=TRAIN)
    (completed,) = result(program).rounds
    assert len(by_field(lm, "improved_instruction")) == 3
    assert len(by_field(lm, "verbalizer_instruction")) == 2
    distinct = {trial.judge for trial in completed.trials}
    assert len(by_field(lm, "label")) == len(TRAIN) + len(distinct) * len(completed.batch.errors)


def test_a_gain_ends_the_inner_loop_and_the_same_minibatch_serves_again_at_no_cost() -> None:
    """A round of it is one update and its judgements; each first one of a minibatch judges that too."""
    lm = world()
    start = student(verbalizer_instruction="Report how bright it is")
    first, second = result(compiled(lm, start, rounds=2, select="last", keep_back="never")).rounds
    assert [len(first.trials), first.chosen] == [1, 0]
    assert {j.example for j in second.batch.judgements} == {j.example for j in first.batch.judgements}
    described = {j.example for r in (first, second) for j in (*r.batch.errors, *r.batch.shown_right)}
    assert len(by_field(lm, "label")) == 3 * 20
    assert len(by_field(lm, "description")) == len(described)


def test_an_update_that_corrects_none_of_the_mistakes_is_not_judged_on_the_rest() -> None:
    """Right examples can only lose, so that it can't be taken; the mistakes kept back are judged first."""

    def useless(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"]:
            return {"improved_instruction": "Bright is above 19"}
        return mind(seen)

    lm = world(useless)
    (completed,) = result(compiled(lm, rounds=1, inner_steps=0, keep_back="always", select="last")).rounds
    (trial,) = completed.trials
    assert (trial.score, trial.kept_back_gain, trial.shown_gain, trial.mistakes) == (0.0, 0.0, None, None)
    tried = [seen for seen in by_field(lm, "label") if "above 19" in seen.instruction]
    assert len(tried) == len(completed.batch.kept_back)


def test_what_was_kept_back_stands_for_all_mistakes_in_the_score() -> None:
    """The gain is weighted by how many mistakes and right examples the minibatch has, as if all had been scored."""
    (completed,) = result(compiled(world(), rounds=1, keep_back="always")).rounds
    batch, trial = completed.batch, completed.trials[completed.chosen]
    assert batch.held_out
    assert len(batch.kept_back) == batch.mistakes // 2
    share = batch.mistakes / len(batch.judgements)
    assert trial.score == pytest.approx(trial.kept_back_gain * share)  # a higher threshold breaks no dark one
    assert trial.mistakes == batch.mistakes - round(
        trial.shown_gain * len(batch.errors) + trial.kept_back_gain * len(batch.kept_back)
    )


def test_right_examples_are_shown_as_such() -> None:
    """With their label and what the verbalizer reports about them; half as many where that has to be bought."""
    shown = {}
    for evidence in ("both", "image"):
        lm = world()
        (completed,) = result(compiled(lm, student(evidence=evidence), rounds=1, inner_steps=0)).rounds
        (update,) = by_field(lm, "improved_instruction")
        shown[evidence] = update.field("right").count('"label": ')
        assert shown[evidence] == len(completed.batch.shown_right)
        assert "human_label" not in update.field("right")
    assert shown == {"both": 4, "image": 2}


def test_an_instruction_that_is_too_long_is_asked_for_once_more() -> None:
    """The prompt says how long it may be; the start's words don't count."""

    def verbose(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"] and seen.field("feedback") == "none":
            return {"improved_instruction": "Bright is above 40, as " + "everybody " * 10 + "sees"}
        return mind(seen)

    lm = world(verbose)
    (completed,) = result(compiled(lm, rounds=1, inner_steps=0, instruction_words=10)).rounds
    assert [r.kind for r in completed.trials[0].rejections] == ["the instruction has more than 14 words"]
    assert completed.trials[0].judge == "Bright is above 21"
    assert "at most 14 words" in by_field(lm, "improved_instruction")[0].text


def test_the_first_verbalizer_instruction_names_the_task_unless_the_student_has_its_own() -> None:
    """It is made without a call; the start that is validated stays the student's own."""
    found = result(compiled(world(), rounds=1))
    assert "“Bright is above 20”" in found.rounds[0].trials[0].verbalizer
    assert found.before.instructions == found.start
    assert found.start == Instructions("Bright is above 20", "Describe this image in detail.")
    for options in ({"verbalizer_search": "fixed"}, {"inner_loop": "all_steps"}):
        kept = result(compiled(world(), rounds=1, **options))
        assert kept.rounds[0].trials[0].verbalizer == "Describe this image in detail."
    own = result(compiled(world(), student(verbalizer_instruction="Look"), rounds=1))
    assert own.rounds[0].trials[0].verbalizer == "Look"


def test_without_a_budget_the_search_ends_after_the_largest_minibatches_led_to_nothing() -> None:
    """Fruitless ones get larger, up to all images; three of these end it."""
    program = compiled(world(vain), inner_steps=0, rounds=30)
    found = result(program)
    assert [len(r.batch.judgements) for r in found.rounds] == [20, 30, 42, 42, 42]
    assert "largest size" in found.stop_reason


def test_results_do_not_depend_on_threads() -> None:
    """One thread and sixteen give the same records and the same instructions."""
    runs = [result(compiled(world(), num_threads=n)) for n in (1, 16)]
    assert runs[0].rounds == runs[1].rounds
    assert runs[0].validations == runs[1].validations
    assert runs[0].returned == runs[1].returned


def test_the_seed_decides_the_batches() -> None:
    """Equal seeds draw equal batches, another seed others."""
    first, second, other = (result(compiled(world(), seed=seed)) for seed in (0, 0, 1))
    assert first.rounds == second.rounds
    assert first.rounds[0].batch != other.rounds[0].batch


def test_validation_examples_reach_no_prompt_but_the_judges() -> None:
    """Validation images are judged, never described for the optimizer, and their labels are in no prompt."""
    lm = world()
    compiled(lm)
    validation = {example.image.url.partition(",")[2] for example in VALIDATION}
    described = {image for seen in by_field(lm, "description") for image in seen.images}
    assert described
    assert not described & validation


def test_a_worse_search_returns_the_start() -> None:
    """Where every update makes the judge worse the start is returned, and it says so."""

    def harmful(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"]:
            return {"improved_instruction": f"Bright is above {5 - len(seen.field('current_instruction')) % 3}"}
        return mind(seen)

    program = compiled(world(harmful), student(instruction="Bright is above 128 or 127"), inner_loop="all_steps")
    assert program.instruction == "Bright is above 128 or 127"


def test_a_judge_without_mistakes_is_returned_at_once() -> None:
    """No errors on the trainset: no round is made, and the reason is stated."""
    lm = world()
    program = compiled(lm, student(instruction="Bright is above 128"))
    assert result(program).rounds == ()
    assert "no mistakes" in result(program).stop_reason
    assert not by_field(lm, "improved_instruction")


def test_a_judge_with_a_single_mistake_is_returned_at_once() -> None:
    """A rule for it would be one for one example; the letter of the paper shows it."""
    start = student(instruction="Bright is above 120")
    lm = world()
    found = result(compiled(lm, start))
    assert (found.rounds, found.returned.judge) == ((), start.instruction)
    assert found.stop_reason.endswith(f"too few mistakes on the trainset to learn from (1 in {len(TRAIN)} examples)")
    assert not by_field(lm, "improved_instruction")
    made = BLPO.paper(prompt_model=lm, task_model=lm, rounds=1, inner_steps=0, num_threads=4)
    assert result(made.compile(start, trainset=TRAIN)).rounds


def test_errors_are_sent_with_their_direction() -> None:
    """Ordinal errors tell the optimizer how far and which way the judge missed."""
    seen_errors: list[str] = []

    def grading(seen: Seen) -> Any:
        if "label" in seen.fields:
            return {"label": "4"}
        if seen.fields == ["improved_instruction"]:
            seen_errors.append(seen.field("errors"))
            return {"improved_instruction": "Rate strictly"}
        return {seen.fields[0]: "Report the blur"}

    scale = LabelSpace.ordinal(1, 5)
    trainset = [example.copy(label=label) for example, label in zip(TRAIN, [2, 4, 5] * 14, strict=True)]
    lm = scripted_lm(grading)
    judge = VisualJudge(scale, instruction="Rate it", evidence="image")
    BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=0).compile(judge, trainset=trainset)
    assert "judge 2 too high" in seen_errors[0]
    assert "judge 1 too low" in seen_errors[0]


@pytest.mark.parametrize("evidence", ["both", "description"])
def test_a_judge_that_reads_descriptions_is_scored_through_its_own_verbalizer(evidence: str) -> None:
    """With evidence from descriptions every judge prompt holds the text of the verbalizer instruction on trial."""

    def reading(seen: Seen) -> Any:
        if seen.fields == ["description"]:
            return {"description": f"{seen.instruction} -> brightness 200"}
        if "label" in seen.fields:
            return {"label": "bright" if "attempt" in seen.field("description") else "dark"}
        return mind(seen)

    lm = world(reading)
    program = compiled(lm, student(evidence=evidence, verbalizer_instruction="Look"), rounds=1)
    start, *proposals = result(program).rounds[0].trials
    assert (start.score, start.kept_back_gain) == (0.0, 0.0)
    assert proposals[0].kept_back_gain == 1.0


def test_a_description_that_helps_the_judge_is_an_improvement_by_itself() -> None:
    """Where the judge reads descriptions, an unchanged p with another q is scored, and taken if it is better."""

    def helped(seen: Seen) -> Any:
        if "label" in seen.fields and "bright" in seen.field("description"):
            return {"label": "bright" if brightness(seen) > 128 else "dark"}
        unchanged = {"improved_instruction": "Bright is above 20"}
        return unchanged if seen.fields == ["improved_instruction"] else mind(seen)

    (completed,) = result(compiled(world(helped), student(evidence="both"), rounds=1)).rounds
    assert [trial.judge for trial in completed.trials] == ["Bright is above 20"] * 2
    assert (completed.trials[0].score, completed.chosen) == (0.0, 1)
    assert completed.trials[1].score > 0
    assert completed.end.verbalizer == completed.trials[1].verbalizer


def test_the_history_of_the_inner_loop_is_sent_with_scores() -> None:
    """Update_q reads every earlier verbalizer instruction of the round with its score (eq. 10)."""
    lm = world()
    BLPO.paper(prompt_model=lm, task_model=lm, rounds=1, inner_steps=3).compile(student(), trainset=TRAIN)
    histories = [seen.field("history") for seen in by_field(lm, "verbalizer_instruction")]
    assert [history.count('"score"') for history in histories] == [1, 2, 3]
    assert "Describe this image in detail." in histories[0]


def test_what_was_tried_in_vain_on_earlier_minibatches_is_in_the_history_too() -> None:
    """As long as p stays, so that no verbalizer instruction is proposed for it twice."""
    lm = world(vain)
    compiled(lm, rounds=3, inner_steps=1)
    histories = [seen.field("history") for seen in by_field(lm, "verbalizer_instruction")]
    assert [history.count('"score"') for history in histories] == [1, 3, 5]


def test_a_round_begins_with_the_best_verbalizer_instruction_where_the_judge_reads_descriptions() -> None:
    """Else with q_0, as in the paper's letter."""
    reading = result(compiled(world(), student(evidence="both"), inner_loop="first_gain")).rounds
    assert all(after.trials[0].verbalizer == before.end.verbalizer for before, after in itertools.pairwise(reading))
    looking = result(compiled(world())).rounds
    assert len({r.trials[0].verbalizer for r in looking}) == 1
    assert any(r.end.verbalizer != r.trials[0].verbalizer for r in looking)
    letter = result(compiled(world(), student(evidence="both"), inner_loop="all_steps")).rounds
    assert {r.trials[0].verbalizer for r in letter} == {"Describe this image in detail."}


def test_of_equal_scores_the_shorter_instruction_wins_and_then_the_earliest() -> None:
    """Ties are settled by what they say, so that a run can be repeated."""

    def wordy(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"]:
            end = "" if "attempt 2" in seen.field("errors") else " or so"
            return {"improved_instruction": f"Bright is above 90{end}"}
        return mind(seen)

    lm = world(wordy)
    optimizer = BLPO.paper(prompt_model=lm, task_model=lm, rounds=1, inner_steps=3)
    (completed,) = result(optimizer.compile(student(), trainset=TRAIN)).rounds
    assert len({trial.score for trial in completed.trials}) == 1
    assert completed.trials[completed.chosen].judge == "Bright is above 90"


def test_the_papers_letter_judges_the_whole_trainset_and_returns_the_last() -> None:
    """BLPO.paper: T = K = 5, errors only, q_0 every round, no validation; options can still be given."""
    lm = world()
    optimizer = BLPO.paper(prompt_model=lm, task_model=lm, num_threads=4)
    assert (optimizer.rounds, optimizer.inner_steps, optimizer.batch_size, optimizer.shown_right) == (5, 5, 10, 0)
    program = optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION)
    found = result(program)
    assert all(r.batch.searched == len(TRAIN) and r.batch.judgements == r.batch.errors for r in found.rounds)
    assert [len(r.trials) for r in found.rounds] == [6] * 5
    assert found.validations == ()
    assert program.instruction == found.rounds[-1].end.judge
    assert BLPO.paper(prompt_model=lm, rounds=2).rounds == 2


def test_a_budget_ends_the_run_with_the_best_so_far() -> None:
    """A cap on calls is never passed; the run says why it stopped and returns a validated program."""
    lm = world()
    program = compiled(lm, rounds=8, budget=Budget(max_calls=260))
    found = result(program)
    assert len(lm.engine.seen) <= 260
    assert found.ledger.total.calls == len(lm.engine.seen)
    assert "budget" in found.stop_reason
    assert found.capped
    assert 0 < len(found.rounds) < 8
    assert found.after.score >= found.before.score


@pytest.mark.parametrize("cap", [137, 260])
def test_a_capped_run_doesnt_depend_on_the_number_of_threads(cap: int) -> None:
    """A step that the cap wouldn't see to its end isn't begun, so that it is not up to timing which calls were made."""
    lms = {threads: world() for threads in (1, 8)}
    programs = [compiled(lm, rounds=8, budget=Budget(max_calls=cap), num_threads=n) for n, lm in lms.items()]
    one, other = (result(program) for program in programs)
    assert (one.rounds, one.returned, one.stop_reason) == (other.rounds, other.returned, other.stop_reason)
    assert one.ledger.calls() == other.ledger.calls()


@pytest.mark.parametrize("threads", [1, 8])
def test_a_validation_stands_at_what_led_to_it(threads: int) -> None:
    """The start at its own calls, each later one at those of the rounds before it and its own."""
    found = result(compiled(world(), rounds=3, num_threads=threads))
    ends = {completed.number + 1: completed.spent for completed in found.rounds}
    start, *later = found.validations
    assert start.spent == len(VALIDATION) < ends[1]
    assert [v.spent - ends[v.after_round] for v in later] == [
        len(VALIDATION) * (v.instructions != earlier.instructions)
        for earlier, v in zip(found.validations, later, strict=False)
    ]
    assert later[-1].spent == found.ledger.total.calls
    assert not found.capped


def test_the_start_each_pass_and_the_end_are_validated() -> None:
    """On all validation examples where no cap is given; under one the start and the end alone, on a part of them."""
    found = result(compiled(world(), rounds=6))
    ends = [completed.number + 1 for completed in found.rounds if completed.ends_pass]
    assert [v.after_round for v in found.validations] == sorted({0, *ends, 6}) == [0, 4, 6]
    capped = result(compiled(world(), rounds=6, budget=Budget(max_calls=400)))
    assert [v.after_round for v in capped.validations] == [0, len(capped.rounds)]
    assert {v.examples for v in found.validations} == {len(VALIDATION)}


def test_an_update_that_breaks_more_than_it_corrects_is_not_judged_to_the_end() -> None:
    """Right examples are judged twenty at a time until they have lost what the mistakes gained."""

    def harmful(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"]:
            return {"improved_instruction": "Bright is above 255"}
        return mind(seen)

    lm = world(harmful)
    start = student(instruction="Bright is above 100")
    options = {"rounds": 1, "inner_steps": 0, "minibatch_size": 42, "keep_back": "never", "select": "last"}
    (completed,) = result(compiled(lm, start, **options)).rounds
    (trial,) = completed.trials
    assert 0 < len(completed.batch.errors) < 10
    assert (trial.shown_gain, trial.mistakes, completed.chosen) == (1.0, None, None)
    assert trial.score <= 0
    tried = [seen for seen in by_field(lm, "label") if "above 255" in seen.instruction]
    assert len(completed.batch.errors) < len(tried) < len(completed.batch.judgements)
    assert len(tried) == len(completed.batch.errors) + 20


def test_under_a_cap_a_tenth_of_it_validates_the_start_and_the_end() -> None:
    """On as many examples of each label; the record says on how many."""
    found = result(compiled(world(), rounds=8, budget=Budget(max_calls=240)))
    assert [v.after_round for v in found.validations] == [0, len(found.rounds)]
    assert {v.examples for v in found.validations} == {12}
    assert {part: n for part, (n, _) in found.before.parts.items()} == {"label bright": 6, "label dark": 6}


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_a_cap_that_pays_for_everything_changes_nothing(rounds: int) -> None:
    """Inner steps give way to rounds only where the most that the run may call is beyond the cap."""
    options: dict[str, Any] = {"rounds": rounds, "inner_steps": 3, "num_threads": 4}
    most = estimate(BLPO.paper(prompt_model=world(), task_model=world(), **options), student(), trainset=TRAIN)
    found = []
    for budget in (None, Budget(max_calls=int(most.totals()["calls"]["most"]))):
        lm = world()
        optimizer = BLPO.paper(prompt_model=lm, task_model=lm, budget=budget, **options)
        found.append(result(optimizer.compile(student(), trainset=TRAIN)).rounds)
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore:.*hardly pays")
def test_a_budget_too_small_for_a_round_returns_the_start() -> None:
    """With a warning beforehand; no more is spent than allowed."""
    lm = world()
    with pytest.warns(UserWarning, match="max_calls=15 hardly pays for a round"):
        found = result(compiled(lm, budget=Budget(max_calls=15)))
    assert (found.rounds, found.returned) == ((), found.start)
    assert found.before is not None
    assert found.before.examples == 1
    assert len(lm.engine.seen) <= 15


def updates_from_brightness(otherwise: str) -> Any:
    """As `mind`, with an optimizer LM that revises by brightness alone and answers all else with a text."""

    def script(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"] and "brightness" not in seen.field("errors"):
            return {"improved_instruction": otherwise or seen.field("current_instruction")}
        return mind(seen)

    return script


def test_unusable_proposals_are_recorded_and_asked_for_once_more() -> None:
    """A rejected proposal leads to one more call that names the reason; a second one ends the trial without update."""
    lm = world(updates_from_brightness("Answer with one word."))
    first, second = result(compiled(lm, rounds=1, inner_steps=1)).rounds[0].trials
    reason = "the instruction states an output format ('Answer with one word'), which the program owns"
    assert [r.reason for r in first.rejections] == [reason] * 2
    asked, again, _ = by_field(lm, "improved_instruction")
    assert asked.field("feedback") == "none"
    assert reason in again.field("feedback")
    assert (first.judge, first.score, second.judge) == (None, None, "Bright is above 40")
    (history,) = (seen.field("history") for seen in by_field(lm, "verbalizer_instruction"))
    assert '"failure": "it led to no usable revision: the instruction states an output format"' in history
    assert "score" not in history


@pytest.mark.parametrize("preset", [BLPO, BLPO.paper])
def test_an_update_that_changes_nothing_scores_zero_at_no_price(preset: type[BLPO]) -> None:
    """It is asked for once more, then its judge is known: it stands in H_k and changes no round."""
    lm = world(updates_from_brightness(""))
    optimizer = preset(prompt_model=lm, task_model=lm, rounds=1, inner_steps=1, num_threads=4)
    (completed,) = result(optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION)).rounds
    first = completed.trials[0]
    assert (first.judge, first.score) == ("Bright is above 20", 0.0)
    assert [r.reason for r in first.rejections] == ["the instruction is unchanged"] * 2
    assert completed.chosen == 1
    (history,) = (seen.field("history") for seen in by_field(lm, "verbalizer_instruction"))
    assert history == json.dumps([{"instruction": first.verbalizer, "score": 0.0}], ensure_ascii=False)


@pytest.mark.parametrize("preset", [BLPO, BLPO.paper])
def test_a_round_of_unchanged_updates_changes_nothing(preset: type[BLPO]) -> None:
    """An optimizer LM that finds no reason for a change is no error; the start is returned."""

    def content(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"]:
            return {"improved_instruction": seen.field("current_instruction")}
        return mind(seen)

    lm = world(content)
    optimizer = preset(prompt_model=lm, task_model=lm, rounds=2, inner_steps=3, num_threads=4)
    found = result(optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION))
    assert [trial.score for completed in found.rounds for trial in completed.trials] == [0.0] * 8
    assert {(completed.chosen, completed.end.judge) for completed in found.rounds} == {(None, found.start.judge)}
    assert found.returned == found.start


def test_the_papers_letter_prefers_no_change_to_a_harmful_one() -> None:
    """With a score of 0 the unchanged judge is the argmax where all other updates raised the loss."""

    def harmful(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"]:
            harsh = "brightness" in seen.field("errors")
            return {"improved_instruction": "Rate harshly" if harsh else seen.field("current_instruction")}
        if "label" in seen.fields:
            return {"label": "1" if seen.instruction == "Rate harshly" else "2"}
        return mind(seen)

    lm = world(harmful)
    rated = [example.copy(label=3 - number % 2) for number, example in enumerate(TRAIN)]
    judge = VisualJudge(LabelSpace.ordinal(1, 3), instruction="Rate it", evidence="image")
    optimizer = BLPO.paper(prompt_model=lm, task_model=lm, rounds=1, inner_steps=2, num_threads=4)
    (completed,) = result(optimizer.compile(judge, trainset=rated)).rounds
    assert [trial.score for trial in completed.trials] == [0.0, -0.5, -0.5]
    assert completed.chosen is None


@pytest.mark.parametrize("preset", [BLPO, BLPO.paper])
def test_no_two_requests_for_a_verbalizer_instruction_are_equal(preset: type[BLPO]) -> None:
    """However useless the descriptions: each q and what came of it is in H_k, so K steps try K + 1 of them."""

    def useless(seen: Seen) -> Any:
        if seen.fields == ["description"]:
            return {"description": seen.instruction}
        if seen.fields == ["improved_instruction"]:
            number = len(re.findall(r"aspect (\d)", seen.field("errors").partition("human_label")[0]))
            return {"improved_instruction": "Output:" if number else seen.field("current_instruction")}
        if seen.fields == ["verbalizer_instruction"]:
            return {"verbalizer_instruction": f"Report aspect {seen.field('history').count('instruction')}"}
        return mind(seen)

    lm = world(useless)
    optimizer = preset(prompt_model=lm, task_model=lm, rounds=1, inner_steps=4, num_threads=4)
    (completed,) = result(optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION)).rounds
    requests = by_field(lm, "verbalizer_instruction")
    assert len({seen.user for seen in requests}) == len(requests) == 4
    assert len({trial.verbalizer for trial in completed.trials}) == len(completed.trials) == 5


def test_a_verbalizer_instruction_that_was_tried_is_refused_by_name() -> None:
    """An optimizer LM that repeats one of H_k is told so, in each step in other words than before."""

    def repeating(seen: Seen) -> Any:
        first = {"verbalizer_instruction": "Describe this image  in detail."}
        return first if seen.fields == ["verbalizer_instruction"] else mind(seen)

    lm = world(repeating)
    optimizer = BLPO.paper(prompt_model=lm, task_model=lm, rounds=1, inner_steps=3)
    (completed,) = result(optimizer.compile(student(), trainset=TRAIN)).rounds
    assert [trial.verbalizer for trial in completed.trials[1:]] == [None] * 3
    reasons = {r.reason for trial in completed.trials[1:] for r in trial.rejections}
    assert reasons == {"the instruction was tried already ('Describe this image in detail.')"}
    requests = by_field(lm, "verbalizer_instruction")
    assert len({seen.user for seen in requests}) == len(requests) == 6
    assert "'Describe this image in detail.'" in requests[1].field("feedback")


@pytest.mark.parametrize("rounds", [1, 5])
def test_an_optimizer_that_writes_nothing_usable_ends_the_run_with_a_statement(rounds: int) -> None:
    """After two rounds, or all if there are fewer: how many answers there were, the last reason, what it wrote."""

    def garbage(seen: Seen) -> Any:
        return "lorem ipsum" if seen.fields[0].endswith("instruction") else mind(seen)

    lm, heard = world(garbage), []
    with pytest.raises(ModelError, match=r"no usable instruction in \d+ answers.*no readable field.*'lorem ipsum'"):
        compiled(lm, rounds=rounds, on_round=heard.append)
    assert len(heard) == min(rounds, 2)


def test_a_judge_that_never_answers_with_a_label_ends_the_run_with_a_statement() -> None:
    """Garbage from the judge is not scored as wrong answers: the run ends, saying what the model wrote."""

    def garbage(seen: Seen) -> Any:
        return "lorem ipsum"

    with pytest.raises(ModelError, match=r"stated no label in any of its first .* 'lorem ipsum'"):
        compiled(world(garbage))


def test_some_invalid_answers_are_counted() -> None:
    """Invalid answers cost the full loss and are counted where results are shown."""

    def moody(seen: Seen) -> Any:
        if "label" in seen.fields and brightness(seen) % 5 == 0:
            return {"label": "cannot say"}
        return mind(seen)

    found = result(compiled(world(moody)))
    assert found.before.agreement.invalid > 0
    assert any(judgement.predicted is None for r in found.rounds for judgement in r.batch.errors)


def test_a_failing_lm_is_not_a_wrong_answer() -> None:
    """Examples that the provider refuses are left out of every score, counted as failed, and not sent again."""

    def flaky(seen: Seen) -> Any:
        if "label" in seen.fields and brightness(seen) % 21 == 0:
            return dspy.lm15.InvalidRequestError("against our policy")
        return mind(seen)

    lm = world(flaky)
    found = result(compiled(lm))
    assert found.before.agreement.failed > 0
    assert found.before.agreement.n + found.before.agreement.failed == len(VALIDATION)
    assert not any(judgement.failure for r in found.rounds for judgement in r.batch.judgements)


@pytest.mark.parametrize(
    "error",
    [
        dspy.lm15.AuthError("bad key"),
        dspy.lm15.BillingError("no credit"),
        ZeroDivisionError("engine bug"),
    ],
)
def test_errors_that_nothing_mends_end_the_run_at_once(error: Exception) -> None:
    """Authentication, billing and engine errors raise a ModelError that holds the provider's words."""
    lm = world(lambda seen: error)
    with pytest.raises(ModelError, match=str(error).partition("\n")[0]):
        compiled(lm, num_threads=2)
    assert len(lm.engine.seen) <= 2


def test_an_unreachable_model_ends_the_run_with_the_reason() -> None:
    """If most calls of a step fail the step is void, and after a second attempt the run ends."""
    lm = world(lambda seen: dspy.lm15.TransportError("connection refused"), num_retries=0)
    with pytest.raises(ModelError, match="connection refused"):
        compiled(lm)


def test_errors_that_overflow_the_context_are_halved() -> None:
    """A context-window error of the optimizer LM shrinks the batch it is shown, and that is recorded."""

    def narrow(seen: Seen) -> Any:
        if seen.fields == ["improved_instruction"] and seen.field("errors").count("human_label") > 3:
            return dspy.lm15.ContextLengthError("too long")
        return mind(seen)

    program = compiled(world(narrow), rounds=1, inner_steps=0, keep_back="never")
    (trial,) = result(program).rounds[0].trials
    assert trial.judge is not None
    assert [r.reason for r in trial.rejections] == [
        "10 errors exceed the optimizer's context window",
        "5 errors exceed the optimizer's context window",
    ]


def test_a_history_that_overflows_the_context_costs_only_the_proposal() -> None:
    """A verbalizer instruction that the optimizer LM can't be asked for is none; the round goes on."""

    def narrow(seen: Seen) -> Any:
        return dspy.lm15.ContextLengthError("too long") if seen.fields == ["verbalizer_instruction"] else mind(seen)

    program = compiled(world(narrow), rounds=1, inner_steps=1)
    first, second = result(program).rounds[0].trials
    assert (first.judge is None, second.verbalizer) == (False, None)
    assert "too long" in second.rejections[-1].reason


def test_a_custom_metric_decides_what_is_right() -> None:
    """A metric replaces the label loss; a score outside [0, 1] is refused."""
    lm = world()
    program = compiled(lm, metric=lambda example, prediction: 1.0)
    assert "no mistakes" in result(program).stop_reason
    with pytest.raises(BlpoError, match=r"score in \[0, 1\]"):
        compiled(lm, metric=lambda example, prediction: 7)


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("accuracy", "metric='accuracy' is not callable"),
        (lambda example: 1.0, r"the metric takes \(example\), not an example and a prediction"),
        (lambda gold, pred, trace, name: 1.0, r"write metric\(example, prediction, trace=None\)|missing a required"),
    ],
)
def test_a_metric_that_cannot_be_called_is_refused_before_any_call(metric: Any, told: str) -> None:
    """By its signature, with what it has to take."""
    with pytest.raises(BlpoError, match=told):
        BLPO(prompt_model=world(), metric=metric)


@pytest.mark.parametrize(
    "said", [None, "good", float("nan"), pytest.param(10**5000, id="huge"), dspy.Prediction(feedback="fine")]
)
def test_what_a_metric_returns_has_to_be_a_score(said: Any) -> None:
    """A value that is none is named, instead of an error of Python's."""
    with pytest.raises(BlpoError, match=r"the metric returned .*; BLPO needs a score in \[0, 1\]"):
        compiled(world(), metric=lambda example, prediction, trace=None: said)


def test_a_metric_may_return_a_truth_value_or_a_prediction_with_a_score() -> None:
    """As DSPy's metrics do."""
    for said in (True, dspy.Prediction(score=1, feedback="right")):
        assert "no mistakes" in result(compiled(world(), metric=lambda e, p, trace=None, said=said: said)).stop_reason


def test_on_round_receives_each_round_as_it_ends() -> None:
    """The hook sees the same frozen records that the result holds, in order."""
    heard: list[Round] = []
    program = compiled(world(), on_round=heard.append)
    assert tuple(heard) == result(program).rounds


def test_on_validation_receives_each_validation_as_it_ends() -> None:
    """In the order of the rounds, once for the same instructions, before the guards."""
    heard: list[Validation] = []
    validations = result(compiled(world(), on_validation=heard.append)).validations
    assert len(heard) > 1
    measured: dict[Instructions, Validation] = {}
    for validation in validations:
        measured.setdefault(validation.instructions, replace(validation, refused=""))
    assert heard == list(measured.values())


class TwoStep(dspy.Module):
    """A user's own program with other names and a chain of thought."""

    def __init__(self) -> None:
        super().__init__()
        self.describe = dspy.Predict(
            dspy.Signature("image: dspy.Image -> description: str", "Say what you see, bright or not.")
        )
        self.decide = dspy.Predict(dspy.Signature("description -> label: str", "Bright is above 20"))

    def forward(self, image: dspy.Image) -> dspy.Prediction:
        return self.decide(description=self.describe(image=image).description)


def test_any_program_with_the_two_predictors_can_be_compiled() -> None:
    """A user's own module is optimized by the names of its predictors; its label space comes from the data."""
    lm = world()
    options = {"rounds": 4, "inner_steps": 1, "num_threads": 4, "verbalizer": "describe", "judge": "decide"}
    optimizer = BLPO(prompt_model=lm, task_model=lm, **options)
    program = optimizer.compile(TwoStep(), trainset=TRAIN, valset=VALIDATION)
    assert isinstance(program, TwoStep)
    assert threshold(program.decide.signature.instructions) > 20
    assert program.detailed_results.after.score > program.detailed_results.before.score
    with pytest.raises(BlpoError, match=r"no single predictor named 'verbalizer' \(it has \['describe', 'decide'\]\)"):
        BLPO(prompt_model=lm, task_model=lm).compile(TwoStep(), trainset=TRAIN)


class Renamed(TwoStep):
    """A program whose verbalizer calls the image by another name, and takes what the program computes."""

    def __init__(self, *, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        asked = dspy.Signature("picture: dspy.Image, focus -> description: str", "Say what you see, bright or not.")
        self.describe = dspy.Predict(asked)

    def forward(self, image: dspy.Image) -> dspy.Prediction:
        if self.skip:
            return self.decide(description="brightness 100")
        return self.decide(description=self.describe(picture=image, focus="the middle").description)


def test_a_verbalizer_may_take_other_inputs_than_the_examples_have() -> None:
    """Images are described with what the program gave the verbalizer."""
    lm = world()
    program = compiled(lm, Renamed(), verbalizer="describe", judge="decide")
    assert "Bright is above 20" not in result(program).returned.judge
    described = [seen for seen in lm.engine.seen if seen.fields == ["description"]]
    assert all(len(seen.images) == 1 and "the middle" in seen.user for seen in described)


def test_a_verbalizer_that_nothing_is_known_to_be_given_is_refused() -> None:
    """A program that doesn't call it shows not what it takes."""
    with pytest.raises(BlpoError, match=r"the verbalizer takes picture, focus, which .* \(they have image\)"):
        compiled(world(), Renamed(skip=True), verbalizer="describe", judge="decide")


class Unlabelled(TwoStep):
    """A program that gives its label another name."""

    def forward(self, image: dspy.Image) -> dspy.Prediction:
        return dspy.Prediction(verdict=super().forward(image).label, why="so")


class Bare(TwoStep):
    """A program that returns its label as it is."""

    def forward(self, image: dspy.Image) -> Any:
        return super().forward(image).label


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (Unlabelled, r"fields verdict, why, and no 'label'; .* label_field="),
        (Bare, r"write dspy\.Prediction\(label=…\)"),
    ],
)
def test_a_program_that_returns_no_label_is_told_so_at_its_first_predictions(program: Any, told: str) -> None:
    """Not the model is to blame, and hardly anything is paid for."""
    labelled, told_of = itertools.count(), threading.Event()

    def patient(seen: Seen) -> Any:
        if "label" in seen.fields and next(labelled) > 1:
            told_of.wait(30)
        return mind(seen)

    lm = world(patient)
    with pytest.raises(BlpoError, match=told):
        compiled(lm, program(), verbalizer="describe", judge="decide", num_threads=1)
    assert len(lm.engine.seen) <= 8
    told_of.set()


def test_a_compiled_judge_can_be_compiled_again() -> None:
    """Compiling starts from the student's instructions, so that a run can go on from an earlier one."""
    first = compiled(world(), rounds=2)
    again = compiled(world(), first, rounds=2)
    assert result(again).start.judge == first.instruction
    assert result(again).after.score >= result(first).after.score


def test_the_same_optimizer_can_compile_twice() -> None:
    """An optimizer keeps no state of a run."""
    lm = world()
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=2, inner_steps=1, num_threads=4)
    results = [optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION).detailed_results for _ in range(2)]
    assert results[0].rounds == results[1].rounds


def test_bad_data_is_refused_with_every_problem() -> None:
    """All unusable examples are named at once, before any LM call."""
    lm = world()
    bad = [*TRAIN, TRAIN[0].copy(label=None), TRAIN[1].copy(image=dspy.Image("data:image/png;base64,AAAA"))]
    with pytest.raises(DataError) as caught:
        BLPO(prompt_model=lm, task_model=lm).compile(student(), trainset=bad)
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match="not in the label space"):
        BLPO(prompt_model=lm, task_model=lm).compile(student(), trainset=[*TRAIN, TRAIN[0].copy(label="dim")])
    for empty in ({"trainset": []}, {"trainset": TRAIN, "valset": []}):
        with pytest.raises(DataError, match="is empty"):
            BLPO(prompt_model=lm, task_model=lm).compile(student(), **empty)
    assert lm.engine.seen == []


def test_training_examples_of_one_label_are_refused() -> None:
    """Before any LM call, with the histogram: there is nothing to learn."""
    lm, bright = world(), [example for example in TRAIN if example.label == "bright"]
    with pytest.raises(DataError, match=r"the same label \(dark: 0, bright: 20\)"):
        BLPO(prompt_model=lm, task_model=lm).compile(student(), trainset=bright, valset=VALIDATION)
    assert lm.engine.seen == []


def test_a_label_that_no_training_example_has_is_told() -> None:
    """The judge may state it, but learns nothing about it."""
    start = VisualJudge(LabelSpace("dark", "bright", "dim"), instruction="Bright is above 20", evidence="image")
    with pytest.warns(UserWarning, match=r"no training example has the label dim \(dark: 22, bright: 20, dim: 0\)"):
        compiled(world(), start, rounds=1, inner_steps=0)


def test_numbers_as_labels_of_a_program_of_ones_own_need_a_label_space() -> None:
    """A scale and mere names look alike; two numbers are no difference."""

    class Own(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            made = student()
            self.verbalizer, self.judge = made.verbalizer, made.judge

        def forward(self, image: dspy.Image) -> dspy.Prediction:
            return self.judge(image=image)

    lm = world()
    rated = [example.copy(label=number % 3 + 1) for number, example in enumerate(TRAIN)]
    with pytest.raises(BlpoError, match=r"labels=LabelSpace\.ordinal\(1, 3\)"):
        BLPO(prompt_model=lm, task_model=lm).compile(Own(), trainset=rated)
    assert label_space(None, Own(), [r.copy(label=r.label % 2) for r in rated], "label", None) == LabelSpace(0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"shown_right": -1}, "shown_right=-1"),
        ({"rounds": "3"}, "rounds='3' is not a whole number"),
        ({"inner_steps": 2.5}, "inner_steps=2.5 is not a whole number"),
        ({"keep_back": "some"}, "keep_back='some'"),
        ({"inner_loop": "some"}, "inner_loop='some'"),
        ({"minibatch_size": 0}, "minibatch_size=0"),
        ({"minibatch_growth": 0.5}, "minibatch_growth=0.5"),
        ({"minibatch_updates": 0}, "minibatch_updates=0"),
        ({"instruction_words": 0}, "instruction_words=0"),
        ({"max_failed_share": 1.0}, "max_failed_share=1.0"),
        ({"max_failed_share": "0.1"}, "max_failed_share='0.1' is not a number"),
        ({"max_instruction_tokens": 0}, "max_instruction_tokens=0"),
        ({"num_threads": -1}, "num_threads=-1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """An impossible option is named with its value when the optimizer is made."""
    with pytest.raises(BlpoError, match=message):
        BLPO(prompt_model=world(), **options)


def test_no_guards_stand_for_the_default_ones() -> None:
    """As with any option, None leaves the choice to the optimizer."""
    assert BLPO(prompt_model=world(), guards=None).guards == Guards()
    assert BLPO.paper(prompt_model=world(), guards=None).guards == Guards(copied_words=None)


def test_a_teacher_is_ignored_with_a_warning() -> None:
    """DSPy's teacher argument has no meaning here, and that is said."""
    lm = world()
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=0)
    with pytest.warns(UserWarning, match="no teacher"):
        optimizer.compile(student(), trainset=TRAIN, teacher=student())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION)


def test_labels_are_those_of_the_judge() -> None:
    """The label space of the student is used unless one is given."""
    assert result(compiled(world(), rounds=1)).before.agreement.labels == LABELS
