from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
from engines import Seen, scripted_lm
from worlds import TRAIN, mind

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.optimizers.bench.bench import Bench, Predictors
from blpo_dspy.optimizers.bench.records import Judgement
from blpo_dspy.optimizers.proposals.exhibits import Exhibits, JudgementError, ShownAs, label_names
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.workers import Workers

SCALE = LabelSpace.ordinal(1, 5)
MARKER = "<<CUSTOM-TYPE-START-IDENTIFIER>>"


@contextmanager
def exhibits(
    shown_as: ShownAs, labels: LabelSpace | None = SCALE, script: Any = mind, caption: object = "a street"
) -> Iterator[Exhibits]:
    """Yields exhibits of three examples with a caption each."""
    lm = scripted_lm(script)
    judge = VisualJudge(SCALE, instruction="Rate it", context=["caption"], evidence="image")
    examples = [
        dspy.Example(image=e.image, caption=caption, label=3).with_inputs("image", "caption") for e in TRAIN[:3]
    ]
    with Workers(2) as workers:
        lms = {"judge": lm, "verbalizer": lm}
        options = {"metric": None, "labels": labels, "label_field": "label", "workers": workers}
        bench = Bench(judge, Predictors("verbalizer", "judge"), lms, examples, **options, max_failed_share=0.5)
        yield Exhibits(bench, labels, shown_as, "Say how bright it is.")


def test_images_stay_images_and_texts_are_named() -> None:
    """An example is its image with the texts that belong to it, each asked for once."""
    with exhibits("images") as shown:
        inputs = shown.inputs([2, 0, 2])
    assert list(inputs) == [2, 0]
    assert inputs[2] == {"image": TRAIN[2].image, "context": {"caption": "a street"}}


def test_descriptions_stand_for_images() -> None:
    """The verbalizer describes each example by the given instruction; one that it refuses is left out."""
    second = TRAIN[1].image.url.partition(",")[2]

    def refusing(seen: Seen) -> Any:
        return dspy.lm15.InvalidRequestError("against our policy") if second in seen.images else mind(seen)

    with exhibits("descriptions", script=refusing) as shown:
        inputs = shown.inputs([0, 1, 2])
    assert list(inputs) == [0, 2]
    assert inputs[0]["description"] == "brightness 0 (Say how bright it is.)"
    assert "image" not in inputs[0]


def test_texts_are_data() -> None:
    """A marker in a caption, a label or an answer can't become an image."""
    with exhibits("images", labels=None, caption=f"see {MARKER}") as shown:
        assert MARKER not in str(shown.inputs([0])[0]["context"])
        said = Judgement(0, f"label {MARKER}", None, 1.0, answer=f"no idea {MARKER}")
        assert MARKER not in str(shown.verdict(said))


def test_a_verdict_names_both_labels_and_the_direction() -> None:
    """Judgements on a scale say how far and which way they miss; an answer without a label is quoted."""
    with exhibits("images") as shown:
        assert shown.verdict(Judgement(0, 2, 4, 0.5)) == {
            "human_label": "2",
            "judge_label": "4",
            "difference": "judge 2 too high",
        }
        assert shown.verdict(Judgement(0, 2, 2, 0.0))["difference"] == ""
        silent = shown.verdict(Judgement(0, 2, None, 1.0, answer="cannot say"))
        assert silent["judge_label"] == "none ('cannot say')"
        assert silent["difference"] == "judge gave no valid label"


def test_labels_have_a_name_with_and_without_a_label_space() -> None:
    """A prompt says what there is to choose from, or that the metric knows."""
    assert label_names(SCALE) == "a whole number from 1 to 5"
    assert label_names(None) == "as the metric has them"


def test_a_verdict_has_what_the_judge_wrote_before_its_label() -> None:
    """As data, cut if it is very long, and only where there is any."""
    with exhibits("images") as shown:
        why = [shown.verdict(Judgement(0, 2, 4, 0.5, reasoning=text)) for text in (f"dark {MARKER}", "x" * 601, "")]
    assert why[0]["judge_reason"].startswith("dark")
    assert MARKER not in why[0]["judge_reason"]
    assert why[1]["judge_reason"] == "x" * 600 + "…"
    errors = [JudgementError(description="a street", **verdict) for verdict in why]
    assert ["judge_reason" in error.model_dump() for error in errors] == [True, True, False]


def test_a_verdict_has_a_reason_only_where_people_wrote_one() -> None:
    """A marker in it can't become an image; a mistake without one is shown as ever."""
    with exhibits("images") as shown:
        shown.bench.examples[0]["reason"] = f"too dark {MARKER}"
        said, silent = (shown.verdict(Judgement(i, 2, 4, 0.5)) for i in (0, 1))
    assert said["human_reason"].startswith("too dark")
    assert MARKER not in said["human_reason"]
    assert "human_reason" not in silent
    errors = [JudgementError(description="a street", **verdict) for verdict in (said, silent)]
    assert ["human_reason" in error.model_dump() for error in errors] == [True, False]
