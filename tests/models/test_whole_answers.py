"""What an answer says twice, or after its end."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from judges import judge_with, picture, seen_by
from worlds import TRAIN, VALIDATION, mind, student, world

from blpo_dspy.models.adapter import one_call_adapter
from blpo_dspy.optimizers import BLPO

END = "[[ ## completed ## ]]"
CHAT, JSON, XML = dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter


def in_form(adapter: Any, *labels: str, after: str = "", reasoning: bool = False) -> str:
    """Returns an answer that states labels, one after the other, in the form of an adapter."""
    fields = [*([("reasoning", "Nothing unsafe is in sight.")] if reasoning else []), *(("label", x) for x in labels)]
    if adapter is CHAT:
        return "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in fields) + f"\n\n{END}\n{after}"
    if adapter is XML:
        return "\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in fields) + f"\n{after}"
    return "{" + ", ".join(f'"{name}": "{text}"' for name, text in fields) + "}\n" + after


def judged(answer: str, adapter: Any, **options: Any) -> dspy.Prediction:
    """Returns what a judge makes of an answer, which is asked for once."""
    judge = judge_with(lambda seen: answer, evidence="image", **options)
    with dspy.context(adapter=adapter()):
        prediction = judge(image=picture())
    assert len(seen_by(judge)) == 1
    return prediction


@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize("adapter", [CHAT, JSON, XML])
@pytest.mark.parametrize(
    ("labels", "after", "label"),
    [
        (("Safe", "Unsafe"), "", None),
        (("Unsafe", "Safe"), "", None),
        (("Safe",), "Actually, Unsafe.", None),
        (("Safe",), "Unsafe", None),
        (("Safe",), "Hope this helps!", "Safe"),
        (("Safe",), "", "Safe"),
    ],
)
def test_two_labels_are_an_invalid_answer(
    labels: tuple[str, ...], after: str, label: str | None, adapter: Any, reasoning: bool
) -> None:
    """In any form, stated twice or taken back after the end; the answer shows both."""
    answer = in_form(adapter, *labels, after=after, reasoning=reasoning)
    prediction = judged(answer, adapter, reasoning=reasoning)
    assert prediction.label == label
    assert all(text in prediction.answer for text in (*labels, after))
    assert not reasoning or prediction.reasoning == "Nothing unsafe is in sight."


@pytest.mark.parametrize("adapter", [CHAT, JSON])
def test_a_label_that_is_repeated_is_one(adapter: Any) -> None:
    """There is nothing to guess."""
    prediction = judged(in_form(adapter, "Safe", "Safe"), adapter)
    assert (prediction.label, prediction.answer) == ("Safe", "Safe")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ('{"label": "Safe"}\n{"label": "Unsafe"}', None),
        ('[{"label": "Safe"}, {"label": "Unsafe"}]', None),
        ('{"label": "Safe"\n"label": "Unsafe"}', None),
        ('{"label": "Safe"\n"label": "Safe"', "Safe"),
        ('```json\n{"label": "Safe"}\n```', "Safe"),
        ('{"label": "Safe"', "Safe"),
        ('{"label": "Safe", } {"label": "Unsafe"}', None),
        ('{"label": "Unsafe"}, or rather {"label": "Safe"', None),
        ('{"note": "{\\"label\\": \\"Unsafe\\"}", "label": "Safe"}', "Safe"),
    ],
)
def test_json_is_read_whole_as_it_comes(answer: str, label: str | None) -> None:
    """Several objects, damaged ones, and a key that is only quoted."""
    assert judged(answer, JSON).label == label


def test_a_label_twice_is_invalid_where_another_field_is_missing() -> None:
    """The fields of an answer out of form are read whole, too."""
    assert judged(in_form(CHAT, "Safe", "Unsafe"), CHAT, reasoning=True).label is None


@pytest.mark.parametrize(
    ("adapter", "answer"),
    [
        (CHAT, f"[[ ## description ## ]]\na cat\n\n[[ ## description ## ]]\na dog\n\n{END}\nAnything else?"),
        (JSON, '{"description": "a cat", "description": "a dog"}'),
    ],
)
def test_a_description_that_is_given_twice_is_both(adapter: Any, answer: str) -> None:
    """Whichever was kept alone would be a guess; the end of the form still ends a description."""
    judge = judge_with(
        lambda seen: answer if "description" in seen.text.rpartition("Respond")[2] else in_form(adapter, "Safe")
    )
    with dspy.context(adapter=adapter()):
        assert judge(image=picture()).description == "a cat\n\na dog"


def test_an_instruction_that_is_proposed_twice_is_asked_for_again() -> None:
    """Two different texts are no instruction."""

    def twofold(seen: Any) -> Any:
        answer = mind(seen)
        if seen.fields == ["improved_instruction"] and seen.field("feedback") == "none":
            return f"[[ ## improved_instruction ## ]]\nIs it dark?\n\n[[ ## improved_instruction ## ]]\nIs it?\n\n{END}"
        return answer

    lm = world(twofold)
    optimizer = BLPO(prompt_model=lm, task_model=lm, rounds=1, inner_steps=1)
    result = optimizer.compile(student(), trainset=TRAIN, valset=VALIDATION).detailed_results
    trials = [trial for completed in result.rounds for trial in completed.trials]
    assert any("states improved_instruction twice" in rejection.reason for rejection in result.rejections)
    assert any(trial.judge for trial in trials)
    assert not any("Is it" in (trial.judge or "") for trial in trials)


def test_an_adapter_of_another_kind_parses_by_itself() -> None:
    """Nothing is known of its form."""

    class Own(dspy.Adapter):
        def parse(self, signature: Any, completion: str) -> dict[str, Any]:
            return {"answer": completion}

    with dspy.context(adapter=Own()):
        assert one_call_adapter().parse(dspy.Signature("q -> answer"), "[[ ## answer ## ]]") == {
            "answer": "[[ ## answer ## ]]"
        }
