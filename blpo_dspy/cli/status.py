"""`blpo status`: the jobs of a folder."""

from __future__ import annotations

from datetime import datetime

from rich.table import Table

from blpo_dspy.cli.jobs import StatusJob
from blpo_dspy.cli.screen import Screen, cost_in_words, in_dollars
from blpo_dspy.errors import shown
from blpo_dspy.workspace.ledger import Ledger, Usage
from blpo_dspy.workspace.status import JobStatus, status_of
from blpo_dspy.workspace.workspace import Workspace


def show_status(job: StatusJob, screen: Screen) -> None:
    """Prints which jobs ran in a folder, how they ended, and what they spent by role and model.

    Raises:
        BlpoError: If nothing is known of the folder.
    """
    found, left = status_of(job.folder), Workspace(job.folder).left
    total = sum((each.total for each in found), Usage())
    if screen.as_json:
        counts = {"calls": total.calls, "failed": total.failed, "tokens": total.tokens, "usd": total.usd}
        screen.json({"jobs": [each.to_dict() for each in found], "spent": counts, "left": left})
        return
    table = Table(box=None, pad_edge=False)
    for name in ("job", "began", "state", "role", "model"):
        table.add_column(name)
    for name in ("calls", "failed", "tokens", "cost"):
        table.add_column(name, justify="right")
    for each in found:
        _add(table, each)
    screen.table(table)
    screen.text(f"\nSpent   {total.calls:,} calls, {total.tokens:,} tokens, {cost_in_words(Ledger({'judge': total}))}")
    if left:
        amounts = [in_dollars(most) if name == "max_usd" else f"{most:,.0f} {name[4:]}" for name, most in left.items()]
        screen.text(f"Left    {', '.join(amounts)}")
    for command in dict.fromkeys(each.command for each in found if each.state not in ("done", "running")):
        screen.text(f"Resume  {command}")


def _add(table: Table, job: JobStatus) -> None:
    began = datetime.fromtimestamp(job.began).strftime("%Y-%m-%d %H:%M")
    lead = [shown(f"{job.kind} {job.name}".strip()), began, job.state]
    for (role, model), usage in job.spent.items() or {("", ""): Usage()}.items():
        counts = [f"{usage.calls:,}", f"{usage.failed:,}", f"{usage.tokens:,}", cost_in_words(Ledger({"judge": usage}))]
        table.add_row(*lead, role, shown(model), *counts)
