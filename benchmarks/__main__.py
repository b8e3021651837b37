"""The command `bin/bench`: runs benchmarks, prints a table of ratios, writes JSON."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import report as reports
from benchmarks.report import BenchOptions, Report, Row

VERDICT = {True: "[green]✓ kept[/]", False: "[red]✗ missed[/]", None: ""}


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for.

    0; 1 where a benchmark could not run, or with --strict a bound was missed; 2 for bad arguments.
    """
    given = parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)
    if given.list:
        for name in reports.names():
            console.print(f"{name:<10} {reports.load(name)[1]}", highlight=False)
        return 0
    options = BenchOptions(sizes=given.sizes, repeat=given.repeat, database=given.database, keep=given.keep)
    kept, failed = True, False
    for name in given.names or reports.names():
        console.print(f"[bold]{name}[/]: {reports.load(name)[1]}", highlight=False)
        try:
            report = reports.run(name, options)
        except (OSError, RuntimeError) as problem:  # TimeoutError is an OSError
            console.print(f"[red]{name} could not be measured:[/] ", end="")
            console.print(str(problem), highlight=False, markup=False)
            failed = True
            continue
        path = reports.write(report, given.results)
        show(console, report, path)
        kept = kept and report.ok
    return 1 if failed or (given.strict and not kept) else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; bad arguments end the process with a sentence and status 2."""
    parser = argparse.ArgumentParser(prog="bin/bench", description=(__doc__ or "").strip())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(reports.names())}")
    parser.add_argument("--list", action="store_true", help="say what there is, run nothing")
    parser.add_argument("--sizes", type=_sizes, default=(), metavar="N,...", help="numbers of nodes")
    parser.add_argument("--repeat", type=_positive, default=3, metavar="N", help="of interleaved comparisons")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--results", type=Path, default=reports.RESULTS, metavar="DIR")
    parser.add_argument("--keep", action="store_true", help="leave the working directories")
    parser.add_argument("--strict", action="store_true", help="fail when a bound is missed")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.names) - set(reports.names()))
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(reports.names())}")
    return given


def show(console: Console, report: Report, path: Path) -> None:
    """Print a report as a table, then its notes and the machine."""
    table = Table("what", "measured", "held against", "ratio", "bound", "")
    for column in table.columns[1:5]:
        column.justify = "right"
    for row in report.rows:
        table.add_row(
            row.name,
            f"{number(row.measured)} {row.unit}",
            f"{row.against} {number(row.reference)}" if row.reference is not None else "",
            f"{row.ratio:.2f}×" if row.ratio is not None else "",
            bound(row),
            VERDICT[row.ok],
        )
    console.print(table)
    for note in report.notes:
        console.print(f"  {note}", highlight=False, markup=False)
    facts = report.machine
    console.print(
        f"  {facts['cores']} cores, load {facts['load_before']} to {facts['load_after']}, "
        f"{facts['seconds']} s; {path}\n",
        style="dim",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def bound(row: Row) -> str:
    """What is asked of the ratio."""
    if row.within is None or row.ratio is None:
        return ""
    return f"{'≤' if row.better == 'less' else '≥'} {row.within:g}×"


def number(value: float) -> str:
    """Three significant digits, thousands set apart."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


if __name__ == "__main__":
    # As Ctrl-C does: everything that was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
