"""The output of the commands: results on standard output, remarks on standard error."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from blpo_dspy.agreement.figures import table_figures
from blpo_dspy.agreement.intervals import Interval, PairedComparison, flips_in_words
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.cli.flags import with_flags
from blpo_dspy.errors import BlpoWarning, counted, in_json, shown
from blpo_dspy.files import writing_output
from blpo_dspy.notebook import share
from blpo_dspy.optimizers.bench.records import Rejection
from blpo_dspy.runs.checks.after import Checks
from blpo_dspy.runs.jobs import EMBEDDED
from blpo_dspy.runs.record import Aligned
from blpo_dspy.workspace.ledger import ROLES, Ledger
from blpo_dspy.workspace.watch import Watch, quiet_libraries

_OFFLINE = "the offline engine, not a multimodal LLM"
_WIDEST_TEXT = 100
_PULSE = 60.0  # seconds
_UNBOUNDED = 10_000
_MOST_REASONS = 3
_LONGEST_LINE = 300


class _Console(Console):
    """A console that leaves it to the command line what to do once the output pipe is closed."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - Rich calls this where it caught the error


class Screen:
    """The two streams of a command.

    Args:
        as_json: Whether standard output gets JSON and nothing else.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._warned: set[str] = set()
        self._logged = time.monotonic()
        # Made for each command, as a test or a caller may have replaced the streams since the last.
        self.out = _Console(file=sys.stdout, highlight=False)
        self.err = _Console(file=sys.stderr, highlight=False)

    @property
    def width(self) -> int:
        """The columns that running text fills."""
        return min(self.out.width, _WIDEST_TEXT) - 1

    def json(self, data: Any, *, indent: int | None = 2) -> None:
        """Prints data as JSON."""
        self.line(in_json(json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)))

    def line(self, line: str) -> None:
        """Prints a line for other programs, which is neither wrapped nor styled."""
        with writing_output():
            self.out.file.write(line + "\n")

    def text(self, line: str = "", style: str = "") -> None:
        """Prints text, which may have several lines; whatever else would move the cursor is escaped."""
        with writing_output():
            self.out.print(Text(shown(line, lines=True), style=style), soft_wrap=True)

    def table(self, table: Table) -> None:
        """Prints a table, its cells as `shown` gave them; where the terminal is narrower, one line for each cell."""
        unbounded = self.out.options.update(width=_UNBOUNDED)
        if self.out.measure(table, options=unbounded).maximum <= self.out.width:
            with writing_output():
                self.out.print(table)
            return
        names = [str(column.header) for column in table.columns]
        lead = max(map(len, names)) + 2
        for number, cells in enumerate(zip(*(column.cells for column in table.columns), strict=True)):
            if number:
                self.text()
            for name, cell in zip(names, cells, strict=True):
                self.text(f"{name:<{lead}}{cell}")

    def note(self, line: str) -> None:
        """Remarks on something that is not an error."""
        # A log keeps a remark on one line.
        self.err.print(Text(f"Note: {shown(line)}", style="yellow"), soft_wrap=not self.err.is_terminal)

    def remark(self, line: str) -> None:
        """Prints a line about the work under way beside the results."""
        self.err.print(line, markup=False, soft_wrap=True)

    def pulse(self, line: str) -> None:
        """Does so now and then, in the log file of a long run; a terminal has a live line."""
        if not self.err.is_terminal and time.monotonic() - self._logged >= _PULSE:
            self._logged = time.monotonic()
            self.remark(line)

    def warn(self, warning: Warning | str) -> None:
        """Shows a warning as a remark, once if several steps of a command issue it."""
        options = warning.options if isinstance(warning, BlpoWarning) else ()
        line = with_flags(str(warning), options)
        if line not in self._warned:
            self._warned.add(line)
            self.note(line)


@contextmanager
def noting(screen: Screen) -> Iterator[None]:
    """Shows the warnings that are issued while the block runs as remarks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        screen.warn(warning.message)


@contextmanager
def working(screen: Screen, *, live: bool = True) -> Iterator[Watch]:
    """Yields the live line of a piece of work; the libraries are quiet, what matters of theirs is said at the end."""
    watch = Watch(screen.err, shown=live)

    def on_warning(warning: Warning | str) -> None:
        if watch.keep(warning):
            screen.warn(warning)

    with quiet_libraries(on_warning) as quiet, watch:
        yield watch
    for note in quiet.notes():
        screen.note(note)


def cost_in_words(ledger: Ledger) -> str:
    """Returns what LM calls cost, as far as their prices are known."""
    total = ledger.total
    usd = in_dollars(total.usd)
    if total.unpriced:
        return f"at least {usd}" if total.usd else "price unknown"
    return usd


def in_dollars(usd: float) -> str:
    """Returns an amount, one below a dollar to a hundredth of a cent."""
    return f"${usd:,.4f}" if 0 < usd < 1 else f"${usd:,.2f}"


def models_line(models: Mapping[str, str]) -> str:
    """Returns in words which model has which role."""
    names = set(models.values())
    if names == {EMBEDDED}:
        return f"{EMBEDDED} ({_OFFLINE})"
    line = ", ".join(f"{role} {name}" for role, name in models.items()) if len(names) > 1 else names.pop()
    return f"{line} ({EMBEDDED} is {_OFFLINE})" if EMBEDDED in models.values() else line


def show_aligned(
    screen: Screen, aligned: Aligned, about: Mapping[str, str], files: Sequence[Path], review: Path | None
) -> None:
    """Prints the result of compiling: what it is about, agreement, both instructions, cost, files, what to review."""
    _show_facts(screen, about)
    screen.text()
    rows = [
        (split, name, getattr(measured, split))
        for split in ("val", "test")
        for name, measured in (("before", aligned.before), ("after", aligned.after))
    ]
    screen.table(agreement_table([*rows, ("test", "ceiling", aligned.ceiling)]))
    screen.text()
    start, returned = aligned.record.start, aligned.record.returned
    _show_instructions(screen, "Judge instruction", start.judge, returned.judge)
    _show_instructions(screen, "Verbalizer instruction", start.verbalizer, returned.verbalizer)
    calls = aligned.calls()
    by_role = ", ".join(f"{role} {calls[role]:,}" for role in ROLES)
    total = sum(calls.values()) - calls["cached"]
    first = aligned.beforehand.total.calls
    before = f"; before the search: {first:,} of them" if first else ""
    cached = f"; {calls['cached']:,} more answered from memory" if calls["cached"] else ""
    unused = aligned.unused.total.calls
    earlier = f"; {unused:,} that an earlier session paid for were not needed" if unused else ""
    facts = {
        **_orders_in_words(aligned.before.test, aligned.after.test),
        **_checks_in_words(aligned.checks),
        "Search": f"{aligned.record.stop_reason}; {aligned.seconds:.0f} s",
        **_rejections_in_words(aligned.record.rejections),
        "Calls": f"{total:,} ({by_role}){before}{cached}{earlier}",
        "Wrote": ", ".join(str(file) for file in files),
    }
    _show_facts(screen, facts)
    if review is not None:
        screen.text(f"Review  {review_command(review)}")


def review_command(folder: Path) -> str:
    """Returns how to look again at doubtful labels and what the judge still gets wrong, with what that needs."""
    missing = any(find_spec(name) is None for name in ("starlette", "uvicorn"))
    return f"blpo review {shlex.quote(str(folder))}" + (" (needs pip install 'blpo-dspy[label]')" if missing else "")


def _orders_in_words(before: Agreement | None, after: Agreement | None) -> dict[str, str]:
    """How often the order of two images decided, before and after; nothing where they were not judged in both."""
    found = [
        f"{when} {flips_in_words(measured.flips)}"
        for when, measured in (("before", before), ("after", after))
        if measured is not None and measured.flips is not None
    ]
    return {"Orders": "; ".join(found)} if found else {}


def _checks_in_words(checks: Checks) -> dict[str, str]:
    """The further checks that found something, in words."""
    facts = {}
    if checks.fidelity is not None:
        shares = " → ".join("–" if a.accuracy is None else f"{a.accuracy:.0%}" for a in checks.fidelity)
        facts["Text"] = (
            f"the description alone leads to the label from the pixels: {shares} of {checks.fidelity[1].n} images"
        )
    stated = checks.stated[1]
    if stated.count:
        facts["Leaks"] = (
            f"{stated.count} of {stated.n} descriptions name a label or a rating, which is the judge's to give"
        )
    if checks.label_errors:
        facts["Labels"] = f"{counted(len(checks.label_errors), 'training label')} to look at again"
    return facts


def _rejections_in_words(rejections: Sequence[Rejection]) -> dict[str, str]:
    """How many proposals the search rejected and most often why, if any."""
    if not rejections:
        return {}
    kinds = Counter(rejection.kind for rejection in rejections).most_common()
    reasons = [f"{kind} ({count})" for kind, count in kinds[:_MOST_REASONS]]
    reasons += ["…"] if len(kinds) > _MOST_REASONS else []
    return {"Refused": f"{counted(len(rejections), 'proposal')}: {'; '.join(reasons)}"}


def _show_facts(screen: Screen, facts: Mapping[str, str]) -> None:
    for name, fact in facts.items():
        screen.text(_wrapped(f"{name:<8}", fact, screen.width))


def _show_instructions(screen: Screen, title: str, start: str, compiled: str) -> None:
    screen.text(title, "bold")
    screen.text(_wrapped("  start     ", start, screen.width))
    screen.text(_wrapped("  compiled  ", "(unchanged)" if compiled == start else compiled, screen.width))
    screen.text()


def _wrapped(lead: str, text: str, width: int) -> str:
    """A text with a hanging indent; its own line breaks stay."""
    indent = " " * len(lead)
    lines = [
        textwrap.fill(line, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
        for line in text.splitlines()
    ]
    return lead + "\n".join(lines)[len(lead) :]


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str] = ("",)) -> Table:
    """Returns a table, its columns aligned to the right but for those that `left` names."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    for cells in rows:
        table.add_row(*(Text(shown(cell)) for cell in cells))
    return table


def agreement_table(measures: Sequence[tuple[str, str, Agreement | None]]) -> Table:
    """Returns the figures as a table, one row for each split and judge that was measured."""
    measured = [(split, name, agreement) for split, name, agreement in measures if agreement is not None]
    figures = table_figures(measured[0][2].labels) if measured else {}
    failed = any(agreement.failed for _, _, agreement in measured)
    head = ["split", "judge", "n", *figures.values(), "invalid", *(["failed"] if failed else [])]
    rows = []
    for split, name, a in measured:
        cells = [str(a.n), *(share(getattr(a, figure)) for figure in figures), str(a.invalid)]
        rows.append([split, name, *cells, *([str(a.failed)] if failed else [])])
    return plain_table(head, rows, left=("split", "judge"))


def confusion_table(agreement: Agreement) -> Table:
    """Returns how often each human label met each label of the judge."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(Text("human \\ judge"), no_wrap=True)
    with_invalid = agreement.unlabelled > 0
    last = "invalid" if agreement.flips is None else "no label"
    for name in [*agreement.labels.names, *([last] if with_invalid else [])]:
        table.add_column(Text(shown(name)), justify="right")
    for name, row in zip(agreement.labels.names, agreement.confusion, strict=True):
        cells = row if with_invalid else row[:-1]
        table.add_row(Text(shown(name)), *(str(count) if count else "·" for count in cells))
    return table


Evaluated: TypeAlias = tuple[Agreement, Mapping[str, Interval | None]]
"""Agreement of a judge with its intervals; an interval is None where its figure is undefined."""


def intervals_in_words(agreement: Agreement, intervals: Mapping[str, Interval | None]) -> str:
    """Returns the intervals that are defined, in words."""
    words = table_figures(agreement.labels)
    found = [(word, interval) for name, word in words.items() if (interval := intervals.get(name))]
    return ", ".join(f"{word} {interval.low:.2f} to {interval.high:.2f}" for word, interval in found)


def show_evaluated(
    screen: Screen,
    done: Sequence[Evaluated],
    judges: Sequence[str],
    data: str,
    models: Mapping[str, str],
    people: str | None,
    paired: PairedComparison | None,
) -> None:
    """Prints how far judges agree with people; of two the second is what the first is compared with."""
    screen.text(f"{' against '.join(judges)} on {data} with {models_line(models)}")
    screen.text()
    same = len({Path(judge).name for judge in judges}) < len(judges)
    names = [judge if same else Path(judge).name for judge in judges]
    shown = list(zip(names, done, strict=True))[::-1]
    screen.table(agreement_table([(Path(data).name, name, agreement) for name, (agreement, _) in shown]))
    screen.text()
    for name, (agreement, intervals) in shown:
        which = f" of {name}" if len(done) > 1 else ""
        screen.text(textwrap.fill(f"95% intervals{which}: {intervals_in_words(agreement, intervals)}", screen.width))
        if agreement.flips is not None:
            screen.text(textwrap.fill(f"Orders{which}: {flips_in_words(agreement.flips)}", screen.width))
    if people is not None:
        screen.text(textwrap.fill(people[:1].upper() + people[1:], screen.width))
    if paired is not None:
        screen.text(textwrap.fill(f"{names[1]} → {names[0]}: {paired.wording}", screen.width))
    if not done[0][0].confusion:
        return  # scores do not fit in cells of a table
    screen.text()
    if len(done) > 1:
        screen.text(names[0])
    screen.table(confusion_table(done[0][0]))


def verdict_record(image: str, verdict: Verdict, *, described: bool) -> dict[str, Any]:
    """Returns what `blpo judge --json` says about one image."""
    record: dict[str, Any] = {"image": image, "label": verdict.label, "answer": verdict.answer}
    if described:
        record["description"] = verdict.description
    record["invalid"] = verdict.invalid
    for name in ("inconsistent", "confidence", "escalate"):
        if (value := getattr(verdict, name)) is not None:
            record[name] = value
    record["error"] = verdict.failure or None
    return record


def show_verdict(screen: Screen, image: str, verdict: Verdict) -> None:
    """Prints one line about one image, split by tabs; the label first, for the eye and for `cut`."""
    cells = ["-" if verdict.label is None else shown(verdict.label), shown(image)]
    if verdict.failure:
        cells.append(f"failed: {shown(_one_line(with_flags(verdict.failure, ['allow_outside'])))}")
    elif verdict.inconsistent:
        cells.append("another label in the other order")
    elif verdict.label is None:
        cells.append(f"no label in the answer {_one_line(verdict.answer)!r}")
    if verdict.confidence is not None:
        cells.append(f"confidence {verdict.confidence:.2f}")
    if verdict.escalate:
        cells.append("escalated")
    screen.line("\t".join(cells))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
