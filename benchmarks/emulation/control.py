"""The fleet's own door, for tests and benchmarks: what the nodes do, what it cost, faults at run time.

GET  /         counts of power states and boot stages, requests, connections, CPU seconds, RSS
GET  /nodes    {xname: {"power", "pending", "fault", "stage"}}
POST /faults   {xname: fault or null, ...} -> 204; 400 changes nothing
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.emulation.bmc import Reply, document, error
from benchmarks.emulation.options import NEEDS_OWN_SOCKET, Fault, OptionsError
from benchmarks.emulation.wire import Connection

if TYPE_CHECKING:
    from benchmarks.fleet import Fleet


class ControlConnection(Connection):
    """One connection to the control door."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._fleet = fleet

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        if (method, path) == ("GET", "/"):
            self.reply(document(summary(self._fleet)))
        elif (method, path) == ("GET", "/nodes"):
            self.reply(document(nodes(self._fleet)))
        elif (method, path) == ("POST", "/faults"):
            try:
                set_faults(self._fleet, json.loads(body))
            except (ValueError, KeyError, AttributeError) as problem:
                self.reply(error(400, "PropertyValueError", str(problem)))
            else:
                self.reply(Reply(204))
        else:
            self.reply(error(404, "ResourceMissingAtURI", "GET /, GET /nodes or POST /faults."))


def summary(fleet: Fleet) -> dict[str, Any]:
    """Counts over the whole fleet, and what it has cost so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "count": len(fleet.bmcs),
        "power": Counter(bmc.power for bmc in fleet.bmcs),
        "pending": sum(bmc.pending is not None for bmc in fleet.bmcs),
        "stages": Counter(fleet.nodes.stage.values()),
        "node_answers": fleet.nodes.answers,
        "requests": fleet.counters.requests,
        "connections": fleet.counters.connections,
        "open": fleet.counters.open,
        "faults": fleet.counters.faults,
        "cpu_seconds": round(time.process_time(), 4),
        "rss_mb": round(_rss_mb(), 1),
        "peak_rss_mb": round(used.ru_maxrss / 1024, 1),
    }


def nodes(fleet: Fleet) -> dict[str, Any]:
    """Each node by its xname."""
    return {
        bmc.xname: {
            "power": bmc.power,
            "pending": bmc.pending,
            "fault": bmc.fault,
            "stage": fleet.nodes.stage.get(bmc.index),
        }
        for bmc in fleet.bmcs
    }


def set_faults(fleet: Fleet, wanted: dict[str, str | None]) -> None:
    """Give BMCs a fault or take it away. Raises ValueError or KeyError, having changed nothing."""
    by_name = {bmc.xname: bmc for bmc in fleet.bmcs}
    changes = [(by_name[name], Fault(fault) if fault else None) for name, fault in wanted.items()]
    if fleet.options.by == "path" and any(fault in NEEDS_OWN_SOCKET for _, fault in changes):
        raise OptionsError("in path mode all BMCs share one socket; use --by address or port")
    for bmc, fault in changes:
        fleet.set_fault(bmc, fault)


def _rss_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
