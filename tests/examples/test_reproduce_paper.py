"""The paper's protocol: its plan, its sets and methods, and a small part of the smoke run; CI runs the whole of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import dspy
import pytest
from PIL import Image

from blpo_dspy.embedded import embedded_lm

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import reproduce_paper
from paper.copies import write_copies
from paper.measures import MEASURES
from paper.methods import ABLATIONS, PAPER, SMOKE, methods, sweep
from paper.published import ABLATION, MAIN
from paper.sets import PAPERS, TASKS, draw, open_sets, stand_in
from paper.tables import point

pytestmark = pytest.mark.slow

SIZES = {"unsafebench": 12, "seetrue": 4, "imagereward": 14, "agin": 10, "agiqa3k": 10}


def test_the_plan_costs_nothing_and_touches_nothing(tmp_path: Path, monkeypatch, capsys) -> None:
    """Without --yes: sizes, bounds and dollars for the paper's models, with no network and no file."""
    monkeypatch.chdir(tmp_path)
    assert reproduce_paper.main(["--datasets", "agin", "--methods", "none,opro,blpo", "--seeds", "0,1"]) == 0
    shown = capsys.readouterr().out
    images, searches, cap, calls, _, dollars = re.search(r"\| agin \| main \|(.*)\|", shown)[1].split("|")
    assert (images.strip(), searches.strip()) == ("100 + 100", "4")
    # Two searches of either method within the cap, and three programs measured on both halves, for two seeds.
    most = 4 * int(cap.replace("≤", "").replace(",", "")) + 2 * 3 * 200
    assert int(calls.split("–")[1].replace(",", "")) == most
    assert 0 < float(dollars.split("–")[0]) < float(dollars.split("–")[1])
    assert "Nothing was fetched and no model was asked" in shown
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_price_is_named(capsys) -> None:
    """Unknown is never nothing."""
    words = ["--datasets", "agin", "--methods", "blpo", "--judge-model", "hosted_vllm/mine"]
    assert reproduce_paper.main([*words, "--api-base", "http://localhost:8000/v1"]) == 0
    assert "US dollars: unknown, as nobody knows what hosted_vllm/mine costs" in capsys.readouterr().out


def test_blpo_and_its_ablations_have_the_papers_sizes() -> None:
    """T = K = 5 and at most ten errors; the ablations differ in where the verbalizer instruction comes from alone."""
    made = {name: m.make(prompt_model=embedded_lm(), **m.options) for name, m in methods(PAPER, ABLATIONS).items()}
    assert [made[name].verbalizer_search for name in ABLATIONS] == ["fixed", "judge", "learned"]
    for optimizer in made.values():
        assert (optimizer.rounds, optimizer.inner_steps, optimizer.batch_size) == (5, 5, 10)
        assert (optimizer.shown_right, optimizer.select, optimizer.minibatch_size) == (0, "last", None)


@pytest.mark.parametrize("sizes", [PAPER, SMOKE])
def test_the_methods_can_be_made_and_the_sweeps_pass_through_blpo(sizes) -> None:
    """Every option exists; the middle of each sweep is the run of the main table."""
    for method in [*methods(sizes).values(), *sweep(sizes).values()]:
        if method.make is not None:
            method.make(prompt_model=embedded_lm(), **method.options)
    for option, values in sizes.sweeps.items():
        names = [point(sizes, option, value) for value in values]
        assert names.count("blpo") == 1
        assert set(names) - {"blpo"} <= set(sweep(sizes))


def test_the_published_numbers_belong_to_methods_and_sets_of_the_protocol() -> None:
    """A misspelt name would leave a gap in the tables."""
    assert set(MAIN) | set(ABLATION) <= set(PAPERS)
    assert {name for figures in MAIN.values() for name in figures} <= set(methods(PAPER))
    assert all(set(figures) == set(ABLATIONS) for figures in ABLATION.values())


@pytest.mark.parametrize("name", list(TASKS))
def test_a_stand_in_has_the_size_of_appendix_a(name: str) -> None:
    """And fits the judge that every method starts from."""
    data = stand_in(name)
    expected = {"unsafebench": 110, "seetrue": 200, "imagereward": 140, "agin": 100, "agiqa3k": 100}[name]
    assert len(data.train) == len(data.test) == expected
    assert len({example.image.url for example in data.train}) == expected
    assert data.student.evidence == "image"
    assert "{" not in data.student.instruction
    assert set(data.train[0].inputs().keys()) == {"image", *data.task.context}


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    """Yields a folder with a synthetic copy of every dataset."""
    folder = tmp_path_factory.mktemp("copies")
    write_copies(folder, SIZES)
    return folder


@pytest.mark.parametrize("name", list(SIZES))
def test_a_copy_is_read_as_the_real_set_is(name: str, copies: Path, tmp_path: Path) -> None:
    """Through the same source, into two balanced halves; its ids lead to the same images again."""
    source = open_sets([name], copies)[name]
    data = draw(source, SIZES[name], tmp_path / "ids.json")
    again = draw(source, SIZES[name], tmp_path / "ids.json")
    for half in (data.train, data.test):
        labels = [example.label for example in half]
        assert len({labels.count(label) for label in data.task.labels.labels}) == 1
        assert sum(map(labels.count, data.task.labels.labels)) == SIZES[name]
    assert {e.id for e in data.train}.isdisjoint(e.id for e in data.test)
    assert [e.id for e in again.train] == [e.id for e in data.train]
    assert isinstance(data.train[0].image, dspy.Image)


def test_the_measure_of_pairs_is_defined_on_either_half(copies: Path, tmp_path: Path) -> None:
    """ImageReward's authors compare images of a prompt; no prompt is in both halves."""
    data = draw(open_sets(["imagereward"], copies)["imagereward"], SIZES["imagereward"], tmp_path / "ids.json")
    (metric,) = MEASURES["imagereward"]
    assert all(metric.measure(half, [e.label for e in half]) == 1.0 for half in (data.train, data.test))
    assert {e.group for e in data.train}.isdisjoint(e.group for e in data.test)


def test_sets_that_are_fetched_by_hand_are_all_named_at_once(tmp_path: Path, capsys) -> None:
    """Before anything is drawn or paid for."""
    status = reproduce_paper.main(["--yes", "--datasets", "agin,agiqa3k", "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert status == 1
    assert "agin has to be fetched by hand" in told
    assert "agiqa3k has to be fetched by hand" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--datasets", "unsafebnch"], "unknown datasets unsafebnch; choose from unsafebench, seetrue"),
        (["--methods", "blop"], "unknown methods blop; choose from none, opro"),
        (["--judge-model", "llava", "--api-base", "http://localhost:8000/v1"], "lacks its provider"),
    ],
)
def test_a_misspelt_choice_is_one_clear_message(words, told, capsys) -> None:
    """With what there is to choose from."""
    assert reproduce_paper.main(words) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--datasets", ""], "argument --datasets: it names none"),
        (["--methods", ","], "argument --methods: it names none"),
        (["--seeds", "a"], "argument --seeds: --seeds 'a' is not a list of seeds; write whole numbers such as 0,1,2"),
    ],
)
def test_a_list_that_is_none_is_refused(words, told, capsys) -> None:
    """With the option's name."""
    with pytest.raises(SystemExit):
        reproduce_paper.main(words)
    assert told in capsys.readouterr().err


def test_a_run_prints_its_tables_and_goes_on_where_it_was(tmp_path: Path, capsys) -> None:
    """The same command again pays for nothing; more methods may join. No search made more calls than it may."""
    words = ["--smoke", "--datasets", "seetrue", "--out", str(tmp_path / "out"), "--methods"]
    assert reproduce_paper.main([*words, "none,textgrad"]) == 0
    first = capsys.readouterr().out
    assert "A check of the mechanism" in first
    assert first.count("seetrue: none, seed 0:") == 1
    journals = sorted((tmp_path / "out").rglob("*.jsonl"))
    paid = [path.read_bytes() for path in journals]
    assert reproduce_paper.main([*words, "none,textgrad"]) == 0
    second = capsys.readouterr().out
    assert [path.read_bytes() for path in journals] == paid
    assert second.partition("## Main table")[2] == first.partition("## Main table")[2]
    for heading in ("### seetrue", "### Ablation", "### Sweeps (Fig. 4), else B = 3, K = 1, T = 2"):
        assert heading in first
    cap = int(re.search(r"\| seetrue \| main .*≤ (\d+) \|", first)[1])
    assert all(int(calls) <= cap for calls in re.findall(r"seetrue: textgrad, seed \d: .* (\d+) calls", first))
    assert (tmp_path / "out" / "tables.md").read_text(encoding="utf-8") in first
    for name in ("methods.png", "sweeps.png"):
        with Image.open(tmp_path / "out" / name) as drawn:
            assert drawn.width > 500
