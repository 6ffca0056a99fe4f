"""What importing this library adds to importing DSPy: the time of both, their ratio, and the time of the first names.

    python examples/benchmarks/import_time.py [repeats]

Each measurement is a fresh interpreter; the median of the repeats counts.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

IMPORTS = {
    "nothing": "pass",
    "import blpo_dspy": "import blpo_dspy",
    "import dspy": "import dspy",
    "import dspy, blpo_dspy": "import dspy, blpo_dspy",
    "from blpo_dspy import BLPO, VisualJudge": "import dspy; from blpo_dspy import BLPO, VisualJudge",
}


def seconds(code: str) -> float:
    """The wall time of a fresh interpreter that runs the code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main(repeats: int) -> None:
    """Measures the imports in turn, so that a slow moment of the machine falls on all of them."""
    runs = [{name: seconds(code) for name, code in IMPORTS.items()} for _ in range(repeats + 1)][1:]
    median = {name: statistics.median(run[name] for run in runs) for name in IMPORTS}
    for name, value in median.items():
        print(f"{name:42} {value:6.2f} s")
    alone, both = median["import dspy"] - median["nothing"], median["import dspy, blpo_dspy"] - median["nothing"]
    print(f"adds {both - alone:+.2f} s to `import dspy`: ratio {both / alone:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
