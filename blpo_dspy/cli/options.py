"""Options that several commands take."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from blpo_dspy.data.labels.space import Orders
from blpo_dspy.runs.jobs import Search


def _of_search(name: str) -> Any:
    """An option of a search, as its field describes it."""
    metadata = next(each.metadata for each in fields(Search) if each.name == name)
    return typer.Option(help=metadata["help"], **metadata["shown"])


Seed = Annotated[int, _of_search("seed")]
Scores = Annotated[
    str | None, typer.Option(metavar="LOW-HIGH", help="Or scores with decimals: 0-100; 0-10:0.5 in steps of 0.5.")
]
Rounds = Annotated[int | None, _of_search("rounds")]
InnerSteps = Annotated[int | None, _of_search("inner_steps")]
BatchSize = Annotated[int | None, _of_search("batch_size")]
Threads = Annotated[int | None, _of_search("threads")]
ApiBase = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Your own server, e.g. http://localhost:8000/v1, for all but `embedded`."),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Timeout of an LM call (default 120; 300 for an optimizer and for models that reason first).",
    ),
]
MaxOutage = Annotated[float, _of_search("max_outage")]
InOrders = Annotated[
    Orders,
    typer.Option(
        metavar="ORDERS",
        help='Of a judge of pairs: "both" asks twice, the images changing places; "one" costs one call.',
    ),
]
AllowOutside = Annotated[
    bool, typer.Option("--allow-outside", help="Take images outside the folder, or that of the table.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Bypass DSPy's cache: call the models for every answer.")]
JudgeFile = Annotated[Path, typer.Argument(metavar="JUDGE", help="A judge.json.", show_default=False)]
Model = Annotated[
    str | None, typer.Option(metavar="MODEL", help="The judge's model, e.g. openai/gpt-4o (default `embedded`).")
]
VerbalizerModel = Annotated[
    str | None, typer.Option(metavar="MODEL", help="The verbalizer's model (default: the judge's).")
]
Seconds = Annotated[float, typer.Option(metavar="SECONDS", help="Mean duration of an LM call.")]
ProgramFactory = Annotated[
    str | None,
    typer.Option(metavar="MODULE:FACTORY", help="A function that returns the ProgramJudge whose state the file holds."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


Predictions = Annotated[
    Path,
    typer.Argument(
        metavar="PREDICTIONS",
        help="Verdicts, as `blpo judge --out` writes them: .csv, .tsv, .jsonl or .parquet.",
        show_default=False,
    ),
]
KeyColumns = Annotated[
    str | None,
    typer.Option(metavar="A,B,…", help="Columns by which an image is known in both tables (default: all they share)."),
]
