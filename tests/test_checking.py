"""What is looked at beside the agreement, on a tiny world."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen
from rich.console import Console
from typer.testing import CliRunner
from worlds import TRAIN, VALIDATION, examples, mind, student, world

from blpo_dspy.aligning import align, costs_after, most_for_label_errors
from blpo_dspy.checking import fidelity_sample, find_label_errors, suspects
from blpo_dspy.cli import app
from blpo_dspy.embedded import RATERS, write_dataset
from blpo_dspy.labelling import Verdict
from blpo_dspy.ledger import Ledger
from blpo_dspy.models import Models
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.records import Batch, BLPOResult, Instructions, Judgement, Round
from blpo_dspy.options import Search
from blpo_dspy.progress import Watch
from blpo_dspy.results import Aligned
from blpo_dspy.sets import Sets

TEST = [
    dspy.Example(**example, id=f"t{i}").with_inputs("image") for i, example in enumerate(examples(range(1, 250, 12)))
]
NAMED = [dspy.Example(**example, id=f"x{i}").with_inputs("image") for i, example in enumerate(TRAIN)]


def reader(seen: Seen) -> Any:
    """The world's mind, which calls dark what a description alone says nothing of."""
    blind = "label" in seen.fields and not seen.images and "brightness " not in seen.user
    return {"label": "dark"} if blind else mind(seen)


def aligned_with(lm: Any, evidence: str, log_dir: Path | None = None, **search: Any) -> Aligned:
    """A run of two rounds."""
    sets = Sets(NAMED, VALIDATION, TEST, "three sets")
    with Watch(Console(file=io.StringIO()), shown=False) as watch:
        options = Search(**{"rounds": 2, "inner_steps": 1, "threads": 2, **search})
        return align(student(evidence=evidence), sets, Models(lm, lm, lm), options, watch, log_dir=log_dir)


@pytest.mark.parametrize("evidence", ["both", "image", "description"])
def test_fidelity_costs_what_the_estimate_says_and_no_more(evidence: str) -> None:
    """Beside the same run without it; what the test split answered already is not paid for again."""
    without, lm = world(reader), world(reader)
    plain, found = aligned_with(without, evidence), aligned_with(lm, evidence, fidelity=6)
    sets = Sets(NAMED, VALIDATION, TEST, "three sets")
    costs = costs_after(student(evidence=evidence), sets, Search(fidelity=6))
    extra = len(lm.engine.seen) - len(without.engine.seen)
    assert 0 < extra <= costs.fidelity
    assert found.final.total.calls - plain.final.total.calls == extra
    assert plain.checks.fidelity is None
    assert found.checks.fidelity is not None
    before, after = found.checks.fidelity
    assert (before.n, after.n) == (6, 6)
    if evidence != "description":
        # The start's text says nothing, which this reader calls dark; the learned one tells the brightness.
        assert before.accuracy < after.accuracy == 1


def test_a_cap_holds_with_fidelity_and_drops_it_where_it_does_not_pay() -> None:
    """The most calls are the most calls."""
    sets = Sets(NAMED, VALIDATION, TEST, "three sets")
    start = student(evidence="both")
    test = 4 * len(TEST)
    paid, unpaid = (costs_after(start, sets, Search(fidelity=5, max_calls=2 * calls)) for calls in (test + 20, test))
    assert (paid.test, paid.fidelity, paid.reserved) == (test, 20, test + 20)
    assert (unpaid.test, unpaid.fidelity) == (test, 0)
    lm = world(reader)
    with pytest.warns(UserWarning, match="hardly pays"):
        found = aligned_with(lm, "both", fidelity=5, max_calls=2 * (test + 20))
    assert len(lm.engine.seen) <= 2 * (test + 20)
    assert found.checks.fidelity is not None


def test_a_repeated_run_pays_for_no_check_again(tmp_path: Path) -> None:
    """The journal holds their answers."""
    first = aligned_with(world(reader), "both", tmp_path, fidelity=6)
    lm = world(reader)
    second = aligned_with(lm, "both", tmp_path, fidelity=6)
    assert lm.engine.seen == []
    assert second.checks == first.checks


def test_the_sample_is_drawn_by_seed_and_stays_in_order() -> None:
    """And is all there is where more is asked for."""
    drawn = fidelity_sample(TEST, 5, seed=3)
    assert drawn == fidelity_sample(TEST, 5, seed=3) != fidelity_sample(TEST, 5, seed=4)
    assert [TEST.index(example) for example in drawn] == sorted(TEST.index(example) for example in drawn)
    assert fidelity_sample(TEST, 999, seed=3) == TEST


def judged(example: int, predicted: str, label: str = "dark") -> Judgement:
    """A recorded judgement of a training example."""
    return Judgement(example, label, predicted, float(predicted != label), description=f"seen as {predicted}")


def record(*batches: tuple[list[Judgement], list[Judgement]]) -> BLPOResult:
    """A run with these errors and right examples, round by round."""
    texts = Instructions("p", "q")
    rounds = [
        Round(t, texts, Batch(tuple(errors), tuple(right)), (), None) for t, (errors, right) in enumerate(batches)
    ]
    return BLPOResult(texts, tuple(rounds), (), texts, Ledger({}), "over")


def test_suspects_are_what_the_later_rounds_got_wrong() -> None:
    """Not the first rounds, whose judge knew little, and no validation example; right answers of a suspect count."""
    run = record(
        ([judged(0, "bright")], []),
        ([judged(1, "bright"), judged(90, "bright")], []),
        ([judged(2, "bright")], [judged(1, "dark")]),
    )
    found = suspects(run, examples=10)
    assert {position: [verdict.label for verdict in said] for position, said in found.items()} == {
        1: ["bright", "dark"],
        2: ["bright"],
    }


def test_a_label_error_is_contradicted_by_the_final_judge_as_before() -> None:
    """Others are the judge's own doubts; who got no answer is left out."""
    train = [dspy.Example(id=f"x{i}", label="dark") for i in range(4)]
    known = {0: [Verdict("bright")], 1: [Verdict("bright")], 2: [Verdict("bright")], 3: [Verdict("dark")]}
    final = [Verdict("bright", description="lamp"), Verdict("dark"), Verdict(None, failure="cap"), Verdict("bright")]
    (error,) = find_label_errors(student(), train, known, lambda what, judge, asked: final)
    assert (error.id, error.judged, error.answers, error.description) == ("x0", "bright", 2, "lamp")


def test_a_wrong_label_that_is_planted_is_found() -> None:
    """A bright picture that people called dark: the judge learns the rule from the others and contradicts the label."""
    planted = [dspy.Example(**e).with_inputs("image") for e in NAMED]
    planted[-1].label = "dark"
    sets, lm = Sets(planted, VALIDATION, TEST, "three sets"), world()
    with Watch(Console(file=io.StringIO()), shown=False) as watch:
        search = Search(rounds=6, threads=2)
        found = align(student(), sets, Models(lm, lm, lm), search, watch)
    assert (planted[-1].id, "dark", "bright") in [(e.id, e.label, e.judged) for e in found.checks.label_errors]
    assert all(error.stability == 1 and error.answers > 1 for error in found.checks.label_errors)
    most = most_for_label_errors(BLPO(prompt_model=lm, rounds=6), student(), sets)
    assert 0 < found.checks.looked_at <= most
    assert len(found.checks.to_dict()["label_errors"]["found"]) == len(found.checks.label_errors)


def test_compile_leaves_the_table_of_doubtful_labels_and_the_fidelity(tmp_path: Path) -> None:
    """In the run's folder, in result.json, on the screen and in the report; the estimate names what they cost."""
    table = write_dataset(tmp_path / "data", RATERS["colour"], train=40, val=0, test=0).train
    words = ["--task", "Rate it.", "--scale", "1-5", "--rounds", "2", "--inner-steps", "1", "--fidelity", "4"]
    words += ["--judge-model", "embedded"]
    run = tmp_path / "run"
    told = CliRunner().invoke(app, ["estimate", str(table), *words, "--json"])
    done = CliRunner().invoke(
        app, ["compile", str(table), *words, "--out", str(tmp_path / "j.json"), "--run-dir", str(run)]
    )
    assert (told.exit_code, done.exit_code) == (0, 0), done.output
    assert json.loads(told.stdout)["fidelity_calls"] == 16
    assert json.loads(told.stdout)["label_error_calls"] > 0
    record = json.loads((run / "result.json").read_text())
    assert record["fidelity"]["after"]["n"] == 4
    assert record["fidelity"]["after"]["intervals"]["accuracy"]["low"] <= record["fidelity"]["after"]["accuracy"]
    assert record["stated_labels"]["after"]["n"] == record["after"]["test"]["n"]
    with (run / "label_errors.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [e["id"] for e in record["label_errors"]["found"]]
    shown = "".join(done.stdout.split())
    assert "of4images" in shown
    assert "".join(str(run / "label_errors.csv").split()) in shown
    assert "What descriptions carry" in (run / "report.html").read_text()
