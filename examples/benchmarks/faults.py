"""What a flaky endpoint costs: BLPO's default run over HTTP, on a faultless server and on one that often fails.

Both runs must end with the same judge.json, byte for byte, after the same rounds and validations, and the ledger must
equal the server's own log. The printed ratio is the requests of the flaky run over those of the faultless one.

usage: python examples/benchmarks/faults.py [--p429 0.1] [--p500 0.03] [--pdrop 0.01] [--ptimeout 0.01]
           [--pgarbage 0.03] [--pshape 0] [--retry-after 0.2] [--timeout 4] [--threads 16] [--train 100] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dspy

from blpo_dspy import BLPO, LabelSpace, VisualJudge
from blpo_dspy.data.sources.photographs import RATERS, rated_photographs
from blpo_dspy.embedded.server.faults import Faults
from blpo_dspy.embedded.server.http import Options, start_server

TASK = "Rate the technical quality of this photograph."


def aligned(faults: Faults, folder: Path, arguments: argparse.Namespace) -> tuple[VisualJudge, list[dict[str, Any]]]:
    """Returns a judge compiled with the default options, saved in the folder, and the lines of the server's log."""
    folder.mkdir()
    splits = rated_photographs(RATERS["colour"], train=arguments.train, val=arguments.train // 2, test=0)
    sets = [
        [dspy.Example(image=one.image, label=one.label).with_inputs("image") for one in part]
        for part in (splits.train, splits.val)
    ]
    began = time.monotonic()
    with start_server(Options(log=folder / "log.jsonl", faults=faults)) as address:
        lm = dspy.LM("openai/embedded", api_base=address, api_key="x", cache=False, timeout=arguments.timeout)
        optimizer = BLPO(prompt_model=lm, task_model=lm, num_threads=arguments.threads, seed=arguments.seed)
        start = VisualJudge(LabelSpace.ordinal(1, 5), instruction=TASK)
        judge = optimizer.compile(start, trainset=sets[0], valset=sets[1])
    judge.save(folder / "judge.json")
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    result = judge.detailed_results
    print(
        f"{folder.name}: {len(lines)} requests in {time.monotonic() - began:.0f} s, {len(result.rounds)} rounds, "
        f"validation score {result.before.score:.3f} -> {result.after.score:.3f}",
        flush=True,
    )
    return judge, [line for line in lines if "request" in line]


def compared(name: str, ledger: object, log: object) -> bool:
    """Prints a figure of the ledger next to that of the log, and returns whether they are the same."""
    print(f"  {name}: ledger {ledger}, log {log}")
    return ledger == log


def main() -> None:
    """Runs on both servers and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, share in {
        "p429": 0.10,
        "p500": 0.03,
        "pdrop": 0.01,
        "ptimeout": 0.01,
        "pgarbage": 0.03,
        "pshape": 0.0,
    }.items():
        parser.add_argument(f"--{name}", type=float, default=share)
    parser.add_argument("--retry-after", type=float, default=0.2)
    parser.add_argument("--timeout", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shares = (given.p429, given.p500, given.pdrop, given.ptimeout, given.pgarbage, given.pshape)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        whole, plain = aligned(Faults(), root / "faultless", given)
        flaky, lines = aligned(Faults(*shares, retry_after=given.retry_after, seed=given.seed), root / "flaky", given)
        same = (root / "faultless" / "judge.json").read_bytes() == (root / "flaky" / "judge.json").read_bytes()
    found, expected = flaky.detailed_results, whole.detailed_results
    faults = Counter(line["fault"] for line in lines if line["fault"])
    total = found.ledger.total
    print("faults met:", ", ".join(f"{fault} {count}" for fault, count in sorted(faults.items())))
    agreed = [
        compared("requests", total.calls, len(lines)),
        compared("failed", total.failed, sum(faults.values())),
        compared("prompt tokens", total.prompt_tokens, sum(line.get("prompt_tokens", 0) for line in lines)),
        compared("completion tokens", total.completion_tokens, sum(line.get("completion_tokens", 0) for line in lines)),
    ]
    alike = found.rounds == expected.rounds and found.validations == expected.validations
    print(
        f"judge.json {'byte-identical' if same else 'DIFFERENT'}, rounds and validations "
        f"{'equal' if alike else 'DIFFERENT'}, ledger {'equals' if all(agreed) else 'DIFFERS FROM'} the log; "
        f"requests flaky / faultless = {len(lines) / len(plain):.3f}"
    )
    if not (same and alike and all(agreed)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
