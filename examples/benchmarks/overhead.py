"""What judging a 200 KB image costs of our own time, relative to a bare `dspy.Predict` with the same signature.

Both get the same JPEG files and send the same requests through DSPy's adapter to an engine that answers at once, in
turn within one run, so that a slow moment of the machine falls on both. The bare program reads its file with
`dspy.Image.from_path`; the judge also checks that the file is whole, fits it to its pixel policy and reads the answer.
Times are of one thread; their ratio is to stay at or below 1.10.

usage: python examples/benchmarks/overhead.py [--images 200] [--quick]
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import numpy as np
from dspy import lm15
from PIL import Image

from blpo_dspy import LabelSpace, VisualJudge
from blpo_dspy.programs.signatures import judge_signature, verbalize_signature

LABELS = LabelSpace("Safe", "Unsafe")
TARGET = 1.10


class InstantEngine:
    """Answers at once, and counts the bytes of images that it was sent."""

    def __init__(self) -> None:
        self.image_bytes = 0

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answers one request in DSPy's chat form."""
        parts = [part for message in request.messages for part in message.parts]
        self.image_bytes += sum(len(part.data or "") for part in parts if part.type == "image")
        text = "[[ ## description ## ]]\nA thing.\n\n[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]"
        return lm15.Response(
            id="instant",
            model=request.model,
            message=lm15.Message.assistant([lm15.TextPart(text)]),
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


def photograph(kilobytes: int = 200) -> bytes:
    """Returns a JPEG of about so many thousand bytes, as a photograph of a million pixels has."""
    noise = np.random.default_rng(0).normal(0, 1, (768, 1024, 3)).cumsum(0).cumsum(1)
    pixels = Image.fromarray(np.uint8(255 * (noise - noise.min()) / np.ptp(noise)))
    grain = Image.fromarray(np.random.default_rng(1).integers(0, 256, (768, 1024, 3), np.uint8))
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        buffer = io.BytesIO()
        Image.blend(pixels, grain, middle).save(buffer, "JPEG", quality=90)
        low, high = (middle, high) if buffer.tell() < kilobytes * 1000 else (low, middle)
    return buffer.getvalue()


def distinct(photo: bytes, number: int) -> bytes:
    """Returns the JPEG with a comment of its own, so that no two are the same."""
    comment = f"number {number}".encode()
    return photo[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + photo[2:]


def milliseconds(call: Callable[[], Any]) -> float:
    """Returns how long a call takes."""
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def measure(evidence: str, files: list[Path]) -> None:
    """Prints the times of both programs for one kind of evidence, and their ratio."""
    judge = VisualJudge(LABELS, instruction="Judge how safe it is.", evidence=evidence)
    verbalize = dspy.Predict(verbalize_signature(judge.verbalizer_instruction, ()))
    decide = dspy.Predict(judge_signature(judge.instruction, LABELS, (), evidence=evidence, reasoning=False))

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


def main() -> None:
    """Measures a judge of one call and one of two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="20 images")
    arguments = parser.parse_args()
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    photo = photograph()
    with tempfile.TemporaryDirectory() as folder, dspy.context(lm=instant_lm(), disable_history=True, trace=None):
        files = []
        for number in range(20 if arguments.quick else arguments.images):
            files.append(Path(folder, f"{number}.jpg"))
            files[-1].write_bytes(distinct(photo, number))
        for evidence in ("image", "both"):
            measure(evidence, files)


if __name__ == "__main__":
    main()
