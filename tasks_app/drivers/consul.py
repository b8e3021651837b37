"""Consul's catalog, health and KV over HTTP: one look, or blocking queries for ever.

Plain values in and out. A value is what the module gets: services as a map of instances, the catalog as a
map of names to tags, KV as a map of paths to texts (contracts, CTS 5.1 and 9).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import re2

from .texts import storable

ONE_LOOK = 10.0  # seconds
_QUIET = re2.Options()
_QUIET.log_errors = False


class ConsulError(Exception):
    """Consul did not answer, or not well; `permanent` where the question itself is wrong."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class Consul:
    """An HTTP client; `settings` are address, token, and optionally ca_file."""

    def __init__(self, settings: Mapping[str, Any], session: aiohttp.ClientSession) -> None:
        self._address = str(settings["address"]).rstrip("/")
        self._headers = {"X-Consul-Token": settings["token"]} if settings.get("token") else {}
        self._session = session

    async def get(
        self, path: str, params: Mapping[str, str], *, index: int = 0, wait: float = 0
    ) -> tuple[Any, int]:
        """The JSON of a path and its index; with `index` and `wait` (seconds) it waits for a change.

        A missing key is (None, index). Raises ConsulError.
        """
        query = {key: value for key, value in params.items() if value}
        if index and wait:
            query.update(index=str(index), wait=f"{wait:.0f}s")
        # Consul adds up to a sixteenth of the wait, to spread the answers.
        timeout = aiohttp.ClientTimeout(total=wait * 17 / 16 + ONE_LOOK)
        try:
            async with self._session.get(
                f"{self._address}{path}", params=query, headers=self._headers, timeout=timeout
            ) as answer:
                number = _index(answer.headers.get("X-Consul-Index"))
                if answer.status == 404 and path.startswith("/v1/kv/"):
                    return None, number
                if answer.status != 200:
                    text = (await answer.text())[:300].strip()
                    # Older versions answer 500 to a filter that they can't read.
                    wrong = 400 <= answer.status < 500 and answer.status != 429
                    wrong = wrong or "boolean expression" in text
                    raise ConsulError(f"Consul answered {answer.status}: {text}", permanent=wrong)
                return storable(await answer.json(content_type=None)), number
        except TimeoutError:
            raise ConsulError("Consul did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ConsulError(f"Consul can't be reached ({type(error).__name__})") from None


def _index(text: str | None) -> int:
    try:
        return max(0, int(text or 0))
    except ValueError:
        return 0


# -- questions ----------------------------------------------------------------------------------------


def service_question(name: str, spec: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Path and parameters that ask for the instances of one service.

    Only passing ones, unless the filter looks at the checks itself.
    """
    params = {"dc": spec.get("datacenter", ""), "ns": spec.get("namespace", "")}
    wanted = spec.get("filter", "")
    if wanted:
        params["filter"] = wanted
    if "Checks.Status" not in wanted:
        params["passing"] = "1"
    return f"/v1/health/service/{quote(name, safe='')}", params


def catalog_question(spec: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Path and parameters that ask for the names of all services."""
    params = {"dc": spec.get("datacenter", ""), "ns": spec.get("namespace", "")}
    meta = spec.get("node_meta") or {}
    if meta:
        params["filter"] = " and ".join(
            f"NodeMeta[{_quoted(key)}] == {_quoted(value)}" for key, value in sorted(meta.items())
        )
    return "/v1/catalog/services", params


def _quoted(text: str) -> str:
    return "`" + text.replace("`", "") + "`"


def kv_question(spec: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Path and parameters that ask for a key, or for all below a path."""
    params = {"dc": spec.get("datacenter", ""), "ns": spec.get("namespace", "")}
    if spec.get("recurse"):
        params["recurse"] = "1"
    return f"/v1/kv/{quote(spec['path'].lstrip('/'), safe='/')}", params


# -- answers ------------------------------------------------------------------------------------------


def matching(catalog: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """Names of the catalog that a regexp fits."""
    pattern = re2.compile(spec.get("regexp") or "", _QUIET)
    return sorted(name for name in catalog or {} if pattern.search(name))


def instances(answer: list[Mapping[str, Any]] | None, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The instances of a service by `<id>.<node>.<namespace>.<datacenter>`; what is empty is left out."""
    found = {}
    for entry in answer or []:
        instance = _instance(entry, spec)
        parts = (instance["id"], instance["node"], instance["namespace"], instance["node_datacenter"])
        found[".".join(part for part in parts if part)] = instance
    return found


def _instance(entry: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    node, service = entry.get("Node") or {}, entry.get("Service") or {}
    return {
        "id": service.get("ID", ""),
        "name": service.get("Service", ""),
        "kind": service.get("Kind", "") or "",
        "address": service.get("Address") or node.get("Address", ""),
        "port": service.get("Port", 0),
        "meta": service.get("Meta") or {},
        "tags": sorted(service.get("Tags") or []),
        "namespace": service.get("Namespace", "") or "",
        "status": _status(entry.get("Checks") or []),
        "node": node.get("Node", ""),
        "node_id": node.get("ID", ""),
        "node_address": node.get("Address", ""),
        "node_datacenter": node.get("Datacenter", ""),
        "node_tagged_addresses": node.get("TaggedAddresses") or {},
        "node_meta": node.get("Meta") or {},
        "cts_user_defined_meta": dict(spec.get("cts_user_defined_meta") or {}),
    }


def _status(checks: list[Mapping[str, Any]]) -> str:
    """The worst of an instance's checks; maintenance before all."""
    states = {check.get("Status", "") for check in checks}
    ids = {str(check.get("CheckID", "")) for check in checks}
    if any(name == "_node_maintenance" or name.startswith("_service_maintenance:") for name in ids):
        return "maintenance"
    return next((state for state in ("critical", "warning") if state in states), "passing")


def catalog(answer: Mapping[str, Any] | None, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Tags by name of the services that the regexp fits."""
    return {name: sorted((answer or {})[name] or []) for name in matching(answer or {}, spec)}


def pairs(answer: list[Mapping[str, Any]] | None, spec: Mapping[str, Any]) -> dict[str, str]:
    """Texts by path; what is no text (no UTF-8, or with a NUL) is left out."""
    found = {}
    for entry in answer or []:
        try:
            raw = base64.b64decode(entry.get("Value") or "")
            text = raw.decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
        if "\x00" not in text:
            found[str(entry.get("Key", ""))] = text
    if spec.get("recurse"):
        return {key: value for key, value in found.items() if not key.endswith("/")}
    return found


# -- one look -----------------------------------------------------------------------------------------


def fetch(kind: str, spec: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The value of one watched thing, now. Raises ConsulError."""
    return asyncio.run(_fetch(kind, spec, settings))


async def _fetch(kind: str, spec: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=16)
    async with aiohttp.ClientSession(connector=connector) as session:
        return await look(Consul(settings, session), kind, spec)


async def look(client: Consul, kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The same with a client that is open already."""
    if kind == "consul_kv":
        answer, _ = await client.get(*kv_question(spec))
        return pairs(answer, spec)
    if kind == "catalog_services":
        answer, _ = await client.get(*catalog_question(spec))
        return catalog(answer, spec)
    names = spec.get("names")
    if not names:
        everything, _ = await client.get(*catalog_question({**spec, "node_meta": {}}))
        names = matching(everything, spec)
    found: dict[str, Any] = {}
    for answer, _ in await asyncio.gather(*(client.get(*service_question(name, spec)) for name in names)):
        found.update(instances(answer, spec))
    return found
