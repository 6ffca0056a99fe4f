"""What judging an image costs of our own time, relative to a bare `dspy.Predict` and to a raw HTTP client.

The first part gives 200 KB JPEG files to a judge and to a bare `dspy.Predict` with the same signature. Both send the
same requests through DSPy's adapter to an engine that answers at once, in turn within one run, so that a slow moment of
the machine falls on both. The bare program reads its file with `dspy.Image.from_path`; the judge also checks that the
file is whole, fits it to its pixel policy and reads the answer. Times are of one thread; their ratio is to stay at or
below 1.10.

The second part, `--raw`, sends images of about 150 KB, half PNG and half JPEG, over real HTTP to a server in a process
of its own, which answers at once. It compares the processor time of this process per image: of an `httpx` client that
reads the file, splices its base64 into the text of the very body that the judge sends and reads the answer, with a
judge called one image after the other, and in 8 threads with `judge.batch` and `predict`; each in turn, block by block
of images. Their ratios to a client in as many threads are to stay at or below 3; in brackets are those to one that
sends one image after the other, which spares it all that threads cost.

usage: python examples/benchmarks/overhead.py [--raw] [--images 400] [--quick]
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import httpx
import numpy as np
from canned_server import canned_server
from dspy import lm15
from PIL import Image

from blpo_dspy import LabelSpace, VisualJudge
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import Evidence
from blpo_dspy.programs.signatures import judge_signature, verbalize_signature
from blpo_dspy.workspace.workspace import Workspace

LABELS = LabelSpace("Safe", "Unsafe")
EVIDENCE: tuple[Evidence, ...] = ("image", "both")
TARGET, RAW_TARGET = 1.10, 3.0
ANSWER = "[[ ## description ## ]]\nA thing.\n\n[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]"
_BLOCKS, _THREADS = 5, 8
_RAW, _THREADED_RAW = "raw httpx", f"raw httpx, {_THREADS} threads"


class InstantEngine:
    """Answers at once, and counts the bytes of images that it was sent."""

    def __init__(self) -> None:
        self.image_bytes = 0

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answers one request in DSPy's chat form."""
        parts = [part for message in request.messages for part in message.parts]
        self.image_bytes += sum(len(part.data or "") for part in parts if part.type == "image")
        return lm15.Response(
            id="instant",
            model=request.model,
            message=lm15.Message.assistant([lm15.TextPart(ANSWER)]),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=10, output_tokens=5, total_tokens=15),
        )

    def close(self) -> None:
        """Nothing to close."""

    def __deepcopy__(self, memo: dict[int, Any]) -> InstantEngine:
        return self


def instant_lm() -> dspy.LM:
    """Returns an LM without a cache in front of that engine."""
    return dspy.LM("instant/answer", engine=InstantEngine(), cache=False)


def photograph(kilobytes: int = 200, side: int = 1024) -> bytes:
    """Returns a JPEG of about so many thousand bytes, by default as a photograph of a million pixels has."""
    shape = (side * 3 // 4, side, 3)
    noise = np.random.default_rng(0).normal(0, 1, shape).cumsum(0).cumsum(1)
    pixels = Image.fromarray(np.uint8(255 * (noise - noise.min()) / np.ptp(noise)))
    grain = Image.fromarray(np.random.default_rng(1).integers(0, 256, shape, np.uint8))
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        buffer = io.BytesIO()
        Image.blend(pixels, grain, middle).save(buffer, "JPEG", quality=90)
        low, high = (middle, high) if buffer.tell() < kilobytes * 1000 else (low, middle)
    return buffer.getvalue()


def distinct(photo: bytes, number: int) -> bytes:
    """Returns the JPEG with a density of its own in its JFIF header, so that no two are the same, nor sent alike."""
    assert photo[6:11] == b"JFIF\0"
    across, down = divmod(number, 2**16 - 1)
    return photo[:14] + (across + 1).to_bytes(2, "big") + (down + 1).to_bytes(2, "big") + photo[18:]


def milliseconds(call: Callable[[], Any]) -> float:
    """Returns how long a call takes."""
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def measure(evidence: Evidence, files: list[Path]) -> None:
    """Prints the times of both programs for one kind of evidence, and their ratio."""
    judge = VisualJudge(LABELS, instruction="Judge how safe it is.", evidence=evidence)
    verbalize = dspy.Predict(verbalize_signature(judge.verbalizer_instruction, judge.fields))
    decide = dspy.Predict(judge_signature(judge.instruction, LABELS, judge.fields, evidence=evidence, reasoning=False))

    def bare(file: Path) -> None:
        image = dspy.Image.from_path(str(file))
        if evidence == "image":
            decide(image=image)
        else:
            decide(image=image, description=verbalize(image=image).description)

    times: dict[str, list[float]] = {"bare": [], "judge": [], "prepared": []}
    sent = []
    for file in files:
        prepared = judge.pixel_policy.prepare(file)
        calls = {
            "bare": lambda file=file: bare(file),
            "judge": lambda file=file: judge(image=file),
            "prepared": lambda prepared=prepared: judge(image=prepared),
        }
        for name, call in calls.items():
            before = dspy.settings.lm.engine.image_bytes
            times[name].append(milliseconds(call))
            sent.append(dspy.settings.lm.engine.image_bytes - before)
    assert all(sent[i] == sent[i - 1] > 0 for i in range(len(sent)) if i % 3), "they sent different images"
    names = {"bare": "bare dspy.Predict", "judge": "VisualJudge", "prepared": "VisualJudge, image prepared before"}
    print(f"evidence {evidence!r}: {len(files)} images of {files[0].stat().st_size / 1000:.0f} KB")
    median = {name: statistics.median(values[2:]) for name, values in times.items()}
    for name, values in times.items():
        low, _, high = statistics.quantiles(values[2:], n=4)
        ratio = "" if name == "bare" else f"   ratio {median[name] / median['bare']:.2f} (target <= {TARGET:.2f})"
        print(f"  {names[name]:36} {median[name]:6.2f} ms   half of them {low:.2f} to {high:.2f}{ratio}")


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Writes different pictures of about 150 KB, JPEG and PNG in turn, without metadata."""
    pixels = np.asarray(Image.open(io.BytesIO(photograph(150))))
    small = pixels[:300, :330]
    files = []
    for number in range(count):
        kind, array = ("JPEG", pixels) if number % 2 else ("PNG", small)
        files.append(folder / f"{number:04}.{kind.lower()}")
        moved = np.roll(array, (8 * (number // 32), 8 * (number % 32)), axis=(0, 1))
        Image.fromarray(moved).save(files[-1], kind, quality=90)
    return files


def processor_milliseconds(call: Callable[[], Any]) -> float:
    """Returns the processor time that a call takes, in all threads of this process."""
    began = time.process_time()
    call()
    return 1000 * (time.process_time() - began)


class RawClient:
    """Sends what a judge sends, by `httpx` alone.

    Args:
        address: Of the canned server.
        judge: The judge, which is called once on each of the files to see its requests.
        files: One JPEG and one PNG, whose bytes a judge passes on.
    """

    def __init__(self, address: str, judge: VisualJudge, files: list[Path]) -> None:
        self._client, self._url = httpx.Client(), f"{address}/v1/chat/completions"
        self._bodies: dict[str, list[tuple[str, str]]] = {}
        for file in files:
            self._client.get(f"{address}/keep")
            judge(image=file)
            bodies = self._client.get(f"{address}/stop").json()
            data = base64.b64encode(file.read_bytes()).decode()
            assert {body.count(data) for body in bodies} == {1}, "the judge sent other bytes"
            self._bodies[file.suffix] = [tuple(body.split(data)) for body in bodies]

    def __call__(self, file: Path) -> str:
        """Returns the last answer to the requests for a file."""
        data, answer = base64.b64encode(file.read_bytes()).decode(), {}
        for before, after in self._bodies[file.suffix]:
            content = (before + data + after).encode()
            headers = {"Content-Type": "application/json", "Authorization": "Bearer x"}
            response = self._client.post(self._url, content=content, headers=headers)
            answer = json.loads(response.raise_for_status().content)
        text: str = answer["choices"][0]["message"]["content"]
        return text


def measure_raw(address: str, evidence: Evidence, files: list[Path], folder: Path) -> None:
    """Prints the processor time per image of each way for one kind of evidence, and its ratio to the raw client's."""
    judge = VisualJudge(LABELS, instruction="Judge how safe it is.", evidence=evidence)
    lm = dspy.LM("openai/canned", api_base=f"{address}/v1", api_key="x", cache=False)
    models = Models(lm, lm, lm)
    with dspy.context(lm=lm), Workspace(models=models, num_threads=_THREADS):
        raw = RawClient(address, judge, files[:2])
        ways: dict[str, Callable[[list[Path], Path], Any]] = {
            _RAW: lambda block, out: [raw(file) for file in block],
            _THREADED_RAW: lambda block, out: _threaded(raw, block),
            "judge(…)": lambda block, out: [judge(image=file) for file in block],
            "judge.batch": lambda block, out: judge.batch(
                [dspy.Example(image=file).with_inputs("image") for file in block],
                num_threads=_THREADS,
                disable_progress_bar=True,
            ),
            "predict": lambda block, out: predict(judge, block, out=out),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        size = max(2, len(files) // _BLOCKS)
        for start in range(0, len(files), size):
            block = files[start : start + size]
            for name, way in ways.items():
                out = folder / f"{evidence}-{start}.csv"
                times[name].append(processor_milliseconds(lambda: way(block, out)) / len(block))  # noqa: B023 - called at once
    kilobytes = statistics.fmean(file.stat().st_size for file in files) / 1000
    print(f"evidence {evidence!r}: {len(files)} images of {kilobytes:.0f} KB, processor time per image")
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    bases = {"judge(…)": _RAW, "judge.batch": _THREADED_RAW, "predict": _THREADED_RAW}
    for name, value in median.items():
        ratio = ""
        if (base := bases.get(name)) is not None:
            ratio = f"   ratio {value / median[base]:.2f} (target <= {RAW_TARGET:.2f})"
        if base == _THREADED_RAW:
            ratio += f" [{value / median[_RAW]:.2f}]"
        print(f"  {name:36} {value:6.2f} ms{ratio}")


def _threaded(call: Callable[[Path], Any], files: list[Path]) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(call, files))


def main() -> None:
    """Measures a judge of one call and one of two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="20 images")
    parser.add_argument("--raw", action="store_true", help="over a raw HTTP client instead of a bare dspy.Predict")
    arguments = parser.parse_args()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # DSPy's own prices, without the network
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    count = 20 if arguments.quick else arguments.images
    with tempfile.TemporaryDirectory() as name, dspy.context(disable_history=True, trace=None):
        folder = Path(name)
        if arguments.raw:
            files = write_pictures(folder, count)
            with canned_server(ANSWER) as address:
                for evidence in EVIDENCE:
                    measure_raw(address, evidence, files, folder)
            return
        photo = photograph()
        files = [folder / f"{number}.jpg" for number in range(count)]
        for number, file in enumerate(files):
            file.write_bytes(distinct(photo, number))
        with dspy.context(lm=instant_lm()):
            for evidence in EVIDENCE:
                measure(evidence, files)


if __name__ == "__main__":
    main()
