"""`blpo`: the command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from blpo_dspy.cli import jobs
from blpo_dspy.cli.command import command
from blpo_dspy.cli.exits import Exits

app = typer.Typer(
    name="blpo",
    cls=Exits,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Align a multimodal LLM judge with human labels.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"blpo-dspy {version_of('blpo-dspy')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Align a multimodal LLM judge with human labels."""


_command = partial(command, app)
_command("demo", jobs.DemoJob, "aligning.demo:run_demo")
_command("compile", jobs.CompileJob, "aligning.compile:compile_judge")
_command("estimate", jobs.EstimateJob, "aligning.compile:estimate_cost", out=Path("judge.json"))
_command("compare", jobs.CompareJob, "aligning.compare:compare_methods")
_command("evaluate", jobs.EvaluateJob, "judging.evaluate:evaluate")
_command("calibrate", jobs.CalibrateJob, "judging.calibrate:calibrate_judge")
_command(
    "judge",
    jobs.JudgeJob,
    "judging.judge:judge_images",
    json="Print one JSON object per image and line; with --out, one of all.",
)
_command("serve", jobs.ServeJob, "judging.serve:serve")
_command("label", jobs.LabelJob, "people.label:label_images", json=None)
_command("label-studio", jobs.StudioJob, "people.label_studio:label_studio", json=None)
_command("review", jobs.ReviewJob, "people.review:review_run", json=None)
_command("rank", jobs.RankJob, "collection:rank_models")
_command("sample", jobs.SampleJob, "collection:sample")
_command("population", jobs.PopulationJob, "collection:population")
_command("drift", jobs.DriftJob, "collection:drift")
_command("report", jobs.ReportJob, "aligning.report:report")
_command("status", jobs.StatusJob, "status:show_status")


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
