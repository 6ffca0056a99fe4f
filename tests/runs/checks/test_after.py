"""What is looked at beside the agreement, on a tiny world."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import Seen
from rich.console import Console
from typer.testing import CliRunner
from worlds import LABELS, TRAIN, VALIDATION, examples, mind, student, world

from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.cli.app import app
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.models.lm import Models
from blpo_dspy.optimizers.bench.records import Batch, BLPOResult, Instructions, Judgement, Round, Validation
from blpo_dspy.programs.pairs import to_swap
from blpo_dspy.runs.checks.after import fidelity_sample, find_label_errors, late_verdicts, validated_verdicts
from blpo_dspy.runs.checks.costs import costs_after
from blpo_dspy.runs.compiling import compile_and_measure
from blpo_dspy.runs.data.sets import Sets
from blpo_dspy.runs.jobs import Search
from blpo_dspy.runs.record import Aligned
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.watch import Watch

pytestmark = pytest.mark.slow

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
    sets = Sets(NAMED[::2], VALIDATION[::2], TEST, "three sets")
    with Watch(Console(file=io.StringIO()), shown=False) as watch:
        options = Search(**{"rounds": 2, "inner_steps": 1, **search})
        return compile_and_measure(
            student(evidence=evidence), sets, Models(lm, lm, lm), options, watch, log_dir=log_dir
        )


@pytest.mark.parametrize("evidence", ["both", "image", "description"])
def test_fidelity_costs_what_the_estimate_says_and_no_more(evidence: str) -> None:
    """Beside the same run without it; what the test split answered already is not paid for again."""
    without, lm = world(reader), world(reader)
    plain, found = aligned_with(without, evidence), aligned_with(lm, evidence, fidelity=6)
    sets = Sets(NAMED[::2], VALIDATION[::2], TEST, "three sets")
    costs = costs_after(student(evidence=evidence), sets, Search(fidelity=6))
    extra = len(lm.engine.seen) - len(without.engine.seen)
    assert 0 < extra <= costs.fidelity
    assert found.final.total.calls - plain.final.total.calls == extra
    assert plain.checks.fidelity is None
    assert found.checks.fidelity is not None
    before, after = found.checks.fidelity
    assert (before.n, after.n) == (6, 6)
    if evidence == "both":
        # The start's text says nothing, which this reader calls dark; the learned one tells the brightness.
        assert before.accuracy < after.accuracy == 1


def test_a_cap_holds_with_fidelity_and_drops_it_where_it_does_not_pay() -> None:
    """The most calls are the most calls."""
    sets = Sets(NAMED[::2], VALIDATION[::2], TEST, "three sets")
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


def test_only_what_later_rounds_said_of_training_examples_counts() -> None:
    """Not the first rounds, whose judge knew little, and no validation example; right answers count too."""
    run = record(
        ([judged(0, "bright")], []),
        ([judged(1, "bright"), judged(90, "bright")], []),
        ([judged(2, "bright")], [judged(1, "dark")]),
    )
    found = late_verdicts(run, NAMED[:10], LABELS)
    assert {position: [verdict.label for verdict in said] for position, said in found.items()} == {
        1: ["bright", "dark"],
        2: ["bright"],
    }


def test_what_the_result_said_of_validation_examples_is_found_again() -> None:
    """Each with its example; of a pair that was shown in the other order the label is turned back."""
    texts, other = Instructions("p", "q"), Instructions("p0", "q0")
    said = (judged(10, "bright"), judged(12, "dark"))
    run = replace(
        record(),
        validations=(
            Validation(0, other, 0.5, 2, judgements=said[::-1]),
            Validation(1, texts, 0.5, 2, judgements=said),
        ),
    )
    found = validated_verdicts(run, NAMED[:10], NAMED[10:13], LABELS)
    assert [(example.id, verdict.label) for example, verdict in found] == [("x10", "bright"), ("x12", "dark")]
    assert "judgements" not in run.validations[0].to_dict()
    assert validated_verdicts(replace(run, validated_on="train"), NAMED[:10], NAMED[10:13], LABELS) == []
    assert validated_verdicts(record(), NAMED[:10], NAMED[10:13], LABELS) == []

    pairs, val = LabelSpace.pairwise(), [dspy.Example(id=f"p{i}", label="A") for i in range(8)]
    run = replace(
        record(),
        validations=(Validation(1, texts, 1.0, 8, judgements=tuple(judged(i, "A", "A") for i in range(8))),),
        options={"seed": 0},
    )
    labels = [verdict.label for _, verdict in validated_verdicts(run, [], val, pairs)]
    swapped = to_swap(["A"] * 8, 0, "val")
    assert labels == ["B" if i in swapped else "A" for i in range(8)]
    assert len(swapped) == 4


def errors_in(final: dict[str, Verdict], most: int, seed: int = 0) -> tuple[list[tuple[str, int]], int, list[str]]:
    """Ids and answers of the likely errors among six examples, how many were looked at, and which were asked about."""
    train = [dspy.Example(id=f"x{i}", label="dark") for i in range(6)]
    known = {1: [Verdict("dark")], 3: [Verdict("dark"), Verdict("bright")], 5: [Verdict("bright")]}
    asked: list[str] = []

    def ask(what: str, judge: Any, chosen: Any) -> list[Verdict]:
        asked.extend(example.id for example in chosen)
        return [final.get(example.id, Verdict("dark")) for example in chosen]

    found, looked_at = find_label_errors(student(), train, known, ask, most=most, seed=seed)
    return [(error.id, error.answers) for error in found], looked_at, asked


def test_the_compiled_judge_is_asked_about_examples_that_no_round_saw_too() -> None:
    """What rounds said counts for stability; who gets no answer is left out."""
    final = {"x0": Verdict("bright"), "x2": Verdict(None, failure="cap"), "x5": Verdict("bright")}
    found, looked_at, asked = errors_in(final, most=100)
    assert found == [("x5", 2), ("x0", 1)]
    assert looked_at == 5
    assert sorted(asked) == [f"x{i}" for i in range(6)]


def test_where_not_all_are_asked_about_those_that_rounds_got_wrong_come_first() -> None:
    """Then those that no round saw, drawn by seed; none where none is asked for."""
    assert sorted(errors_in({}, most=2)[2]) == ["x3", "x5"]
    assert sorted(errors_in({}, most=5)[2]) == ["x0", "x2", "x3", "x4", "x5"]
    assert len({tuple(errors_in({}, most=3, seed=seed)[2]) for seed in range(9)}) > 2
    assert errors_in({}, most=0) == ([], 0, [])


def test_wrong_labels_that_are_planted_are_found() -> None:
    """Bright pictures that people called dark: the judge learns the rule from the others and contradicts the labels."""
    planted = [dspy.Example(**e).with_inputs("image") for e in NAMED]
    wrong = {planted[i].id for i in (-1, -2)}
    for i in (-1, -2):
        planted[i].label = "dark"
    sets, lm = Sets(planted, VALIDATION, TEST, "three sets"), world()
    with Watch(Console(file=io.StringIO()), shown=False) as watch:
        found = compile_and_measure(student(), sets, Models(lm, lm, lm), Search(rounds=6), watch)
    assert wrong <= {e.id for e in found.checks.label_errors if (e.label, e.judged) == ("dark", "bright")}
    assert found.checks.looked_at == len(planted)
    assert len(found.checks.to_dict()["label_errors"]["found"]) == len(found.checks.label_errors)


@pytest.mark.parametrize("evidence", ["both", "image"])
def test_label_errors_cost_at_most_what_the_estimate_says(evidence: str) -> None:
    """Beside the same run without them; what the search asked is free."""
    without, lm = world(reader), world(reader)
    aligned_with(without, evidence, label_errors=0)
    found = aligned_with(lm, evidence, label_errors=8)
    sets = Sets(NAMED[::2], VALIDATION[::2], TEST, "three sets")
    costs = costs_after(student(evidence=evidence), sets, Search(label_errors=8))
    assert found.checks.looked_at == 8
    assert 0 <= len(lm.engine.seen) - len(without.engine.seen) <= costs.label_errors == 8 * (1 + (evidence == "both"))


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
