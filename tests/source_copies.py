"""Writes small copies of published datasets in the layouts that their publishers use.

The writers take images as encoded bytes, so that a copy can hold any pictures; what is missing from `members` or given
as None is missing from the copy.
"""

from __future__ import annotations

import csv
import io
import json
import random
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

UNSAFEBENCH_CATEGORIES = ("Hate", "Harassment", "Violence", "Self-harm", "Sexual", "Shocking", "Illegal activity")
UNSAFEBENCH_CATEGORIES += ("Deception", "Political", "Public and personal health", "Spam")


def picture(number: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """Returns an image of noise that no other number has."""
    noise = random.Random(f"picture {number}")
    image = Image.frombytes("RGB", (24, 18), noise.randbytes(24 * 18 * 3)).convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def write_unsafebench(folder: Path, rows: Sequence[Mapping[str, Any]], split: str = "train", group: int = 4) -> None:
    """Writes rows {image, safety_label, category, source, text} as one Parquet file, as `datasets` does."""
    import datasets

    texts = {name: datasets.Value("string") for name in ("safety_label", "category", "source", "text")}
    write_parquet(folder, rows, {"image": datasets.Image(), **texts}, split, group)


def write_parquet(
    folder: Path, rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any], split: str = "train", group: int = 4
) -> None:
    """Writes rows with these features as data/SPLIT-00000-of-00001.parquet, in row groups of `group` rows."""
    import datasets

    stored = [{**row, "image": _stored(row["image"])} for row in rows]
    table = datasets.Dataset.from_list(stored, features=datasets.Features(features))
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", batch_size=group)


def write_seetrue(folder: Path, rows: Sequence[Mapping[str, Any]], members: Mapping[str, bytes]) -> None:
    """Writes rows {image, text, label, original_dataset_id, dataset_source} to a CSV file, and the archive."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["image", "text", "label", "original_dataset_id", "dataset_source"]
    with (folder / "SeeTRUE.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    write_zip(folder / "images.zip", {f"images/{name}": data for name, data in members.items()}, folders=["images/"])


def write_imagereward(
    folder: Path, rows: Sequence[Mapping[str, Any]], members: Mapping[str, bytes], split: str = "train"
) -> None:
    """Writes the metadata table and one archive for each shard; rows name images "images/train/train_1/<id>.webp"."""
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), folder / f"metadata-{split}.parquet")
    shards: dict[str, dict[str, bytes]] = {}
    for path, data in members.items():
        shard, name = path.rsplit("/", 1)
        shards.setdefault(shard, {})[name] = data
    for shard, images in shards.items():
        target = folder / f"{shard}.zip"
        target.parent.mkdir(parents=True, exist_ok=True)
        records = json.dumps([dict(row) for row in rows if str(row["image_path"]).startswith(shard)]).encode()
        write_zip(target, {**images, f"{target.stem}.json": records})


def write_rated_folder(
    folder: Path, table: str, rows: Sequence[Mapping[str, Any]], members: Mapping[str, bytes], images: str
) -> None:
    """Writes a CSV file, and the images into a sub-folder."""
    (folder / images).mkdir(parents=True, exist_ok=True)
    with (folder / table).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for name, data in members.items():
        (folder / images / name).write_bytes(data)


def write_zip(path: Path, members: Mapping[str, bytes], folders: Sequence[str] = ()) -> None:
    """Writes an archive, images stored as they are and the rest compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in folders:
            archive.writestr(name, b"")
        for name, data in members.items():
            archive.writestr(name, data, zipfile.ZIP_DEFLATED if name.endswith("json") else zipfile.ZIP_STORED)


def _stored(image: Any) -> Any:
    return {"bytes": image, "path": None} if isinstance(image, bytes) else image
