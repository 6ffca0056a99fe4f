"""The judge as a file: one JSON object that is also a DSPy state file."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import dspy

from blpo_dspy.errors import ArtifactError, BlpoError, brief
from blpo_dspy.files import as_path
from blpo_dspy.models.seams import get_dependency_versions
from blpo_dspy.programs.card_fields import checked_card

FORMAT = "blpo-dspy judge"
PROGRAM_FORMAT = "blpo-dspy program"
"""The format of the state of a program of one's own (`ProgramJudge`)."""
CASCADE_FORMAT = "blpo-dspy cascade"
"""The format of several judges in a row (`Cascade`)."""
FORMAT_VERSION = 1
NEXT_VERSION = 2
"""Of a judge that earlier releases cannot build: with scores, or with other inputs than one `image`."""
CONFIDENT_VERSION = 3
"""Of a judge with a confidence, or with a threshold below which it escalates, which earlier releases would ignore."""
_VERSIONS = (FORMAT_VERSION, NEXT_VERSION, CONFIDENT_VERSION)
_CLOSED = ("nominal", "ordinal")  # the label spaces that the first version has
_REQUIRED = ("labels", "evidence", "context", "reasoning", "pixel_policy", "verbalizer", "judge", "card")
# How DSPy writes an image into a state, and how pixels are written as text.
_IMAGE_TRACES = ("CUSTOM-TYPE-START-IDENTIFIER", ";base64,")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the JSON object in a file; no code of the file is run."""
    file = as_path(path)
    try:
        folder = file.is_dir()
        raw = b"" if folder else file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{brief(path)}: cannot be read ({reason}); give the path of a saved judge.json") from error
    if folder:
        raise ArtifactError(
            f"{path}: this is a directory, not a judge.json; a program that was saved with save_program=True is loaded "
            f"by dspy.load({str(path)!r}, allow_pickle=True), which runs the code in it: only from who you trust"
        )
    if raw[:1] == b"\x80" or raw[:2] == b"PK":
        raise ArtifactError(
            f"{path}: this is a pickle or an archive, not a judge; only the JSON of judge.save() is loaded"
        )
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path}: not valid JSON ({error}), so the file is damaged or truncated; save the judge again"
        ) from error
    if not isinstance(data, dict):
        raise ArtifactError(f"{path}: holds a JSON {type(data).__name__}, not a judge; give the path of a judge.json")
    return data


def format_version(shape: Mapping[str, Any]) -> int:
    """Returns the lowest format version that has what a judge of this shape needs."""
    if "confidence" in shape:
        return CONFIDENT_VERSION
    plain = "images" not in shape and shape["labels"]["kind"] in _CLOSED
    return FORMAT_VERSION if plain else NEXT_VERSION


def artifact(form: str, version: int, **contents: Any) -> dict[str, Any]:
    """Returns what the file of a judge, a program or a cascade holds, if it would be read again."""
    contents["card"] = checked_card(contents["card"])
    metadata = {"dependency_versions": get_dependency_versions()}
    return {"format": form, "format_version": version, **contents, "metadata": metadata}


def states_of(predictors: Iterable[tuple[str, dspy.Predict]]) -> dict[str, Any]:
    """Returns the state of each predictor."""
    states = {}
    for name, predictor in predictors:
        states[name] = state_of(predictor)
        if holds_images(states[name]["demos"]):
            raise BlpoError(
                f"the {name} has demonstrations with images, which a judge.json doesn't hold; "
                "save it with save_program=True, or compile without demonstrations"
            )
    return states


def differences(data: Mapping[str, Any], shape: Mapping[str, Any], what: str) -> str:
    """Returns in words how the data of a file differ from the shape of this judge or program; "" if they don't."""
    return "; ".join(
        f"{key} {brief(data.get(key))} (this {what}: {brief(own)})"
        for key, own in shape.items()
        if data.get(key) != own
    )


def check_judge(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Checks that the data of a file is a whole judge of this format version."""
    if data.get("format") == PROGRAM_FORMAT:
        raise ArtifactError(
            f"{path}: the state of a program of somebody's own, without its code; build it and call load(path) "
            "of its ProgramJudge, or name it on the command line with --program module:factory"
        )
    if data.get("format") == CASCADE_FORMAT:
        raise ArtifactError(f"{path}: several judges in a row; they are loaded by Cascade.load")
    if data.get("format") != FORMAT:
        raise ArtifactError(
            f"{path}: not a judge saved by VisualJudge.save() (its 'format' is not {FORMAT!r}); for a plain DSPy state "
            "build the judge first and call judge.load(path) on it"
        )
    version = data.get("format_version")
    if type(version) is not int or version not in _VERSIONS:
        raise ArtifactError(
            f"{path}: format version {version!r}, but this blpo-dspy reads versions up to {_VERSIONS[-1]}; load it "
            "with the blpo-dspy release that wrote it, or save it again"
        )
    missing = [key for key in _REQUIRED if key not in data]
    if missing:
        raise ArtifactError(f"{path}: incomplete judge, {missing} missing; save the judge again")


def state_of(predictor: dspy.Predict) -> dict[str, Any]:
    """Returns DSPy's state of a predictor without its LM, and without the pixel policy that a judge file has once.

    The LM belongs to the process: no endpoint, key or engine is in the state.
    """
    bare = copy.copy(predictor)
    bare.lm, bare.traces, bare.train = None, [], []
    return {key: value for key, value in bare.dump_state().items() if key != "pixel_policy"}


def predictor_state(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the DSPy state of a predictor with no more from the file than its texts.

    DSPy sets every entry of a state as an attribute, the options of LM calls (an endpoint, say) among them.
    """
    demos = [dict(demo) for demo in saved["demos"]]
    if holds_images(demos):
        raise BlpoError("a demonstration holds an image")
    return {"demos": demos, "signature": saved["signature"], "traces": [], "train": [], "lm": None}


def holds_images(demos: object) -> bool:
    """Whether an image is among the demonstrations of a DSPy state."""
    return any(trace in str(demos) for trace in _IMAGE_TRACES)
