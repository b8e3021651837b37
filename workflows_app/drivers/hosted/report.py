"""What the supervisor says of each deployment: counts, rollout, every replica; as Kubernetes judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workflows_app.drivers.base import Reason, Rollout, ServicePlan
from workflows_app.drivers.hosted.replica import Host, Replica
from workflows_app.drivers.hosted.store import Order, Store, read_json, write_json


@dataclass
class Progress:
    """How a service's rollout goes; kept over a restart of the supervisor."""

    template: str
    complete: bool = False
    at: float = 0  # of the last progress
    updated: int = 0
    old: int = 0
    ready: int = 0
    available: int = 0


def is_available(replica: Replica, plan: ServicePlan, now: float) -> bool:
    """Ready for long enough, by what is asked for now."""
    return replica.available(now, plan.min_ready_seconds)


class Reporter:
    """Writes status files, and knows which of them have changed."""

    def __init__(self, store: Store, host: Host) -> None:
        self._store = store
        self._host = host
        self._progress: dict[tuple[str, str], Progress] = {}
        self._written: dict[str, Any] = {}

    def recover(self) -> None:
        """Go on from what an earlier supervisor wrote."""
        for path in self._store.status.glob("[!.]*.json"):
            value = read_json(path) or {}
            for service in value.get("services", []):
                if service.get("progress"):
                    self._progress[path.stem, service["id"]] = Progress(**service["progress"])

    def report(self, orders: Mapping[str, Order], replicas: Sequence[Replica], now: float) -> list[str]:
        """Write what has changed; return the deployments that it changed of."""
        mine: dict[tuple[str, str], list[Replica]] = {}
        for replica in replicas:
            mine.setdefault((replica.ref, replica.plan.id), []).append(replica)
        changed = []
        for ref, order in orders.items():
            services = [
                self._service(ref, plan, mine.pop((ref, plan.id), []), now) for plan in order.services
            ]
            for place, key in [pair for pair in mine if pair[0] == ref]:
                services.append(self._ending_service(key, mine.pop((place, key)), now))
            value = {"digest": order.digest, "services": services}
            if self._written.get(ref) != value:
                write_json(self._store.status / f"{ref}.json", value)
                self._written[ref] = value
                changed.append(ref)
        for ref in self._written.keys() - orders.keys():
            del self._written[ref]
        return changed

    def _service(self, ref: str, plan: ServicePlan, mine: list[Replica], now: float) -> dict[str, Any]:
        template = plan.template()
        staying = [each for each in mine if not each.ending]
        new = [each for each in staying if each.template == template]
        ready = sum(each.ready for each in staying)
        available = sum(is_available(each, plan, now) for each in staying)
        new_available = sum(is_available(each, plan, now) for each in new)
        progress = self._progress.get((ref, plan.id))
        if progress is None or progress.template != template:
            progress = self._progress[ref, plan.id] = Progress(template, at=now)
        old = len(staying) - len(new)
        if (
            len(new) > progress.updated
            or old < progress.old
            or ready > progress.ready
            or available > progress.available
        ):
            progress.at = now
        progress.updated, progress.old, progress.ready, progress.available = len(new), old, ready, available
        if len(staying) == len(new) == new_available == plan.replicas:
            progress.complete = True
        rollout, reason, message = self._judge(plan, progress, staying, now)
        return {
            "id": plan.id,
            "desired": plan.replicas,
            "actual": available,
            "updated": len(new),
            "total": len(staying),
            "rollout": rollout,
            "reason": reason,
            "message": message,
            "replicas": [self._replica(each, plan, template, now) for each in _by_age(mine)],
            "progress": {**vars(progress)},
        }

    @staticmethod
    def _judge(
        plan: ServicePlan, progress: Progress, staying: list[Replica], now: float
    ) -> tuple[str, str, str]:
        if progress.complete:
            return Rollout.COMPLETE, Reason.NONE, ""
        if now > progress.at + plan.progress_deadline_seconds:
            words = f"No progress for {plan.progress_deadline_seconds:g} s."
            troubled = next((each for each in staying if each.words or each.refusal), None)
            if troubled is not None:
                words = f"{words} {troubled.word or 'Unschedulable'}: {troubled.words or troubled.refusal}"
            return Rollout.FAILED, Reason.DEADLINE, words
        return Rollout.IN_PROGRESS, Reason.ROLLING_OUT, ""

    def _ending_service(self, key: str, mine: list[Replica], now: float) -> dict[str, Any]:
        """A service that is asked for no more, while its replicas end."""
        plan = mine[0].plan
        return {
            "id": key,
            "desired": 0,
            "actual": sum(is_available(each, plan, now) for each in mine),
            "updated": 0,
            "total": sum(not each.ending for each in mine),
            "rollout": Rollout.IN_PROGRESS,
            "reason": Reason.ROLLING_OUT,
            "message": "",
            "replicas": [self._replica(each, plan, "", now) for each in _by_age(mine)],
            "progress": None,
        }

    def _replica(self, replica: Replica, plan: ServicePlan, template: str, now: float) -> dict[str, Any]:
        state, message = self._words(replica)
        address = ""
        if replica.ready and replica.plan.port is not None:
            where = self._host.address(replica, None)
            address = f"http://{where[0]}:{where[1]}" if where else ""
        return {
            "name": replica.name,
            "state": state,
            "message": message,
            "ready": replica.ready,
            "available": is_available(replica, plan, now),
            "at_latest": replica.template == template,
            "created_at": _iso(replica.created_at),
            "started_at": _iso(replica.started_at),
            "address": address,
            "restarts": replica.restarts,
        }

    def _words(self, replica: Replica) -> tuple[str, str]:
        """Status and message of a replica, in Kubernetes' words where it has them."""
        if replica.ending:
            return "Terminating", ""
        if replica.phase == "running":
            return "Running", "" if replica.ready else replica.probe_error
        if replica.refusal:
            return "Unschedulable", replica.refusal
        if replica.phase == "starting" and not replica.word:
            return self._host.creating, ""
        if not replica.word:
            return "Pending", ""
        if replica.word in {"ErrImagePull", "ImagePullBackOff"}:
            return replica.word, replica.words
        if replica.pause and replica.phase == "waiting":
            return "CrashLoopBackOff", f"back-off {replica.pause:g}s, {replica.word}: {replica.words}"
        return replica.word, replica.words


def _by_age(replicas: list[Replica]) -> list[Replica]:
    return sorted(replicas, key=lambda replica: (replica.created_at, replica.name))


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
