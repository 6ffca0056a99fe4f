"""`blpo sample`: images of a judged collection drawn for people to label."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from blpo_dspy.cli.screen import Screen
from blpo_dspy.errors import shown
from blpo_dspy.runs.jobs import SampleJob
from blpo_dspy.runs.to_label import draw_to_label


def sample(job: SampleJob, screen: Screen) -> None:
    """Writes a table with images to label, and prints from which strata they are."""
    drawn = draw_to_label(job.predictions, n=job.n, out=job.out, seed=job.seed)
    if screen.as_json:
        strata = [{**asdict(each), "stratum": str(number)} for number, each in enumerate(drawn.strata, 1)]
        screen.json({"out": str(job.out), "n": len(drawn.chosen), "strata": strata})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("stratum", "left"), ("judge's label", "left"), ("confidence", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name in ("images", "drawn"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, each in sorted(enumerate(drawn.strata, 1), key=lambda item: (item[1].label, item[1].confidence)):
        cells = (str(number), each.label or "none", each.confidence or "any", f"{each.size:,}", f"{each.drawn:,}")
        table.add_row(*(Text(shown(cell)) for cell in cells))
    screen.table(table)
    screen.text()
    screen.text(
        f"Wrote {job.out} with {len(drawn.chosen):,} images, without the judge's verdicts. Fill in its column label, "
        f"keep all rows, and run: blpo population {job.predictions} --labels {job.out}"
    )
