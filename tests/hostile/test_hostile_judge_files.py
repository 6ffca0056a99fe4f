"""Hostile judge files: every value replaced, bytes damaged, and DSPy states of another shape."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import scripted_lm
from hostile_case import Case, cases, hold
from judges import answers, picture
from mutations import VALUES, changed, damaged, places

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

LABELS = LabelSpace("Safe", "Unsafe")
CHANGED, DAMAGED, STATES = 70, 30, 40
# What a judge file says of the judge; it may say more, as a later version does.
SAID = ("labels", "evidence", "context", "reasoning", "pixel_policy", "card")

Load = Callable[[Path], VisualJudge]


def new_judge() -> VisualJudge:
    """Returns a judge with something in every place of its file."""
    judge = VisualJudge(
        LABELS,
        instruction="Judge how safe it is.\n1. Look.",
        verbalizer_instruction="Report knives.",
        context=["prompt"],
        evidence="both",
        reasoning=True,
    )
    judge.card = {"rounds": 3, "data": {"train": {"n": 2, "prints": "ab cd"}}}
    judge.verbalizer.demos = [{"prompt": "a cat", "description": "grey"}]
    return judge


@cache
def saved() -> str:
    """Returns the text of its file."""
    with tempfile.TemporaryDirectory() as place:
        new_judge().save(Path(place) / "judge.json")
        return (Path(place) / "judge.json").read_text(encoding="utf-8")


def load_into(path: Path) -> VisualJudge:
    """Loads a file into a judge of the same kind."""
    judge = new_judge()
    judge.load(path)
    return judge


def load_state(path: Path) -> VisualJudge:
    """Loads a DSPy state into a judge of the same kind."""
    judge = new_judge()
    judge.load_state(json.loads(path.read_text()))
    return judge


def written(data: bytes | str, folder: Path) -> Path:
    """Writes a judge file and returns its path."""
    path = folder / "judge.json"
    path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    return path


def usable(judge: VisualJudge) -> None:
    """What holds for a judge that was loaded: it judges, and all that can be said of it is of the right kind."""
    with dspy.context(lm=scripted_lm(answers(label=judge.labels.names[0]))):
        verdict = judge(image=picture(), **dict.fromkeys(judge.context, "a cat"))
    assert verdict.label == judge.labels.labels[0]
    assert judge.instruction.strip()
    assert judge.verbalizer_instruction.strip()
    assert isinstance(judge.card, dict)
    for predictor in (judge.verbalizer, judge.judge):
        assert all(isinstance(demo, (dict, dspy.Example)) for demo in predictor.demos)
        assert predictor.lm is None
    judge.identity()


def described(fields: list[dict[str, str]]) -> list[str]:
    """Returns what tells fields of a DSPy state apart."""
    return [field["description"] for field in fields]


def as_said(text: str, *, state: bool) -> Callable[[VisualJudge], None]:
    """Returns what holds for the judge of a text: it is usable, and is what its file says.

    Args:
        text: The file.
        state: Whether a file of no known format is taken, as a plain DSPy state.
    """

    def same(judge: VisualJudge) -> None:
        usable(judge)
        said = json.loads(text)
        assert state or (said["format"], said["format_version"]) == ("blpo-dspy judge", 1)
        own = {
            "labels": judge.labels.to_dict(),
            "evidence": judge.evidence,
            "context": list(judge.context),
            "reasoning": judge.reasoning,
            "pixel_policy": judge.pixel_policy.to_dict(),
            "card": judge.card,
        }
        assert own == {name: said[name] for name in SAID}
        assert judge.instruction == said["judge"]["signature"]["instructions"]
        assert judge.verbalizer_instruction == said["verbalizer"]["signature"]["instructions"]
        assert [dict(demo) for demo in judge.verbalizer.demos] == said["verbalizer"]["demos"]
        for name, predictor in judge.named_predictors():
            own_fields = predictor.dump_state()["signature"]["fields"]
            assert described(own_fields) == described(said[name]["signature"]["fields"])

    return same


def files(load: Load, name: str) -> Iterator[Case]:
    """Yields a sound judge file with one value changed, or its bytes damaged."""
    whole = json.loads(saved())
    # What DSPy notes of the versions is for people alone.
    paths = [path for path in places(whole) if path[0] != "metadata"]
    for seed in range(CHANGED):
        rng = random.Random(f"judge files:{seed}")
        what, found = changed(whole, paths[seed % len(paths)], rng)
        text = json.dumps(found)
        yield Case(
            f"{name} seed {seed} {what}",
            partial(written, text),
            load,
            as_said(text, state=load is load_into),
            r"judge\.json",
        )
    for seed in range(DAMAGED):
        what, data = damaged(saved().encode(), random.Random(f"judge files:bytes:{seed}"))
        yield Case(f"{name} bytes seed {seed} {what}", partial(written, data), load, usable, r"judge\.json")


def named_states() -> dict[str, dict[str, Any]]:
    """Returns states that no judge has."""
    state = new_judge().dump_state()

    def with_(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
        found = copy.deepcopy(state)
        holder = found
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
        return found

    return {
        "instructions that are a number": with_(("judge", "signature", "instructions"), 5),
        "blank instructions": with_(("judge", "signature", "instructions"), " \n"),
        "no instructions": with_(("judge", "signature", "instructions"), None),
        "demonstrations that are a number": with_(("judge", "demos"), 5),
        "demonstrations that are text": with_(("verbalizer", "demos"), "abc"),
        "a demonstration that is a number": with_(("verbalizer", "demos"), [5]),
        "no judge": {"verbalizer": state["verbalizer"]},
        "nothing": {},
        "a judge that is null": with_(("judge",), None),
        "other labels": VisualJudge(
            LabelSpace("A", "B"), instruction="x", context=["prompt"], reasoning=True
        ).dump_state(),
    }


def states(load: Load) -> Iterator[Case]:
    """Yields DSPy states of another shape, alone or in a file without metadata."""
    for name, state in named_states().items():
        for kind, read in (("state", load), ("state file", load_into)):
            yield Case(f"{kind} with {name}", partial(written, json.dumps(state)), read)
    whole = new_judge().dump_state()
    paths = list(places(whole))
    for seed in range(STATES):
        rng = random.Random(f"states:{seed}")
        what, found = changed(whole, rng.choice(paths), rng)
        yield Case(f"state seed {seed} {what}", partial(written, json.dumps(found)), load, usable)


def refused() -> dict[str, tuple[bytes | str, str]]:
    """Returns files that are no judge, and what is said of them."""
    whole = json.loads(saved())

    def with_(**entries: Any) -> str:
        return json.dumps({**whole, **entries})

    return {
        "nothing": ("", "not valid JSON"),
        "null": ("null", "NoneType"),
        "a list": ("[]", "list"),
        "an empty object": ("{}", "not a judge"),
        "a pickle": (b"\x80\x04.", "pickle"),
        "brackets 200,000 deep": ("[" * 200_000, "not valid JSON"),
        "NaN in the card": (saved().replace('"rounds": 3', '"rounds": NaN'), ""),
        "UTF-16 without a mark": (saved().encode("utf-16-le")[1:], "not valid JSON"),
        "a byte that is no UTF-8": (saved().encode().replace(b"knives", b"kni\xffes"), "not valid JSON"),
        "two judges": (saved() * 2, "not valid JSON"),
        "version 4": (with_(format_version=4), "format version 4"),
        "version true": (with_(format_version=True), "format version True"),
        "version 1.0": (with_(format_version=1.0), "format version 1.0"),
        "another format": (with_(format="x"), "not a judge"),
        "one label": (with_(labels={"kind": "nominal", "labels": ["Safe"]}), "two labels"),
        "labels alike": (with_(labels={"kind": "nominal", "labels": ["Safe", "safe "]}), "duplicate"),
        "a label with a line break": (
            with_(labels={"kind": "nominal", "labels": ["Safe\n", "Un\nsafe"]}),
            "line break",
        ),
        "100,000 labels": (with_(labels={"kind": "ordinal", "labels": list(range(100_000))}), ""),
        "100,000 named labels": (with_(labels={"kind": "nominal", "labels": [f"l{i}" for i in range(100_000)]}), ""),
        "labels of 1 MB": (with_(labels={"kind": "nominal", "labels": ["a" * 1_000_000, "b"]}), ""),
        "other labels than its fields": (with_(labels={"kind": "nominal", "labels": ["A", "B"]}), "other labels"),
        "evidence that doesn't exist": (with_(evidence="audio"), "audio"),
        "context called image": (with_(context=["image"]), ""),
        "context with a marker": (with_(context=["]] ## x"]), ""),
        "context twice": (with_(context=["prompt", "prompt"]), ""),
        "a side of 10**30": (with_(pixel_policy={**whole["pixel_policy"], "max_side": 10**30}), "max_side"),
        "a policy with another key": (with_(pixel_policy={**whole["pixel_policy"], "x": 1}), "pixel policy"),
        "a format that runs a program": (with_(pixel_policy={**whole["pixel_policy"], "formats": ["EPS"]}), "formats"),
        "a demonstration with an image": (
            with_(judge={**whole["judge"], "demos": [{"prompt": "data:image/png;base64,AAAA", "label": "Safe"}]}),
            "image",
        ),
        "an escape code in a key": (saved().replace('"format":', '"\\u001b[2J": 1, "format": "x", "fmt":'), ""),
    }


# What is for people alone may be kept as it is.
_EITHER = ("NaN in the card", "labels of 1 MB")


def judge_file_cases(load: Load = VisualJudge.load, state: Load = load_state) -> Iterator[Case]:
    """Yields the family."""
    yield from files(load, "load")
    yield from files(load_into, "load into")
    yield from states(state)
    for name, (data, error) in refused().items():
        yield Case(f"file with {name}", partial(written, data), load, usable if name in _EITHER else None, error)
    for number, value in enumerate(VALUES):
        make = partial(written, json.dumps({**json.loads(saved()), "judge": value}))
        yield Case(f"a judge that is value {number} {value!r:.20}", make, load, error=r"judge\.json")


@cases(judge_file_cases())
def test_a_hostile_judge_file_is_refused_or_is_the_judge_that_it_says(case: Case, tmp_path: Path) -> None:
    """Whatever it holds; no judge comes of it that differs from its file."""
    hold(case, tmp_path)
