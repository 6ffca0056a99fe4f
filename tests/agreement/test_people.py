"""Several people per image on the command line: one label out of many, and how far people agree."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from blpo_dspy.agreement.people import agreement_with_people, ceiling_of
from blpo_dspy.agreement.raters import human_agreement
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.cli.app import app
from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import load_rated
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.ratings import ratings_from_columns
from blpo_dspy.data.sources.photographs import RATERS, write_dataset
from blpo_dspy.errors import BlpoError, DataError

SCALE = LabelSpace.ordinal(1, 5)
SMALL = ["--rounds", "1", "--inner-steps", "0", "--batch-size", "4", "--judge-model", "embedded"]
COMPILE = ("--scale", "1-5", "--task", "Rate this photograph.", *SMALL)


def blpo(*arguments: object) -> Any:
    """Runs a command in this process; an unexpected exception is raised."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 rated photographs; "wide.csv" has three people's columns, "long.csv" a row for each rating.

    Ann gives the true label; Bob is one level lower on every fourth image; Cem left every fifth image out.
    """
    folder = tmp_path_factory.mktemp("people")
    with write_dataset(folder, RATERS["colour"], train=40, val=0, test=0).train.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wide = [
        {
            "image": row["image"],
            "ann": row["label"],
            "bob": str(max(int(row["label"]) - (number % 4 == 0), 1)),
            "cem": row["label"] if number % 5 else "",
        }
        for number, row in enumerate(rows)
    ]
    write(folder / "wide.csv", wide)
    long = [
        {"image": row["image"], "label": row[who], "who": who}
        for who in ("ann", "bob", "cem")
        for row in wide
        if row[who]
    ]
    write(folder / "long.csv", long)
    return folder


def write(table: Path, rows: list[dict[str, str]]) -> None:
    """Writes a CSV."""
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_columns_and_repeated_rows_give_the_same_labels(photos: Path) -> None:
    """One example per image with the majority's label; ratings stay beside it and are no input."""
    wide = load_rated(photos / "wide.csv", labels=SCALE, columns=Columns(raters=["ann", "bob", "cem"]))
    long = load_rated(photos / "long.csv", labels=SCALE, columns=Columns(rater="who"))
    assert [(e.id, e.label) for e in wide.examples] == [(e.id, e.label) for e in long.examples]
    assert len(wide.examples) == 40
    assert sorted(wide.rows) == sorted(long.rows)
    assert set(wide.examples[0].inputs().keys()) == {"image"}
    assert dict(wide.examples[1].ratings) == dict.fromkeys(("ann", "bob", "cem"), wide.examples[1].label)


def test_repeated_rows_without_a_repeated_image_are_told(photos: Path) -> None:
    """Then there is no agreement of people to measure, which they were given for."""
    write(photos / "once.csv", [row for row in read(photos / "long.csv") if row["who"] == "ann"])
    with pytest.warns(UserWarning, match="no image has labels of several people"):
        load_rated(photos / "once.csv", labels=SCALE)


@pytest.mark.slow
def test_the_record_tells_how_far_people_agree_and_the_judge_with_them(photos: Path, tmp_path: Path) -> None:
    """The figures are those of the raters' module; the images on which people disagree are listed."""
    done = blpo(
        "compile", photos / "wide.csv", "--rater-columns", "ann,bob,cem", *COMPILE, "--out", tmp_path / "judge.json",
        "--run-dir", tmp_path / "run",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    humans = json.loads((tmp_path / "run" / "result.json").read_text())["humans"]
    rows = read(photos / "wide.csv")
    columns = {who: [row[who] for row in rows] for who in ("ann", "bob", "cem")}
    expected = human_agreement(ratings_from_columns(SCALE, [row["image"] for row in rows], columns))
    assert (humans["rule"], humans["raters"], humans["items"], humans["pairs"]) == ("majority", 3, 40, 3)
    assert humans["disagreeing"] == len(expected.disagreements) > 0
    said = " ".join(done.stdout.split())
    assert f"Ceiling {humans['headline']}" in said
    listed = read(tmp_path / "run" / "disagreements.csv")
    assert {row["item"] for row in listed} == {found.item for found in expected.disagreements}
    assert set(listed[0]) == {"item", "label", "degree", "ratings"}
    assert "3 raters, labels by majority" in said


@pytest.mark.slow
def test_people_and_the_judge_are_compared_on_the_same_images(photos: Path, tmp_path: Path) -> None:
    """Those of the test set, with intervals."""
    done = blpo(
        "compile", photos / "wide.csv", "--rater-columns", "ann,bob,cem", *COMPILE, "--out", tmp_path / "judge.json",
        "--json",
    )  # fmt: skip
    record = json.loads(done.stdout)
    humans, tested = record["humans"], set(record["data"]["test"]["ids"])
    rows = [row for row in read(photos / "wide.csv") if row["image"] in tested]
    columns = {who: [row[who] for row in rows] for who in ("ann", "bob", "cem")}
    expected = human_agreement(ratings_from_columns(SCALE, [row["image"] for row in rows], columns))
    assert humans["images"] == len(tested) == len(rows)
    assert (humans["kappa"], humans["alpha"]) == (pytest.approx(expected.kappa), pytest.approx(expected.alpha))
    ends = humans["intervals"]
    for value, name in ((humans["kappa"], "kappa"), (humans["alpha"], "alpha"), (humans["judge"]["after"], "after")):
        assert -1 <= ends[name]["low"] <= value <= ends[name]["high"] <= 1
    assert humans["headline"].startswith(
        f"people agree with each other at kappa {expected.kappa:.2f} "
        f"({ends['kappa']['low']:.2f} to {ends['kappa']['high']:.2f}; alpha {expected.alpha:.2f})"
    )
    assert humans["headline"].endswith(f"on the same {len(tested)} images")


@pytest.mark.slow
def test_repeated_rows_without_names_have_an_alpha_and_no_kappa_between_people(photos: Path, tmp_path: Path) -> None:
    """The list of disagreements stands beside the judge where there is no run folder."""
    done = blpo("compile", photos / "long.csv", "--repeated-rows", *COMPILE, "--out", tmp_path / "judge.json", "--json")
    humans = json.loads(done.stdout)["humans"]
    assert humans["kappa"] is None
    assert 0.5 < humans["alpha"] < 1
    assert humans["raters"] == 3
    assert humans["judge"]["after"] is not None
    assert "people agree with each other at alpha" in humans["headline"]
    beside = {path.name for path in tmp_path.iterdir()} - {"judge.label_errors.csv"}
    assert beside == {"judge.json", "judge.disagreements.csv"}


@pytest.mark.slow
def test_evaluate_shows_the_peoples_agreement_beside_the_judges(photos: Path, tmp_path: Path) -> None:
    """On the screen and in the record."""
    blpo("compile", photos / "wide.csv", "--label-column", "ann", *COMPILE, "--out", tmp_path / "judge.json")
    options = (tmp_path / "judge.json", photos / "long.csv", "--rater-column", "who", "--model", "embedded")
    humans = json.loads(blpo("evaluate", *options, "--json").stdout)["humans"]
    assert humans["judge"]["before"] is None
    shown = " ".join(blpo("evaluate", *options).stdout.split())
    assert f"the judge with people at kappa {humans['judge']['after']:.2f}" in shown


def test_means_ties_and_missing_ratings(photos: Path, tmp_path: Path) -> None:
    """The mean of levels is rounded; images without a winner or a rating are left out, counted, and still listed."""
    images = [row["image"] for row in read(photos / "wide.csv")]
    cells = [("1", "4"), ("2", "2"), ("", ""), ("5", "")]
    rows = [{"image": image, "a": a, "b": b} for image, (a, b) in zip(images, cells, strict=False)]
    write(photos / "few.csv", rows)
    mean = load_rated(photos / "few.csv", labels=SCALE, columns=Columns(raters=["a", "b"]), rule="mean")
    assert [e.label for e in mean.examples] == [2, 2, 5]
    assert mean.combined.unrated == (images[2],)
    named = LabelSpace(1, 2, 3, 4, 5)
    majority = load_rated(photos / "few.csv", labels=named, columns=Columns(raters=["a", "b"]))
    assert [e.label for e in majority.examples] == [2, 5]
    assert majority.combined.tied == (images[0],)
    with pytest.raises(BlpoError, match="no order, so no mean"):
        load_rated(photos / "few.csv", labels=named, columns=Columns(raters=["a", "b"]), rule="mean")


def test_bad_ratings_are_listed_with_all_other_bad_rows(photos: Path) -> None:
    """By person and row; two ratings by one person are an error too."""
    rows = read(photos / "wide.csv")
    write(photos / "bad.csv", [{**rows[0], "ann": "ten"}, {**rows[1], "image": "nowhere.png", "bob": "9"}])
    with pytest.raises(DataError) as caught:
        load_rated(photos / "bad.csv", labels=SCALE, columns=Columns(raters=["ann", "bob"]))
    assert len(caught.value.problems) == 3
    assert caught.value.summary.startswith(f"{photos / 'bad.csv'}: 2 of 2 rows cannot be used")
    long = read(photos / "long.csv")
    write(photos / "twice.csv", [long[0], long[0]])
    with pytest.raises(DataError, match="more than once"):
        load_rated(photos / "twice.csv", labels=SCALE, columns=Columns(rater="who"))
    write(photos / "none.csv", [{**rows[0], "ann": "", "bob": ""}])
    with pytest.raises(DataError, match="nobody rated any image"):
        load_rated(photos / "none.csv", labels=SCALE, columns=Columns(raters=["ann", "bob"]))


WRONG = {
    "one column": (("--rater-columns", "ann"), "name at least two columns, each once"),
    "a column twice": (("--rater-columns", "ann,ann"), "name at least two columns, each once"),
    "both ways": (("--rater-columns", "ann,bob", "--repeated-rows"), "not in both"),
    "no such column": (("--rater-columns", "ann,dan"), "no column 'dan'"),
    "no such name column": (("--rater-column", "dan", "--label-column", "ann"), "no column 'dan'"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_options_that_do_not_fit_are_one_message(case: Any, photos: Path, tmp_path: Path) -> None:
    """Before any call."""
    arguments, message = case
    done = blpo("compile", photos / "wide.csv", *arguments, *COMPILE, "--out", tmp_path / "judge.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_the_judges_kappa_is_its_mean_over_people_and_failed_calls_do_not_count() -> None:
    """Ann's two labels are met, Bob's are met in reverse."""
    space = LabelSpace("a", "b")
    examples = [
        dspy.Example(label=label, ratings=[("ann", label), ("bob", other)])
        for label, other in (("a", "b"), ("b", "a"), ("a", "a"))
    ]
    verdicts = [Verdict("a"), Verdict("b"), Verdict(None, failure="no answer")]
    assert agreement_with_people(space, examples, verdicts).value == 0
    nameless = [dspy.Example(label=e.label, ratings=[(None, e.label)]) for e in examples]
    found = agreement_with_people(space, nameless, verdicts)
    assert found.value == 1
    assert found.interval is not None
    assert found.interval.low < 1 == found.interval.high
    constant = agreement_with_people(space, nameless[:1], verdicts[:1])
    assert (constant.value, constant.interval) == (None, None)


def test_people_and_judge_on_scores_are_compared_by_spearman() -> None:
    """Who gave which score is known; the judge is correlated with each person, and the ceiling with each pair."""
    scores = LabelSpace.scores(0, 100)
    truth = [3 * i + 0.5 for i in range(30)]
    shift = [0, 40, 20, 10, 30]
    people = {"ann": truth, "bob": [x + shift[i % 5] / 4 for i, x in enumerate(truth)]}
    examples = [
        dspy.Example(label=x, ratings=[(who, given[i]) for who, given in people.items()]) for i, x in enumerate(truth)
    ]
    judge = [x / 2 + shift[i % 5] for i, x in enumerate(truth)]
    verdicts = [Verdict(None), *map(Verdict, judge[1:])]
    found = ceiling_of(scores, examples, None, verdicts)
    assert found.people.spearman == pytest.approx(spearmanr(people["ann"], people["bob"]).statistic)
    correlations = [spearmanr(given[1:], judge[1:]).statistic for given in people.values()]
    assert found.after is not None
    assert found.after.value == pytest.approx(sum(correlations) / 2)
    assert found.headline.startswith("people agree with each other at Spearman 0.9")
    assert "the judge with people at Spearman" in found.headline
    plain = found.to_dict()
    assert "kappa" not in plain
    assert set(plain["intervals"]) == {"spearman", "alpha", "before", "after"}


@pytest.mark.slow
def test_scores_of_several_people_become_labels_on_the_command_line(photos: Path, tmp_path: Path) -> None:
    """By their mean, with decimals; the report has the ceiling in words."""
    rows = [
        {
            "image": row["image"],
            **{who: str(20 * int(row[who]) - 10.5 - place / 2) for place, who in enumerate(("ann", "bob"))},
        }
        for row in read(photos / "wide.csv")
    ]
    write(photos / "scores.csv", rows)
    options = ("--scores", "0-100", "--task", "Rate this photograph.", *SMALL, "--rater-columns", "ann,bob")
    judge = tmp_path / "run" / "judge.json"
    done = blpo(
        "compile",
        photos / "scores.csv",
        *options,
        "--rater-rule",
        "mean",
        "--out",
        judge,
        "--run-dir",
        tmp_path / "run",
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "run" / "report.html").read_text()
    assert "People with each other, Spearman’s ρ" in page
    assert "People agree with each other at Spearman" in page
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert any(not float(true).is_integer() for true, _ in record["after"]["test"]["pairs"])
