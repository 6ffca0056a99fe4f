"""`blpo sample`: images of a judged collection drawn for people to label."""

from __future__ import annotations

from dataclasses import asdict

from blpo_dspy.cli.screen import Screen, plain_table
from blpo_dspy.runs.jobs import SampleJob
from blpo_dspy.runs.to_label import draw_to_label


def sample(job: SampleJob, screen: Screen) -> None:
    """Writes a table with images to label, and prints from which strata they are."""
    drawn = draw_to_label(job.predictions, n=job.n, out=job.out, seed=job.seed)
    if screen.as_json:
        strata = [{**asdict(each), "stratum": str(number)} for number, each in enumerate(drawn.strata, 1)]
        screen.json({"out": str(job.out), "n": len(drawn.chosen), "strata": strata})
        return
    rows = [
        (str(number), each.label or "none", each.confidence or "any", f"{each.size:,}", f"{each.drawn:,}")
        for number, each in sorted(enumerate(drawn.strata, 1), key=lambda item: (item[1].label, item[1].confidence))
    ]
    left = ("stratum", "judge's label", "confidence")
    screen.table(plain_table((*left, "images", "drawn"), rows, left=left))
    screen.text()
    screen.text(
        f"Wrote {job.out} with {len(drawn.chosen):,} images, without the judge's verdicts. Fill in its column label, "
        f"keep all rows, and run: blpo population {job.predictions} --labels {job.out}"
    )
