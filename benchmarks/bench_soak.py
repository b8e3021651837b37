"""Streams under faults: what 500 clients with cursors saw, held against the event table.

Two web processes, three writers (rolled back blocks, late commits, bursts of 10,000 events), and in each
round: web processes killed and stopped, Redis flushed, frozen, and away for a minute, a writer killed.
Clients are on all kinds of streams; some leave by themselves, some read slowly.
"""

from __future__ import annotations

import sys

from benchmarks.report import BenchOptions, Report
from benchmarks.sse.soak import UNLIMITED, Outcome, Plan, Soak
from benchmarks.stand import stand


def run(options: BenchOptions) -> Report:
    """`sizes` are numbers of clients, `repeat` the rounds of all faults, of some two minutes each."""
    report = Report("soak")
    for clients in options.sizes_or(500):
        plan = Plan(clients=clients, rounds=options.repeat)
        with stand(
            database=options.database,
            keep=options.keep,
            processes=("redis", "web"),
            traced=(),
            extra=UNLIMITED,
        ) as one:
            _tell(report, clients, Soak(one, plan, _say).run())
    return report


def _say(sentence: str) -> None:
    print(f"  {sentence}", file=sys.stderr, flush=True)


def _tell(report: Report, clients: int, outcome: Outcome) -> None:
    name = f"{clients:,} clients"
    right = clients - len(outcome.losses)
    report.add(
        f"{name}: saw all, once, in order", right, "", reference=clients, against="clients", better="more"
    )
    report.add(f"{name}: events", outcome.events, "", within=None)
    report.add(f"{name}: deliveries compared", outcome.deliveries, "", within=None)
    report.add(f"{name}: connections", outcome.connections, "", within=None)
    report.add(f"{name}: longest wait for an answer", outcome.waited, "s", within=None)
    faults = ", ".join(f"{name} {count}×" for name, count in outcome.faults.items())
    refused = ", ".join(f"{status} {count}×" for status, count in outcome.refused.items())
    report.notes.append(f"{outcome.seconds:.0f} s; {faults}; refused: {refused or 'none'}")
    report.notes += outcome.losses[:20]
