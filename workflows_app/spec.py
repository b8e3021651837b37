"""From a service as people describe it (a clean JSON object) to the plan that runtimes take."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from workflows_app.drivers.base import Probe, ServicePlan, Strategy

# A service without a probe counts as available once it has run so long: a crashing one would otherwise be
# "available" for a moment at each start, and its rollout a success (contracts, RUNTIMES 1).
MIN_READY_WITHOUT_PROBE = 10
QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
FACTORS = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}


def parse_memory(text: str) -> int:
    """Bytes of "256Mi", "1.5G", "1048576". Raises ValueError."""
    match = QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no amount of memory: write 256Mi, 2Gi or a number of bytes.")
    return int(float(match[1]) * FACTORS.get(match[2] or "", 1))


def service_id(workflow_id: str, name: str) -> str:
    """The id of a service in the status document: its name, cut, and 8 hex digits (as in seed 003)."""
    digest = hashlib.sha256(f"{workflow_id}/{name}".encode()).hexdigest()[:8]
    return f"{name[:24].rstrip('-')}-{digest}"


def service_plan(
    workflow_id: str,
    values: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    restarts: int = 0,
) -> ServicePlan:
    """The plan of one service; `environment` is added beneath the service's own."""
    readiness = values.get("readiness")
    memory = values.get("memory")
    least = values.get("min_ready_seconds")
    if least is None:
        least = 0 if readiness else MIN_READY_WITHOUT_PROBE
    return ServicePlan(
        id=service_id(workflow_id, values["name"]),
        name=values["name"],
        replicas=values.get("replicas", 1),
        image=values.get("image") or "",
        command=tuple(values.get("command") or ()),
        args=tuple(values.get("args") or ()),
        port=values.get("port"),
        environment={**(environment or {}), **(values.get("environment") or {})},
        cpu=values.get("cpu"),
        memory=parse_memory(memory) if memory else None,
        probe=Probe(**readiness) if readiness else None,
        strategy=Strategy(**(values.get("strategy") or {})),
        min_ready_seconds=least,
        progress_deadline_seconds=values.get("progress_deadline_seconds", 600),
        stop_seconds=values.get("stop_seconds", 10),
        drain_seconds=values.get("drain_seconds", 3),
        annotations=values.get("annotations") or {},
        restarts=restarts,
    )
