"""The API misused: values of another type, out of range or without end in every public argument."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import scripted_lm
from hostile_case import Case, cases, hold, import_litellm
from image_files import write_photos
from judges import SAFETY, SCALE, answers, judge_with, picture
from workspaces import shared
from worlds import LABELS, TRAIN, VALIDATION, student, world

from blpo_dspy.agreement.measure import measure_agreement
from blpo_dspy.comparison.compare import compare
from blpo_dspy.data.examples import load_examples
from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources import open_source
from blpo_dspy.data.splits import cut_folds, split_examples
from blpo_dspy.models.lm import Models, make_lm
from blpo_dspy.optimizers import BLPO
from blpo_dspy.optimizers.estimate import estimate
from blpo_dspy.optimizers.proposals.guards import Guards
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import VisualJudge
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.workspace import Workspace

pytestmark = pytest.mark.slow

NAN, INF = float("nan"), float("inf")
NO_NUMBER: tuple[Any, ...] = ("x", [], {}, NAN)
NO_COUNT: tuple[Any, ...] = (*NO_NUMBER, -1, 1.5, -INF)
HUGE = 10**400

Doing = Callable[[Any], Any]


def blpo(**options: Any) -> BLPO:
    """Returns an optimizer with models of a tiny world."""
    lm = world()
    return BLPO(**{"prompt_model": lm, "task_model": lm, "rounds": 1, "inner_steps": 0, "num_threads": 2, **options})


def compiled(**options: Any) -> Any:
    """Compiles the tiny world's judge."""
    return blpo(**options).compile(student(), trainset=TRAIN[::4], valset=VALIDATION[::6])


def judged(**inputs: Any) -> Any:
    """Judges with a context text."""
    return judge_with(answers(), context=["prompt"], evidence="image")(**inputs)


def batched(items: Any, **options: Any) -> Any:
    """Judges a batch."""
    judge = judge_with(answers(), evidence="image")
    return judge.batch(items, disable_progress_bar=True, **options)


def predicted(folder: Path, **changes: Any) -> Any:
    """Judges two photographs into a table."""
    write_photos(folder / "photos", 2)
    lm = scripted_lm(answers())
    judge = VisualJudge(SAFETY, instruction="Judge.", evidence="image")
    arguments = {"judge": judge, "source": folder / "photos", "out": folder / "p.csv", "models": Models(lm, lm, lm)}
    arguments |= changes
    return shared(predict, arguments.pop("judge"), arguments.pop("source"), **arguments)


def compared(folder: Path, **changes: Any) -> Any:
    """Compares methods on the tiny world."""
    lm = world()
    arguments = {
        "student": student(),
        "trainset": TRAIN[::4],
        "valset": VALIDATION[::6],
        "testset": VALIDATION[1::6],
        "models": Models(lm, lm, lm),
        "max_calls": 100,
        "optimizers": "start",
        "out": folder / "c",
        **changes,
    }
    return shared(compare, arguments.pop("student"), **arguments)


def saved(name: Any) -> Doing:
    """Returns the saving of a judge under a name within the case's folder."""
    return lambda folder: student().save(folder / name if isinstance(name, str) else name)


def constructors() -> Iterator[tuple[str, Doing, Sequence[Any]]]:
    """Yields the arguments of values and judges: a name, what is done with a value, values to refuse."""
    for name in ("max_side", "max_bytes", "jpeg_quality", "max_pixels"):
        yield f"PixelPolicy({name})", lambda v, n=name: PixelPolicy(**{n: v}), (*NO_COUNT, None, True, 0, INF, HUGE)
    yield "PixelPolicy(formats)", lambda v: PixelPolicy(formats=v), ("JPEG", (), ("PNG",), ("JPEG", "EPS"), 5, None)
    yield "PixelPolicy(check)", lambda v: PixelPolicy(check=v), ("DECODE", "", None, True, 5, ["decode"], {})
    yield "PixelPolicy.from_dict", PixelPolicy.from_dict, (None, 5, [], {}, {"max_side": 5})  # type: ignore[arg-type]
    for case in ((), ("a",), ("a", "A "), ("a", ""), ("a", None), ("a", 1.5), ("a", True), ("a", "b\n\nc"), ("a", [])):
        yield "LabelSpace", lambda v: LabelSpace(*v), (case,)
    yield "LabelSpace.ordinal", lambda v: LabelSpace.ordinal(*v), ((5, 1), (1, 1), ("1", "5"), (1.0, 5.0), (1, None))
    yield (
        "LabelSpace.from_dict",
        LabelSpace.from_dict,
        ({}, {"kind": "x"}, {"kind": "nominal", "labels": "ab"}, None, 5),
    )  # type: ignore[arg-type]
    yield "LabelSpace.index", SCALE.index, (0, 6, None, "5", [], 2.5)
    yield "LabelSpace.coerce", SCALE.coerce, (0, 6, "4.5", None, [], NAN, INF, -INF, HUGE, "x" * 100_000)
    yield "LabelSpace.loss", lambda v: SCALE.loss(v, 3), (0, None, "x", [])
    for name in ("max_calls", "max_tokens", "max_usd", "max_seconds"):
        yield f"Budget({name})", lambda v, n=name: Budget(**{n: v}), (*NO_NUMBER, 0, -1, -INF)
    yield "Budget(keep_calls)", lambda v: Budget(max_calls=10, keep_calls=v), ("x", 10, 11, [])
    yield "Guards(copied_words)", lambda v: Guards(copied_words=v), ("x", 2, -1, [], NAN)
    for name in ("label_shift", "part_loss"):
        yield f"Guards({name})", lambda v, n=name: Guards(**{n: v}), (*NO_NUMBER, -0.1, 1.1, INF)
    new: dict[str, Any] = {"instruction": "Judge."}
    yield "VisualJudge(labels)", lambda v: VisualJudge(v, **new), (None, 5, "ab", ["a", "b"], {}, LabelSpace)
    for name in ("instruction", "verbalizer_instruction"):
        yield (
            f"VisualJudge({name})",
            lambda v, n=name: VisualJudge(SAFETY, **{**new, n: v}),
            (*([None] if name == "instruction" else []), 5, "", " \n", [], b"x"),
        )
    yield "VisualJudge(images=…)", lambda v: VisualJudge(SAFETY, images=v, **new), (
        ["a", "a"], 5, [["a"]], [], None, ["label"], ["a b"], ["a: str"], ["a: list[str]"], [5], ["self"], {},
    )  # fmt: skip
    for text in ("image", "label", "a b", "ж", "class", "_x", "self", "model_config", "]] ## x", 5, None, ""):
        yield "VisualJudge(context)", lambda v: VisualJudge(SAFETY, context=[v], **new), (text,)
    yield "VisualJudge(context=…)", lambda v: VisualJudge(SAFETY, context=v, **new), (["a", "a"], 5, [["a"]])
    yield "VisualJudge(evidence)", lambda v: VisualJudge(SAFETY, evidence=v, **new), ("x", None, 5, [], "IMAGE")
    yield "VisualJudge(reasoning)", lambda v: VisualJudge(SAFETY, reasoning=v, **new), ("yes", None, 1, [])
    yield "VisualJudge(pixel_policy)", lambda v: VisualJudge(SAFETY, pixel_policy=v, **new), ("x", 5, {}, PixelPolicy)
    yield "judge.pixel_policy", lambda v: setattr(student(), "pixel_policy", v), ("x", 5, None, {}, PixelPolicy)


def calls() -> Iterator[tuple[str, Doing, Sequence[Any]]]:
    """Yields the arguments of a judge's calls, its files and its metric."""
    good = {"image": picture(), "prompt": "a cat"}
    for name, inputs in {
        "nothing": {},
        "no context": {"image": picture()},
        "no image": {"prompt": "a cat"},
        "too much": {**good, "x": 1},
        "an image as context": {**good, "prompt": dspy.Image(picture())},
        "a number as image": {**good, "image": 5},
        "text as image": {**good, "image": "a cat"},
        "a folder as image": {**good, "image": "."},
        "a list as image": {**good, "image": [picture()]},
    }.items():
        yield f"judge(…) with {name}", lambda v: judged(**v), (inputs,)
    yield "judge.batch", batched, (None, 5, "a.png", b"x", {"image": picture()}, [{"x": 1}], [dspy.Example(x=1)])
    yield "judge.batch(num_threads)", lambda v: batched([picture()], num_threads=v), ("x", 0, -1, [])
    yield "VisualJudge.load", VisualJudge.load, (None, 5, "no.json", ".", "a\0b", [], "x" * 300)  # type: ignore[arg-type]
    metric = student().as_metric
    for scores in (None, {}, {"dark": 1.0}, {"dark": 2, "bright": 0}, {"dark": NAN, "bright": 0}, {"a": 1, "b": 0}, 5):
        yield "judge.as_metric(scores)", lambda v: metric(scores=v), (scores,)
    yield "judge.as_metric(text scores)", lambda v: metric(scores=v), ({"dark": "x", "bright": "y"},)
    yield "judge.as_metric(fields)", lambda v: metric(scores={"dark": 0, "bright": 1}, fields=v), ({"x": "y"},)


def runs() -> Iterator[tuple[str, Doing, Sequence[Any]]]:
    """Yields the arguments of what runs a judge."""
    counts = (
        "rounds",
        "inner_steps",
        "batch_size",
        "shown_right",
        "minibatch_updates",
        "max_instruction_tokens",
        "num_threads",
    )
    for name in counts:
        yield f"BLPO({name})", lambda v, n=name: blpo(**{n: v}), NO_COUNT
    yield "BLPO(max_failed_share)", lambda v: blpo(max_failed_share=v), (*NO_NUMBER, -0.1, 1, 2, INF)
    yield "BLPO(seed)", lambda v: blpo(seed=v), ("x", NAN, None, [], 1.5)
    yield "BLPO(guards)", lambda v: blpo(guards=v), ("x", 5, {"copied_words": 8}, Guards)
    yield "BLPO(budget)", lambda v: blpo(budget=v), (100, "x", {}, Budget)
    yield "BLPO(labels)", lambda v: blpo(labels=v), (["dark", "bright"], "x", 5)
    yield "BLPO(metric)", lambda v: blpo(metric=v), (5, "x", lambda: 0, lambda a: 0, [])
    yield "BLPO(prompt_model)", lambda v: blpo(prompt_model=v), (None, "openai/x", dspy.LM, 5)
    for name in ("keep_back", "inner_loop", "verbalizer_search", "select"):
        yield f"BLPO({name})", lambda v, n=name: blpo(**{n: v}), ("x", 5, "")
    yield (
        "Workspace(prices)",
        lambda v: Workspace(prices=v),
        ({"x": 5}, {"x": (1,)}, {"x": ("a", "b")}, {"x": (-1, 1)}, {"x": (NAN, 1)}),
    )
    for value in (HUGE, NAN, INF, -1, 2, "x", None, [], dspy.Prediction(), dspy.Prediction(score=[])):
        yield "a metric's score", lambda v: compiled(metric=lambda example, prediction: v), (value,)
    for name, sets in {
        "no trainset": {"trainset": []},
        "a trainset of null": {"trainset": None},
        "a trainset of text": {"trainset": "x"},
        "a trainset of dicts": {"trainset": [{"image": picture(), "label": "dark"}]},
        "an empty valset": {"trainset": TRAIN, "valset": []},
        "one label": {"trainset": [e for e in TRAIN if e.label == "dark"]},
        "unknown labels": {"trainset": [e.copy(label="x") for e in TRAIN]},
        "labels of null": {"trainset": [e.copy(label=None) for e in TRAIN]},
        "no inputs": {"trainset": [dspy.Example(image=picture(), label="dark")]},
        "broken images": {"trainset": [e.copy(image="data:image/png;base64,AAAA") for e in TRAIN]},
    }.items():
        yield f"BLPO.compile with {name}", lambda v: blpo().compile(student(), **v), (sets,)
    yield (
        "BLPO.compile(student)",
        lambda v: blpo().compile(v, trainset=TRAIN),
        (None, 5, VisualJudge, dspy.Predict("a -> b")),
    )
    yield "estimate(latency)", lambda v: estimate(blpo(), student(), trainset=TRAIN, latency=v), (0, -1, NAN)
    yield (
        "measure_agreement",
        lambda v: measure_agreement(SAFETY, *v),
        ((["Safe"], []), (["x"], ["Safe"]), ([None], [None])),
    )
    yield (
        "split_examples(sizes)",
        lambda v: split_examples(TRAIN, labels=LABELS, sizes=v),
        (*((1, 2), (1, 2, 3, 4), (0, 1, 1), (-1, 1, 1), (1.5, 1, 1), ("a", "b", "c"), (9999, 1, 1), (True, 1, 1)),),
    )
    yield (
        "split_examples(fractions)",
        lambda v: split_examples(TRAIN, labels=LABELS, fractions=v),
        (*((0.5, 0.5), (1, 1, 1), (0, 0.5, 0.5), (-1, 1, 1), (NAN, 0.5, 0.5)),),
    )
    yield "split_examples of nothing", lambda v: split_examples(v, labels=LABELS), ([], TRAIN[:1])
    yield "cut_folds(folds)", lambda v: cut_folds(TRAIN, labels=LABELS, folds=v), (1, 0, -1, 9999)
    yield "load_examples", lambda v: load_examples(v, labels=SAFETY), (None, 5, [], {}, "no.csv", "", "no.txt", b"x")
    yield "open_source", open_source, ("nope", "", "../x", "http://127.0.0.1/x")
    yield "make_lm", make_lm, (None, 5, "", "  ", "openai/", "/x", "nope", "embedded?seed=x", "embeddedd", "a b")
    yield (
        "make_lm(api_base)",
        lambda v: make_lm("openai/x", api_base=v),
        ("", "x", "ftp://h", "http://", "localhost:8000"),
    )
    yield "make_lm(role)", lambda v: make_lm("openai/x", role=v), ("x", "", 5)
    yield "Models.named", Models.named, (None, "", 5, "nope")


def in_a_folder() -> Iterator[tuple[str, Callable[[Path, Any], Any], Sequence[Any]]]:
    """Yields what writes: nothing may be left behind."""
    yield "predict(judge)", lambda folder, v: predicted(folder, judge=v), (None, "judge.json", VisualJudge)
    yield (
        "predict(source)",
        lambda folder, v: predicted(folder, source=v),
        (None, 5, [], "no", [5], [None], {}, "no.csv", ""),
    )
    yield (
        "predict(out)",
        lambda folder, v: predicted(folder, out=folder / v),
        ("x.txt", "photos", "x", "x" * 300 + ".csv"),
    )
    yield "predict(num_threads)", lambda folder, v: predicted(folder, num_threads=v), ("x", 0, -1, 1.5)
    yield "predict(max_calls)", lambda folder, v: predicted(folder, max_calls=v), ("x", [], NAN, -1)
    yield "predict(texts)", lambda folder, v: predicted(folder, texts=v), ({"x": "y"}, {"prompt": None})
    yield "compare(max_calls)", lambda folder, v: compared(folder, max_calls=v), ("x", 0, -1, None, NAN)
    yield "compare(seeds)", lambda folder, v: compared(folder, seeds=v), ((), "x", 5, (0, 0))
    yield "compare(optimizers)", lambda folder, v: compared(folder, optimizers=v), ("nope", "", {}, 5)
    yield "compare(testset)", lambda folder, v: compared(folder, testset=v), ([], None, TRAIN[::4])
    for name in ("judge.txt", "no/judge.json", "photos", "x" * 300 + ".json", 5, None, "a\0b.json"):
        yield "judge.save", lambda folder, v: saved(v)(folder), (name,)


# Values that are no cap at all rather than a mistake; refusing them is as good.
_ENDLESS = [(name, value) for name in ("max_seconds", "max_usd") for value in (INF, HUGE, 1e308)]


def misuse_cases() -> Iterator[Case]:
    """Yields the family."""
    for group in (constructors, calls, runs):
        for where, do, values in group():
            for number, value in enumerate(values):
                recipe = f"{where} = {_shown(value)} ({number})"
                yield Case(recipe, lambda folder, v=value: (import_litellm(), v)[1], do)
    for where, write, values in in_a_folder():
        for number, value in enumerate(values):

            def make(folder: Path) -> Path:
                write_photos(folder / "photos", 2)
                return folder

            keeps = ("p.csv.journal.jsonl",)
            recipe = f"{where} = {_shown(value)} ({number})"
            yield Case(recipe, make, lambda folder, w=write, v=value: w(folder, v), keeps=keeps)
    for name, value in _ENDLESS:
        recipe = f"a run under {name}={value!r:.10}"
        budget = {name: value}
        yield Case(recipe, lambda folder, b=budget: b, _run_under, lambda program: program.card["agreement"])


def _run_under(budget: dict[str, float]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prices = {"scripted/test": (1e-6, 1e-6)}
        with Workspace(prices=prices):
            return compiled(budget=Budget(**budget))  # type: ignore[arg-type]


def _shown(value: Any) -> str:
    return f"{value!r:.40}".partition(" at 0x")[0]


@cases(misuse_cases())
def test_misuse_is_refused_with_one_message(case: Case, tmp_path: Path) -> None:
    """Before anything is paid for or written."""
    hold(case, tmp_path)
