"""Small synthetic copies of the datasets, in the layouts of their publishers, for `--smoke`.

The pictures are photographs with technical flaws, since that is what the embedded engine can see, and the labels are a
made-up rater's: a copy shows that a layout is read and a protocol runs, and nothing about the dataset.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from PIL import Image
from pyarrow import parquet

from blpo_dspy import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs

CATEGORIES = ("Violence", "Deception", "Spam")
Picture = tuple[bytes, Any]


def write_copies(folder: Path, sizes: Mapping[str, int]) -> None:
    """Writes a copy of each dataset into a sub-folder of its name, with images for two halves of these sizes."""
    five = LabelSpace.ordinal(1, 5)
    quality = {"mos_quality": 0.0, "mos_align": 0.1}
    _unsafebench(
        folder / "unsafebench", _pictures("sharp", LabelSpace("Safe", "Unsafe"), sizes["unsafebench"], len(CATEGORIES))
    )
    _seetrue(folder / "seetrue", _pictures("colour", LabelSpace(0, 1), sizes["seetrue"]))
    rated = _in_turn(_pictures("exposure", LabelSpace.ordinal(1, 7), sizes["imagereward"]))
    _imagereward(folder / "imagereward", rated[: 2 * sizes["imagereward"]])
    _rated(folder / "agin", "MOS_AGIN.csv", "filename", {"MOS_nat": 0.0}, _pictures("harsh", five, sizes["agin"]))
    _rated(folder / "agiqa3k", "data.csv", "name", quality, _pictures("grain-hater", five, sizes["agiqa3k"]))


def _pictures(rater: str, labels: LabelSpace, size: int, parts: int = 1) -> list[Picture]:
    """Pictures for two halves of `size`, as many of every label in each of `parts`, and a spare one."""
    each = parts * (-(-2 * size // (parts * len(labels))) + 1)
    rated = rated_photographs(RATERS[rater], train=each * len(labels), val=0, test=0, labels=labels).train
    return [(picture.image, picture.label) for picture in rated]


def _in_turn(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures in an order in which each label comes once in a round."""
    rounds: dict[Any, int] = {}
    placed = []
    for image, label in pictures:
        rounds[label] = rounds.get(label, 0) + 1
        placed.append((rounds[label], label, image))
    return [(image, label) for _, label, image in sorted(placed)]


def _unsafebench(folder: Path, pictures: Sequence[Picture]) -> None:
    texts = {name: datasets.Value("string") for name in ("safety_label", "category", "source", "text")}
    seen: dict[Any, int] = {}
    rows = []
    for image, label in pictures:
        number = seen[label] = seen.get(label, -1) + 1
        row = {"safety_label": label, "category": CATEGORIES[number % len(CATEGORIES)], "source": "Lexica"}
        rows.append({"image": {"bytes": image, "path": None}, **row, "text": None})
    (folder / "data").mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), **texts})
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "data" / "train-00000-of-00001.parquet")


def _seetrue(folder: Path, pictures: Sequence[Picture]) -> None:
    rows = [
        {"image": f"{i}.png", "text": f"a picture, number {i}", "label": label, "original_dataset_id": f"{i}"}
        for i, (_, label) in enumerate(pictures)
    ]
    _write_csv(folder / "SeeTRUE.csv", [{**row, "dataset_source": "coco_t2i"} for row in rows])
    _write_zip(folder / "images.zip", {f"images/{i}.png": image for i, (image, _) in enumerate(pictures)})


def _imagereward(folder: Path, pictures: Sequence[Picture]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Mapping[str, Any]] = []
    members = {}
    for i, (image, rating) in enumerate(pictures):
        prompt = 3 * i // 14  # four or five images each, whose ratings differ; three prompts have each rating twice
        rows.append(
            {"image_path": f"images/train/train_1/{i:04d}.webp", "prompt_id": f"{prompt:06d}-0001"}
            | {"prompt": f"a picture, number {prompt}", "classification": "Plants", "image_amount_in_total": 5}
            | {"rank": 8 - int(rating)}
            | dict.fromkeys(("overall_rating", "image_text_alignment_rating", "fidelity_rating"), int(rating))
        )
        file = io.BytesIO()
        Image.open(io.BytesIO(image)).save(file, "WEBP", lossless=True)
        members[f"{i:04d}.webp"] = file.getvalue()
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "metadata-train.parquet")
    _write_zip(folder / "images" / "train" / "train_1.zip", members)


def _rated(folder: Path, table: str, name: str, scores: Mapping[str, float], pictures: Sequence[Picture]) -> None:
    spread = 0.8 / max(1, len(pictures))  # a mean opinion score is seldom met twice
    rows = []
    for i, (image, label) in enumerate(pictures):
        rated = {score: round(min(5.0, max(1.0, int(label) - 0.4 + spread * i + shift)), 4)
                 for score, shift in scores.items()}  # fmt: skip
        rows.append({name: f"model_{i}.png", "prompt": f"a picture, number {i}", **rated})
        path = folder / "images" / f"model_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    _write_csv(folder / table, rows)


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
