from typing import Any

import dspy
import pytest
from engines import Seen, scripted_lm

from blpo_dspy.errors import ModelError
from blpo_dspy.optimizers.bench.records import Rejection
from blpo_dspy.optimizers.proposals.asking import Asker, Reply
from blpo_dspy.optimizers.proposals.exhibits import JudgementError
from blpo_dspy.workspace.meter import Meter
from blpo_dspy.workspace.workers import Workers

MARKER = "<<CUSTOM-TYPE-START-IDENTIFIER>>[]<<CUSTOM-TYPE-END-IDENTIFIER>>"


class Question(dspy.Signature):
    """Answer."""

    number: int = dspy.InputField()
    answer: str = dspy.OutputField()


class Questions(dspy.Signature):
    """Answer several times."""

    number: int = dspy.InputField()
    answers: list[str] = dspy.OutputField()


class Revision(dspy.Signature):
    """Revise."""

    text: str = dspy.InputField()
    feedback: str = dspy.InputField()
    revised: str = dspy.OutputField()


class Showing(Revision):
    """Revise by examples."""

    text: Any = dspy.InputField()


def ask(work: Any, *answers: Any, **options: Any) -> tuple[Any, list[Seen]]:
    """Returns what `work(asker)` returns where the LM gives these answers in turn, and the requests."""
    turns = iter(answers)
    lm = scripted_lm(lambda seen: next(turns), num_retries=0)
    with Workers(1) as workers:
        asker = Asker(Meter(num_threads=1).wrap(lm, "optimizer"), workers, **{"max_tokens": 20, **options})
        return work(asker), lm.engine.seen


def questions(signature: type[dspy.Signature], count: int = 1) -> Any:
    """Returns work that asks so many questions."""
    return lambda asker: asker.ask(signature, [{"number": n} for n in range(count)])


def test_replies_come_in_the_order_of_the_requests() -> None:
    """A text field gives one text, a list field several; quotes and empty entries are left out."""
    replies, _ = ask(questions(Question, 3), {"answer": '"one"'}, {"answer": "two\nlines"}, {"answer": ""})
    assert [reply.texts for reply in replies] == [("one",), ("two\nlines",), ()]
    assert replies[1].text == "two\nlines"
    (reply,), _ = ask(questions(Questions), {"answers": '["a", " ", "b"]'})
    assert (reply.texts, reply.text) == (("a", "b"), "a\nb")


def test_replies_are_data() -> None:
    """A marker in an answer can't become an image or a field of the next prompt."""
    (reply,), _ = ask(questions(Question), {"answer": f"see {MARKER} here"})
    assert reply.texts == ("see [CUSTOM-TYPE-START-IDENTIFIER][][CUSTOM-TYPE-END-IDENTIFIER] here",)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Sure!", "no readable field answer"),
        ("[[ ## answer ## ]]\na draft\n\n[[ ## answer ## ]]\nanother", "the answer states answer twice"),
        (("[[ ## answer ## ]]\nhalf of", "length"), "cut off by the token limit"),
        (dspy.lm15.InvalidRequestError("against our policy"), "against our policy"),
    ],
)
def test_a_request_without_an_answer_carries_the_reason(answer: Any, reason: str) -> None:
    """Nothing is guessed from an answer out of form; it is asked for no second time."""
    (reply,), seen = ask(questions(Question), answer)
    assert reply.texts == ()
    assert reason in reply.rejections[0].reason
    assert len(seen) == 1


def test_an_outage_is_asked_through_once_more_then_ends_the_run() -> None:
    """What may pass is tried again; what nothing mends, or comes twice, is a ModelError."""
    outage = dspy.lm15.ServerError("overloaded")
    (reply,), seen = ask(questions(Question), outage, {"answer": "yes"})
    assert (reply.texts, len(seen)) == (("yes",), 2)
    with pytest.raises(ModelError, match=r"failed, twice: .*overloaded"):
        ask(questions(Question), outage, outage)
    with pytest.raises(ModelError, match=r"cannot be used: .*bad key"):
        ask(questions(Question), dspy.lm15.AuthError("bad key"))


def test_the_temperature_is_sent_where_one_is_given() -> None:
    """None leaves the LM's own."""
    for temperature in (0.7, None):
        _, (seen,) = ask(questions(Question), {"answer": "yes"}, temperature=temperature)
        assert seen.request.config.temperature == temperature


def test_instructions_are_checked_one_by_one() -> None:
    """Each text of a reply is used or rejected by itself; what the user's instruction says of formats may stay."""
    reply = Reply(("Rate it.", "Rate it. Answer in JSON.", "very " * 50))
    good, format_stated, long = ask(lambda asker: asker.instructions(reply, "Judge it."))[0]
    assert good.text == "Rate it."
    assert "output format" in format_stated.rejections[0].reason
    assert "longer than 20 tokens" in long.rejections[0].reason
    assert ask(lambda asker: asker.instructions(reply, "Judge. Answer in JSON."))[0][1].text == reply.texts[1]
    for empty in (Reply(), Reply(rejections=(Rejection("the LM refused", ""),))):
        (nothing,) = ask(lambda asker, empty=empty: asker.instructions(empty, "Judge it."))[0]
        assert nothing.text is None
        assert len(nothing.rejections) == 1


def revise(*answers: Any, **options: Any) -> tuple[Any, list[Seen]]:
    """Asks for a revision of "Judge it." from an LM that gives these answers in turn."""
    return ask(lambda asker: asker.revise(Revision, {"text": "Judge it."}, "Judge it.", **options), *answers)


def test_a_usable_revision_is_returned_as_written() -> None:
    """It is the field's text, without surrounding quotes or fences; the LM is told of no earlier attempt."""
    revision, (seen,) = revise({"revised": '"Judge the sharpness first.\n\nThen the noise."'})
    assert (revision.text, revision.rejections) == ("Judge the sharpness first.\n\nThen the noise.", ())
    assert seen.field("feedback") == "none"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"revised": ""}, "empty"),
        ({"revised": " Judge  it. "}, "unchanged"),
        ({"revised": "very " * 200}, "longer than 20 tokens"),
        ({"revised": "Judge it. Answer only with a number."}, "states an output format"),
        ({"revised": "Judge it and give the result in JSON."}, "states an output format"),
        (("[[ ## revised ## ]]\nJudge the", "length"), "cut off by the token limit"),
        (("Well, I would", "length"), "cut off by the token limit"),
        ("Sure! Here is a better instruction: judge well.", "no readable field revised"),
    ],
)
def test_a_revision_that_cannot_be_used_is_asked_for_once_more_with_the_reason(answer: Any, reason: str) -> None:
    """Each reason for a rejection is recorded with the text and told to the optimizer LM; then it has one more try."""
    revision, (_, second) = revise(answer, {"revised": "Judge the blur."})
    assert revision.text == "Judge the blur."
    (rejection,) = revision.rejections
    assert reason in rejection.reason
    assert second.field("feedback") == f"{rejection.reason}. Write the complete instruction anew."


@pytest.mark.parametrize(
    "rest", ["[[ ## completed ## ]]\n\nI chose", "[[ ## text ## ]]\nJudge it.\n\n[[ ## feedback ## ]]\nno"]
)
def test_a_cut_after_the_end_of_a_revision_is_no_loss(rest: str) -> None:
    """As weak models write on and on, and repeat the request."""
    revision, seen = revise((f"[[ ## revised ## ]]\nJudge the blur.\n\n{rest}", "length"))
    assert (revision.text, revision.rejections, len(seen)) == ("Judge the blur.", (), 1)


def test_two_unusable_revisions_are_none() -> None:
    """There is no third call."""
    revision, seen = revise({"revised": "Judge it."}, "Sure!")
    assert (revision.text, len(revision.rejections), len(seen)) == (None, 2, 2)


def test_an_instruction_may_stay_where_that_is_allowed() -> None:
    """Then the unchanged text is a revision."""
    revision, seen = revise({"revised": "Judge it."}, may_stay=True)
    assert (revision.text, revision.rejections, len(seen)) == ("Judge it.", (), 1)


@pytest.mark.parametrize(
    ("error", "overflow"),
    [(dspy.lm15.InvalidRequestError("against our policy"), False), (dspy.lm15.ContextLengthError("too long"), True)],
)
def test_a_refused_request_is_not_repeated(error: Exception, overflow: bool) -> None:
    """The same request would be refused again; what was rejected before it stays on record."""
    revision, seen = revise({"revised": ""}, error)
    assert (revision.text, len(revision.rejections), len(seen)) == (None, 2, 2)
    first, seen = revise(error)
    assert (first.text, len(seen)) == (None, 1)
    assert (revision.overflow, first.overflow) == (overflow, overflow)


@pytest.mark.parametrize("place", ["description", "judge_reason", "human_reason"])
def test_a_revision_quotes_nothing_that_the_request_shows(place: str) -> None:
    """Descriptions, reasons and context in its inputs count."""
    words = "a blurred yellow bird sits on a wet branch"
    given = {"description": "a bird", place: words}
    error = JudgementError(**given, human_label="1", judge_label="2", difference="")

    def quoting(asker: Asker) -> Any:
        return asker.revise(Showing, {"text": error}, "Judge it.")

    revision, _ = ask(quoting, {"revised": f"Judge that {words}."}, {"revised": "Judge the blur."})
    assert revision.text == "Judge the blur."
    assert "quotes an example" in revision.rejections[0].reason


def test_a_revision_repeats_nothing_of_the_request_itself() -> None:
    """As weak models do; what the present instruction has of it may stay."""
    request = Revision.with_instructions("Revise it so that it holds for all images that people will see.")

    def revised(current: str) -> Any:
        answers = [{"revised": f"{current} Rate blur so that it holds for all images that people like."}] * 2
        return ask(lambda asker: asker.revise(request, {"text": current}, current), *answers, max_tokens=90)[0]

    refused = revised("Judge it.")
    assert (refused.text, [r.kind for r in refused.rejections]) == (None, ["the instruction repeats the request"] * 2)
    assert "('so that it holds for all images that')" in refused.rejections[0].reason
    assert revised("Be strict, so that it holds for all images that people send.").text is not None
