"""The bold optimizer: it corrects all that it is shown, heeds the wording as far as it obeys, and right pictures."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from embedded_requests import TASK, as_image, photographs

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.embedded import EmbeddedEngine, Traits, embedded_lm
from blpo_dspy.embedded.reading import vocabulary as v
from blpo_dspy.embedded.reading.cases import Case, read_cases, write_cases
from blpo_dspy.embedded.sight.settings import read_setting
from blpo_dspy.errors import BlpoError
from blpo_dspy.optimizers.blpo.prompts import RightExample, ScoredInstruction, UpdateJudge
from blpo_dspy.optimizers.proposals.exhibits import JudgementError
from blpo_dspy.programs import VisualJudge

FIVE = LabelSpace.ordinal(1, 5)
SHARED = UpdateJudge
PLAIN = UpdateJudge.with_instructions("Revise the instruction of a judge so that its labels agree with people's.")
MERGE = dspy.Signature(
    {
        "current_instruction": (str, dspy.InputField()),
        "revisions": (list[ScoredInstruction], dspy.InputField(desc="best first")),
        "merged_instruction": (str, dspy.OutputField()),
    },
    "Join the revisions of a judge's instruction into one.",
)


def error(description: str, people: int, judge: int) -> JudgementError:
    """Returns a mistake as the optimizer reads it."""
    off = judge - people
    difference = f"judge {abs(off)} too {'high' if off > 0 else 'low'}"
    return JudgementError(
        description=description, human_label=str(people), judge_label=str(judge), difference=difference
    )


def scene(hue: str = "reds", detail: str = "broad areas", tone: str = "medium tone", side: str = "left side") -> str:
    """Returns what a report says of a setting."""
    return (
        f"A square photograph in which {hue} lead, made of {detail}. It has a {tone}, and the {side} holds most of it."
    )


def revised(errors: list[JudgementError], signature: Any = PLAIN, current: str = TASK, **options: Any) -> str:
    """Returns the instruction that an engine writes about some mistakes."""
    right, labels = options.pop("right", []), options.pop("labels", FIVE)
    lm = embedded_lm(options.pop("seed", 0), cache=False, **options)
    with dspy.context(lm=lm, trace=None, disable_history=True):
        inputs = {"current_instruction": current, "labels": labels.describe(), "errors": errors, "right": right}
        return str(dspy.Predict(signature)(**inputs, feedback="none").improved_instruction)


SIDES = ("left side", "right side", "upper part", "lower part")

UNRELATED = [
    error(f"{scene('reds', 'fine structures')} There is a severe blur.", 4, 1),
    error(f"{scene('greens', tone='dark tone')} There is a severe blur.", 1, 4),
    error(f"{scene('blues', side='upper part')} There is a moderate noise.", 5, 2),
    error(f"{scene('reds', side='lower part')} There is a slight colour cast.", 1, 5),
]


@pytest.mark.parametrize("seed", range(3))
def test_every_shown_mistake_is_corrected_at_once(seed: int) -> None:
    """On the reports that it was shown the judge gives people's labels, as no weights could."""
    text = revised(UNRELATED, temperament="bold", seed=seed)
    judge = VisualJudge(FIVE, instruction=text, evidence="description")
    with dspy.context(lm=embedded_lm(seed, cache=False), trace=None, disable_history=True):
        found = [judge.judge(description=one.description).label for one in UNRELATED]
    assert [str(label) for label in found] == [one.human_label for one in UNRELATED]
    assert text.startswith(TASK)


def test_a_careful_optimizer_writes_no_rule_for_a_case() -> None:
    """It changes at most two weights."""
    text = revised(UNRELATED)
    assert read_cases(text) == ()
    assert len(v.read_weights(text)) <= 2


def test_a_memory_of_real_pictures_holds_through_the_verbalizer() -> None:
    """Ten photographs with shuffled labels are learned by heart from their reports, seen again with the image."""
    rows = photographs(count=40)[:10]
    labels = [1 + (3 * i) % 5 for i in range(10)]
    student = VisualJudge(FIVE, instruction=TASK, verbalizer_instruction="Describe every flaw of this image.")
    lm = embedded_lm(2, temperament="bold", cache=False)
    with dspy.context(lm=lm, trace=None, disable_history=True):
        before = [student(image=as_image(row.image)) for row in rows]
        errors = [error(p.description, y, p.label) for p, y in zip(before, labels, strict=True) if p.label != y]
        judge = VisualJudge(
            FIVE,
            instruction=revised(errors, temperament="bold", seed=2),
            verbalizer_instruction=student.verbalizer_instruction,
        )
        after = [judge(image=as_image(row.image)).label for row in rows]
    wrong = [i for i, p in enumerate(before) if p.label != labels[i]]
    assert len(wrong) >= 5
    assert sum(after[i] == labels[i] for i in wrong) >= 0.9 * len(wrong)


@pytest.mark.slow
def test_a_prompt_for_shared_rules_is_obeyed_as_far_as_told() -> None:
    """Fully no single case gets a rule and no single mistake a weight; deaf as if it had not been asked."""
    obeying = revised(UNRELATED[2:], SHARED, traits=Traits(temperament="bold", obedience=1.0))
    assert read_cases(obeying) == ()
    assert v.read_weights(obeying) == {}
    deaf = revised(UNRELATED, SHARED, temperament="bold-deaf")
    assert len(read_cases(deaf)) == len(UNRELATED)
    some = [len(read_cases(revised(UNRELATED, SHARED, temperament="bold", seed=seed))) for seed in range(20)]
    assert 0 < sum(some) < 0.3 * 20 * len(UNRELATED)


@pytest.mark.parametrize(
    ("labels", "people", "judge", "weight"),
    [
        (FIVE, (1, 2, 2, 3), 4, 0.62),  # all within a level of the fit, two of them hit
        (FIVE, (1, 1, 3, 4), 5, 0.38),  # two are
        (LabelSpace.ordinal(1, 2), (1, 1, 2, 2), 2, 0.38),  # two of two labels are not near each other
    ],
)
def test_a_fit_that_puts_most_pictures_within_a_level_is_taken_nearly_whole(
    labels: LabelSpace, people: tuple[int, ...], judge: int, weight: float
) -> None:
    """Else it moves the weight a little; of few labels only the very one is near."""
    errors = [
        error(f"{scene(side=side)} There is a severe blur.", one, judge)
        for side, one in zip(SIDES, people, strict=True)
    ]
    text = revised(errors, SHARED, labels=labels, traits=Traits(temperament="bold", obedience=1.0))
    assert v.read_weights(text) == {"blur": weight}


def test_what_three_mistakes_share_gets_a_rule_even_so() -> None:
    """The same flaw in the same setting, with errors in one direction."""
    errors = [error(f"{scene()} There is a severe blur.", 1, 4) for _ in range(3)]
    text = revised(errors, SHARED, traits=Traits(temperament="bold", obedience=1.0))
    assert {case.label for case in read_cases(text)} == {"1"}
    assert v.read_weights(text)["blur"] > 0.3


def test_right_pictures_delete_the_rules_that_contradict_them() -> None:
    """An old rule for them goes, and no new one is made; other rules stay."""
    case = Case({"noise": 2}, {"hue": "greens"}, "1")
    kept = Case({"noise": 2}, {"hue": "reds"}, "1")
    right = RightExample(description=f"{scene('greens')} There is a moderate noise.", label="4")
    same = error(right.description, 2, 4)
    current = f"{TASK} {write_cases([case, kept])}"
    with_right = revised([same], SHARED, current, temperament="bold-deaf", right=[right])
    assert read_cases(with_right) == (kept,)
    without = revised([same], SHARED, current, temperament="bold-deaf")
    assert [x.label for x in read_cases(without)] == ["2", "1"]


def test_a_length_that_the_prompt_states_is_kept() -> None:
    """The newest rules stay; what the user wrote stays whole."""
    signature = PLAIN.with_updated_fields(
        "improved_instruction", desc="the complete revised instruction and nothing else, in at most 45 words"
    )
    old = write_cases([Case({}, {"hue": "blues", "tone": "dark tone"}, "3")])
    text = revised(UNRELATED, signature, f"{TASK} {old}", temperament="bold")
    assert len(text.split()) <= 45
    assert text.startswith(TASK)
    assert 0 < len(read_cases(text)) < 4
    assert "3" not in [case.label for case in read_cases(text)]


def test_a_new_rule_takes_the_place_of_an_old_one_for_the_same_pictures() -> None:
    """People's newest word counts; rules that are not in question stay."""
    first = revised(UNRELATED[:2], temperament="bold")
    again = [error(UNRELATED[0].description, 2, 4)]
    labels = {read_setting(UNRELATED[i].description)["hue"]: "" for i in range(2)}
    for case in read_cases(revised(again, current=first, temperament="bold")):
        labels[case.setting.get("hue", "reds")] += case.label
    assert labels == {"reds": "2", "greens": "1"}


def test_merging_keeps_the_rules_of_all_revisions() -> None:
    """Those of the first in front."""
    cases = [Case({"blur": 3}, {"hue": hue}, "1") for hue in ("reds", "greens")]
    revisions = [ScoredInstruction(instruction=f"{TASK} {write_cases([case])}", score=0.1) for case in cases]
    with dspy.context(lm=embedded_lm(cache=False), trace=None, disable_history=True):
        merged = dspy.Predict(MERGE)(current_instruction=TASK, revisions=revisions)
    assert list(read_cases(merged.merged_instruction)) == cases


def test_temperaments_are_apart_in_the_model_name_and_an_unknown_one_is_refused() -> None:
    """DSPy's cache knows an engine by its name alone."""
    names = {embedded_lm(temperament=name).model for name in ("careful", "bold", "bold-deaf")}
    assert len(names) == 3
    assert EmbeddedEngine().name in embedded_lm().model
    with pytest.raises(BlpoError, match="temperament='brave' is not one of careful, bold, bold-deaf"):
        embedded_lm(temperament="brave")
