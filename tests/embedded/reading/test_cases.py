"""Rules for cases: read, written, and followed by the judge."""

from __future__ import annotations

import pytest
from embedded_requests import ask, photographs

from blpo_dspy.embedded import EmbeddedEngine, Traits
from blpo_dspy.embedded.reading import vocabulary as v
from blpo_dspy.embedded.reading.cases import Case, deciding, own_cases, read_cases, write_cases
from blpo_dspy.embedded.sight.perception import decode
from blpo_dspy.embedded.sight.settings import measured

BLURRED = Case({"blur": 3, "noise": 1}, {"detail": "broad areas", "hue": "reds"}, "2")


def test_rules_are_read_back_as_written() -> None:
    """Flaws, setting and label; the weights beside them stay weights."""
    other = Case({}, {"tone": "dark tone", "side": "left side"}, "keep it")
    text = f"Rate it. {write_cases([BLURRED, other])} Count blur strongly."
    assert read_cases(text) == (BLURRED, other)
    assert v.read_weights(text) == {"blur": 0.75}
    assert own_cases(text) == ("Rate it. Count blur strongly.", (BLURRED, other))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("When it is very noisy: the rating is 1.", [Case({"noise": 3}, {}, "1")]),
        ("If the picture has a dark tone: label is “bad”.", [Case({}, {"tone": "dark tone"}, "bad")]),
        ("If there is a dog in it: the label is 1.", []),
        ("If blur is severe, count it strongly.", []),
    ],
)
def test_rules_are_read_from_what_others_write(text: str, expected: list[Case]) -> None:
    """A condition of which the engine knows nothing makes no rule; others' sentences stay as they are."""
    assert list(read_cases(text)) == expected
    assert own_cases(f"Rate it. {text}")[0] == f"Rate it. {text}"


@pytest.mark.parametrize(
    ("levels", "hue", "applies"),
    [
        ({"blur": 3, "noise": 1}, "reds", True),
        ({"blur": 2, "noise": 2, "blocking": 3}, "reds", True),
        ({"blur": 1, "noise": 1}, "reds", False),
        ({"blur": 3}, "reds", False),
        ({"blur": 3, "noise": 1}, "blues", False),
    ],
)
def test_a_rule_applies_to_its_flaws_within_a_level_in_its_setting(
    levels: dict[str, int], hue: str, applies: bool
) -> None:
    """Each condition has to be met."""
    assert BLURRED.applies(levels, {"detail": "broad areas", "hue": hue, "tone": "dark tone"}) is applies


def test_the_rule_with_the_most_conditions_decides_and_of_equals_the_first() -> None:
    """A rule that does not apply never does."""
    setting = {"detail": "broad areas", "hue": "reds", "tone": "dark tone"}
    general, first = Case({"blur": 3}, {}, "1"), Case({"blur": 3}, {"hue": "reds"}, "3")
    second, foreign = Case({"blur": 2}, {"tone": "dark tone"}, "4"), Case({"blur": 3}, {"hue": "blues"}, "5")
    assert deciding([general, foreign, first, second], {"blur": 3}, setting) == first
    assert deciding([general, foreign], {"blur": 3}, setting) == general
    assert deciding([foreign], {"blur": 3}, setting) is None


@pytest.mark.parametrize("evidence", ["image", "description"])
def test_the_judge_follows_a_rule_instead_of_the_weights(evidence: str) -> None:
    """For the pictures that it applies to, whether seen or described, and for no other."""
    engine = EmbeddedEngine(traits=Traits(judging_noise=0, describing_noise=0))
    row = photographs()[0]
    setting = measured(decode(row.image))
    shown = row.image if evidence == "image" else ask(engine, "Describe this image.", row.image)
    task = "Rate this image from 1 to 5. Ignore blur, noise and blocking."
    plain = ask(engine, task, shown)
    rule = write_cases(
        [Case({}, {trait: setting[trait] for trait in ("detail", "side")}, "1" if plain != "1" else "2")]
    )
    assert ask(engine, f"{task} {rule}", shown) != plain
    other = next(x for x in photographs() if measured(decode(x.image))["side"] != setting["side"])
    shown = other.image if evidence == "image" else ask(engine, "Describe this image.", other.image)
    assert ask(engine, f"{task} {rule}", shown) == ask(engine, task, shown)


def test_a_rule_for_a_label_that_is_not_offered_is_passed_over() -> None:
    """The answer is one of the labels all the same."""
    row = photographs()[0]
    rule = write_cases([Case({}, {"hue": measured(decode(row.image))["hue"]}, "9")])
    assert ask(EmbeddedEngine(), f"Rate this image from 1 to 5. {rule}", row.image) in "12345"
