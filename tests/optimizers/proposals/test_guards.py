"""Guards: what is refused whatever its score."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from engines import Seen
from worlds import LABELS, TRAIN, VALIDATION, brightness, mind, student, world

from blpo_dspy.agreement.measure import measure_agreement
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers import APO, BLPO, OPRO, TextGrad
from blpo_dspy.optimizers.bench.records import Instructions, Validation
from blpo_dspy.optimizers.proposals.guards import Guards, label_shift, mean_losses, words_in

EXAMPLE = "a red car with a broken mirror stands before the old town hall"


def story(number: int) -> str:
    """Returns what is said of one example alone."""
    return f"a red car {number} with a broken mirror stands before the hall"


def quoted(text: str) -> str:
    """Returns the story of an example in a text."""
    found = re.search(r"a red car \d+ with a broken mirror stands before the hall", text)
    return found.group() if found else ""


def compiled(script: Any, **options: Any) -> Any:
    """A judge compiled in the small world."""
    lm = world(script)
    options = {"rounds": 2, "inner_steps": 1, "num_threads": 2, **options}
    optimizer = BLPO(prompt_model=lm, task_model=lm, **options)
    return optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION)


def validation(number: int, predicted: list[str], score: float = 0.5, **options: Any) -> Validation:
    """A validation of ten dark and ten bright examples."""
    truth = ["dark"] * 10 + ["bright"] * 10
    agreement = measure_agreement(LABELS, truth, predicted)
    return Validation(number, Instructions(f"p{number}", "q"), score, len(truth), agreement, **options)


def test_a_quoted_example_is_refused_and_the_rule_is_not() -> None:
    """Eight words in a row, whatever their case and punctuation."""
    guards = Guards()
    quote = "Judge by this: A red car, with a broken mirror, stands BEFORE the gate."
    assert "quotes an example ('a red car with a broken mirror stands')" in str(
        guards.copied(quote, [("other",), ("a cat", EXAMPLE)], current="Judge.")
    )
    assert guards.copied("A broken mirror makes a car unsafe.", [(EXAMPLE,)], current="Judge.") is None


def test_words_that_more_than_two_examples_have_in_common_are_no_quote() -> None:
    """Descriptions of one material share their phrases; what one of them says of its own image is a quote still."""
    texture = "the whole surface looks rough, sandy and granular"
    shown = [(f"A gray close-up; {texture}, with fleck {n} at the left.",) for n in range(4)]
    rule = f"Label it global where {texture}."
    assert Guards().copied(rule, shown, current="Judge.") is None
    assert Guards().copied(rule, shown[:3], current="Judge.") is None
    assert "'the whole surface looks rough sandy and granular'" in str(
        Guards().copied(rule, shown[:2], current="Judge.")
    )
    assert "fleck 3 at the left" in str(Guards().copied(f"{rule} {shown[3][0]}", shown, current="Judge."))


def test_an_example_that_is_shown_again_counts_once() -> None:
    """Its texts under several verbalizer instructions are those of one example."""
    again = (f"{EXAMPLE}, seen from afar", f"{EXAMPLE}, seen from near", EXAMPLE)
    assert Guards().copied(EXAMPLE, [again, again, again], current="Judge.") is not None


def test_what_the_instruction_said_before_may_stay() -> None:
    """The user's own words are no copy, even where a description repeats them."""
    assert Guards().copied(f"{EXAMPLE} counts twice", [(EXAMPLE,)], current=EXAMPLE) is None
    assert Guards(copied_words=None).copied(EXAMPLE, [(EXAMPLE,)], current="Judge.") is None


def quoting(seen: Seen) -> Any:
    """As `mind`, but the first revision of every request quotes what was shown."""
    answer = mind(seen)
    if seen.fields == ["improved_instruction"] and "quotes" not in seen.field("feedback"):
        return {"improved_instruction": answer["improved_instruction"] + f" as in {quoted(seen.text)}"}
    return told_apart(seen, answer)


def told_apart(seen: Seen, answer: Any) -> Any:
    """An answer that, if it describes an image, ends with what is said of that one alone."""
    described = seen.fields == ["description"]
    return {"description": f"{answer['description']}, {story(brightness(seen))}"} if described else answer


@pytest.mark.slow
def test_an_optimizer_that_quotes_is_asked_again_with_the_reason() -> None:
    """The rejection is on record, and no instruction of the result holds the quote."""
    result = compiled(quoting).detailed_results
    assert any("quotes an example" in rejection.reason for rejection in result.rejections)
    assert not any(quoted(trial.judge or "") for r in result.rounds for trial in r.trials)
    assert result.options["guards"]["copied_words"] == 8


@pytest.mark.slow
def test_the_guard_can_be_switched_off_and_the_paper_has_none() -> None:
    """Then the quote goes through."""
    result = compiled(quoting, guards=Guards(copied_words=None)).detailed_results
    assert any(quoted(trial.judge or "") for r in result.rounds for trial in r.trials)
    assert BLPO.paper(prompt_model=world()).guards.copied_words is None


CAPTIONED = [
    example.copy(caption=story(number)).with_inputs("image", "caption") for number, example in enumerate(TRAIN[::2])
]
BASELINES: list[tuple[Any, str, dict[str, Any]]] = [
    (OPRO, "exemplars_as", {"steps": 1, "samples_per_step": 2, "score_size": 5}),
    (APO, "errors_as", {"rounds": 1, "minibatch_size": 8, "n_gradients": 1, "eval_rounds": 1, "samples_per_eval": 2}),
    (TextGrad, "inputs_as", {"epochs": 1, "steps_per_epoch": 2}),
]


def copycat(seen: Seen) -> Any:
    """Judges as `mind`; what it writes about examples quotes one, unless told that it can't be used."""
    if "label" in seen.fields:
        return mind(seen)
    (field, *_) = seen.fields
    if field == "varied_instruction" or "proposal 2 of 2" in seen.user or "quotes an example" in seen.user:
        return {field: "Bright is above 70"}
    if field in ("improved_instructions", "reasons"):
        return {field: json.dumps([f"Bright is above 60 as in {quoted(seen.text)}"])}
    return {
        field: story(brightness(seen)) if field == "description" else f"Bright is above 60 as in {quoted(seen.text)}"
    }


@pytest.mark.slow
@pytest.mark.parametrize("shown_as", ["images", "descriptions"])
@pytest.mark.parametrize(("kind", "shows", "options"), BASELINES, ids=["opro", "apo", "textgrad"])
def test_the_baselines_refuse_quotes_of_what_they_were_shown(
    kind: Any, shows: str, options: dict[str, Any], shown_as: str
) -> None:
    """Captions beside images, and descriptions instead of them."""
    trained = CAPTIONED if shown_as == "images" else TRAIN[::2]
    found = {}
    for guards in (Guards(), Guards(copied_words=None)):
        lm = world(copycat)
        made = kind(prompt_model=lm, task_model=lm, num_threads=2, guards=guards, **{shows: shown_as}, **options)
        context = ("caption",) if shown_as == "images" else ()
        result = made.compile(student(context=context), trainset=trained).detailed_results
        quoting = [trial for r in result.rounds for trial in r.trials if quoted(trial.judge or "")]
        found[guards.copied_words] = (quoting, [r.reason for r in result.rejections])
    assert not found[8][0]
    assert any("quotes an example" in reason for reason in found[8][1])
    assert found[None][0]
    assert not any("quotes an example" in reason for reason in found[None][1])


@pytest.mark.parametrize("kind", [OPRO, APO, TextGrad, BLPO.paper])
def test_the_baselines_keep_the_guards_that_validate_where_they_pick_by_validation(kind: Any) -> None:
    """Without validations a guard would be a promise that nobody keeps, so it is refused."""
    strict = Guards(label_shift=0.1)
    with pytest.raises(BlpoError, match="give select='best'"):
        kind(prompt_model=world(), guards=strict)
    assert kind(prompt_model=world(), guards=strict, select="best").guards == strict


@pytest.mark.slow
def test_a_baseline_returns_nothing_that_a_guard_refuses() -> None:
    """The start, if everything found is worse for a part."""

    def far(seen: Seen) -> Any:
        return mind(seen) if "label" in seen.fields else {seen.fields[0]: "Bright is above 170"}

    lm = world(far)
    options = {"steps": 1, "samples_per_step": 1, "exemplars": 0, "select": "best", "num_threads": 2}
    strict = OPRO(prompt_model=lm, task_model=lm, guards=Guards(part_loss=0.05), **options)
    result = strict.compile(student(), trainset=TRAIN, valset=VALIDATION).detailed_results
    assert result.returned == result.start
    assert "label bright" in result.validations[-1].refused
    assert result.validations[-1].score > result.validations[0].score


@pytest.mark.slow
def test_an_instruction_past_the_cap_on_tokens_is_refused_with_its_length() -> None:
    """Four characters count as a token."""

    def wordy(seen: Seen) -> Any:
        answer = mind(seen)
        if seen.fields == ["improved_instruction"] and "longer" not in seen.field("feedback"):
            return {"improved_instruction": answer["improved_instruction"] + " by far" * 100}
        return answer

    result = compiled(wordy, max_instruction_tokens=50).detailed_results
    assert any("is longer than 50 tokens (about 180)" in rejection.reason for rejection in result.rejections)
    assert max(len(trial.judge or "") for r in result.rounds for trial in r.trials) <= 200


def test_a_shift_of_the_labels_is_refused_with_its_size() -> None:
    """Always answering bright is half the labels away from people's shares."""
    start, later = validation(0, ["dark"] * 10 + ["bright"] * 10), validation(1, ["bright"] * 20)
    assert [label_shift(v.agreement) for v in (start, later) if v.agreement] == [0.0, 0.5]
    assert [v.refused for v in Guards(label_shift=0.4).checked([start, later])] == [
        "",
        "the judge's labels are 0.50 from people's shares, at the start 0.00",
    ]
    assert [v.refused for v in Guards(label_shift=0.5).checked([start, later])] == ["", ""]
    # What the start has of it already does not count.
    same = validation(2, ["bright"] * 20)
    assert [v.refused for v in Guards(label_shift=0.1).checked([later, same])] == ["", ""]


def test_a_part_that_got_worse_is_refused_unless_it_is_small() -> None:
    """Though the mean improved."""
    start = validation(0, ["dark"] * 20, parts={"group a": (10, 0.2), "group b": (9, 0.0)})
    worse = validation(1, ["dark"] * 20, parts={"group a": (10, 0.5), "group b": (9, 0.0)})
    small = validation(2, ["dark"] * 20, parts={"group a": (10, 0.1), "group b": (9, 0.9)})
    assert [v.refused for v in Guards(part_loss=0.2).checked([start, worse, small])] == [
        "",
        "the mean distance from the labels (0 to 1) on group a (10 examples) rose from 0.20 to 0.50",
        "",
    ]


@pytest.mark.parametrize(
    ("n", "loss", "refused"), [(10, 0.5, False), (10, 0.5625, True), (9, 0.5625, False), (11, 0.1, False)]
)
def test_a_part_may_lose_as_much_as_the_guard_says(n: int, loss: float, refused: bool) -> None:
    """Not more, if it has ten examples; one that the start has none of can't have got worse."""
    start = validation(0, ["dark"] * 20, parts={"group a": (n, 0.25)})
    later = validation(1, ["dark"] * 20, parts={"group a": (n, loss), "group new": (20, 1.0)})
    assert bool(Guards(part_loss=0.25).refusal(start, later)) == refused
    assert Guards().refusal(start, later) == ""
    assert later.refused == ""
    kept = Guards(part_loss=0.25).checked([start, validation(1, ["dark"] * 20, refused="the model failed")])
    assert kept[1].refused == "the model failed"


def test_the_start_is_never_refused() -> None:
    """Nor a judge whose agreement isn't known, by the labels."""
    metric = Validation(1, Instructions("p", "q"), 0.5, 20)
    far = validation(0, ["bright"] * 20)
    assert [v.refused for v in Guards(label_shift=0.0).checked([far, metric])] == ["", ""]
    assert Guards(label_shift=0.0).refusal(metric, far) == ""
    assert [g.validating for g in (Guards(), Guards(label_shift=0.0), Guards(part_loss=0.0))] == [False, True, True]


def test_the_shift_is_half_the_difference_of_the_shares() -> None:
    """An invalid answer is a share of its own; without an answer there is none."""
    truth = ["dark", "dark", "bright", "bright"]
    said = ["dark", None, "bright", "bright"], ["dark", "bright", "bright", "bright"], [None] * 4
    shifts = [label_shift(measure_agreement(LABELS, truth, list(predicted))) for predicted in said]
    assert shifts == [0.25, 0.25, 1.0]
    assert label_shift(measure_agreement(LABELS, [], [])) == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a red car, twice.", 4),
        ("", 0),
        ("赤い鳥", 2),  # two letters a word
        ("赤い鳥が", 2),
        ("赤い鳥が木に 2 birds", 5),
        ("นกสีแดงอยู่", 3),  # four letters a word
    ],
)
def test_words_are_counted_in_scripts_without_spaces_too(text: str, words: int) -> None:
    """By how many letters make one, roughly."""
    assert words_in(text) == words


@pytest.mark.parametrize(("size", "copy"), [(3, True), (4, True), (5, False)])
def test_a_copy_is_as_many_words_as_the_guard_says(size: int, copy: bool) -> None:
    """In a row, within one text of an example, up to its last word."""
    shown = [("he sees a red old car", "by the sea")]
    assert bool(Guards(copied_words=size).copied("The a red old car", shown, current="Judge.")) == copy
    assert Guards(copied_words=3).copied("old car by the", shown, current="Judge.") is None


@pytest.mark.parametrize("options", [{"copied_words": 3}, {"label_shift": 0}, {"label_shift": 1.0}, {"part_loss": 1}])
def test_thresholds_at_the_ends_of_their_ranges_are_taken(options: dict[str, Any]) -> None:
    """Both ends belong to them."""
    assert Guards(**options) is not None


def test_parts_that_are_too_small_to_guard_are_named_and_nothing_to_guard_is_an_error() -> None:
    """Rather than a promise that nobody keeps; the other guards need no parts."""
    strict, few = Guards(part_loss=0.1), ["label a"] * 10 + ["label b"] * 9
    assert strict.unguarded(few) == (
        "part_loss=0.1 doesn't guard every part: fewer than 10 of the validation examples that are judged have "
        "label b (9)"
    )
    assert strict.unguarded(few[:10]) is None
    assert Guards(label_shift=0.1).unguarded(few) is None
    with pytest.raises(BlpoError, match=r"part_loss=0.1 guards nothing, as .* have label b \(9\); give more"):
        strict.unguarded(few[10:])
    with pytest.raises(BlpoError, match=r"group 4 \(1\); give more"):
        strict.unguarded([f"group {i}" for i in range(5)])
    many = [f"group {i}" for i in range(7)]
    with pytest.raises(BlpoError, match=r"group 4 \(1\) and 2 more"):
        strict.unguarded(many)
    lm = world()
    with pytest.raises(BlpoError, match="guards nothing"):
        BLPO(prompt_model=lm, task_model=lm, guards=strict).compile(student(), trainset=TRAIN, valset=VALIDATION[:8])
    assert lm.engine.seen == []


@pytest.mark.parametrize(
    "text",
    [
        "一只红色的小鸟停在树枝上,背景是蓝色的天空和白色的云彩",
        "赤い小鳥が木の枝にとまっていて背景は青い空です",
        "นกสีแดงตัวเล็กเกาะอยู่บนกิ่งไม้มีพื้นหลังเป็นท้องฟ้าสีฟ้า",
    ],
)
def test_a_quote_is_one_in_scripts_without_spaces_too(text: str) -> None:
    """However the quote begins and ends; a short phrase is none."""
    guards = Guards()
    assert guards.copied(f"Judge: {text[3:]}", [(text,)], current="Judge.") is not None
    assert guards.copied(f"Judge: {text[:8]}", [(text,)], current="Judge.") is None
    assert guards.copied(f"Judge: {text}", [(text,)], current=text) is None


def overshooting(seen: Seen) -> Any:
    """As `mind`, but the threshold jumps so far that dark pictures gain and some bright ones lose."""
    far = {"improved_instruction": "Bright is above 170"}
    return far if seen.fields == ["improved_instruction"] else mind(seen)


@pytest.mark.slow
def test_what_a_guard_refuses_is_not_returned() -> None:
    """The mean improved, but not for the bright ones: the start comes back, and the validations say why."""
    free, strict = compiled(overshooting), compiled(overshooting, guards=Guards(part_loss=0.05))
    best = max(free.detailed_results.validations, key=lambda v: v.score)
    start = free.detailed_results.validations[0]
    assert best.score > start.score
    assert best.parts["label bright"][1] > start.parts["label bright"][1]
    assert strict.detailed_results.returned == strict.detailed_results.start
    assert all("label bright" in v.refused for v in strict.detailed_results.validations if v.score > start.score)


def lopsided(seen: Seen) -> Any:
    """The start errs as often in either direction; the update errs less, but in one alone."""
    if seen.fields == ["improved_instruction"]:
        return {"improved_instruction": "Bright is above 170"}
    if "label" in seen.fields and "above 20" in seen.instruction:
        return {"label": "bright" if (brightness(seen) > 128) != (80 < brightness(seen) < 176) else "dark"}
    return mind(seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "guards", "why"),
    [
        (overshooting, Guards(part_loss=0.05), "label bright"),
        (lopsided, Guards(label_shift=0.1), "shares"),
    ],
)
def test_an_update_that_a_guard_refuses_is_not_taken_during_the_search_either(
    script: Any, guards: Guards, why: str
) -> None:
    """As measured on the examples that it is scored on; the trial says why."""
    options = {"rounds": 1, "inner_steps": 0, "minibatch_size": 42, "keep_back": "never"}
    (free,), (strict,) = (compiled(script, guards=g, **options).detailed_results.rounds for g in (Guards(), guards))
    assert free.chosen == 0
    assert strict.chosen is None
    assert why in strict.trials[0].rejections[-1].reason
    assert strict.trials[0].judge == "Bright is above 170"


def test_parts_are_means() -> None:
    """With their counts."""
    assert mean_losses([("a", 0.0), ("b", 1.0), ("a", 1.0)]) == {"a": (2, 0.5), "b": (1, 1.0)}


@pytest.mark.parametrize(
    "options",
    [{"copied_words": 2}, {"label_shift": -0.1}, {"part_loss": 1.5}, {"copied_words": "x"}, {"part_loss": "x"}],
)
def test_thresholds_out_of_range_are_refused(options) -> None:
    """By name."""
    with pytest.raises(BlpoError, match=next(iter(options))):
        Guards(**options)


def test_the_shift_of_scores_is_the_distance_between_their_distributions() -> None:
    """As a part of the range; who is wrong about which image doesn't matter."""
    labels = LabelSpace.scores(0, 50)
    assert label_shift(measure_agreement(labels, [0, 10, 50], [50, 0, 10])) == 0
    assert label_shift(measure_agreement(labels, [0, 10, 20], [10, 20, 30])) == pytest.approx(0.2)
    assert label_shift(measure_agreement(labels, [0, 10, 20], [None, None, None])) == 0
