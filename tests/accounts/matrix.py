"""The one table of what each path asks for: what is not declared here is refused, so a new path fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OPEN, SOMEBODY, READ, OPERATE, ADMIN, SUPER = range(6)
LEVEL = {"nobody": OPEN, "nora": SOMEBODY, "victor": READ, "uma": OPERATE, "adam": ADMIN, "sue": SUPER}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Way:
    """One method of one path: from which role on, with which body, and what else is a good answer."""

    level: int
    body: Any = None
    also: frozenset[int] = frozenset()  # answers that only somebody who was let in gets
    foreign: int = 404  # of another tenant's object
    below: int = 403  # for those who are known and may not


@dataclass(frozen=True)
class Path:
    """A path with placeholders; `page` where people are led to the login."""

    path: str
    ways: dict[str, Way] = field(default_factory=dict)
    page: bool = False


def way(level: int, body: Any = None, also: Any = (), **statuses: int) -> Way:
    """Short for Way."""
    return Way(level, body, frozenset(also), **statuses)


def api(path: str, **ways: Any) -> Path:
    """A path for programs."""
    return Path(path, {name: made if isinstance(made, Way) else way(made) for name, made in ways.items()})


def page(path: str, **ways: Any) -> Path:
    """A path for people."""
    return Path(path, api(path, **ways).ways, page=True)


def bos(path: str, **ways: Any) -> list[Path]:
    """Both prefixes of BOS."""
    return [api(prefix + path, **ways) for prefix in ("", "/apis/bos")]


BOOT_SET = {"path": "http://i/m.json", "type": "http", "node_list": ["<node>"]}
TEMPLATE = {"boot_sets": {"compute": BOOT_SET}}
SESSION = {"operation": "reboot", "template_name": "<template>"}
V1_SESSION = {"operation": "reboot", "templateName": "<template>"}
NEW_TASK = {
    "task": {
        "name": "new",
        "module": "./m",
        "condition": {"schedule": {"cron": "0 0 1 1 *"}},
        "enabled": True,
    }
}
SERVICE = {"name": "entry", "image": "x/y:1", "command": [], "replicas": 1, "port": 8080}
FLOW = {"name": "flow", "runtime": "fake", "services": [SERVICE]}
STATUS_V1 = "/v1/session/<uuid>/status"

OURS = [
    page("/", GET=READ),
    api("/server/login", POST=way(OPEN, {"username": "x", "password": "y"}, {400})),
    api("/server/login-check", POST=OPEN),
    api("/server/logout", POST=OPEN),
    api("/keycloak/realms/shasta/protocol/openid-connect/token", POST=way(OPEN, {"username": "x"}, {400})),
    api("/healthz", GET=OPEN),
    api("/readyz", GET=way(OPEN, also={503})),
    api("/metrics", GET=SUPER),
    api("/api/schema/", GET=OPEN),
    api("/api/docs/", GET=OPEN),
    page("/overview", GET=READ),
    page("/login", GET=OPEN, **dict.fromkeys(("POST", "PUT"), way(OPEN, {"username": "x"}, {400}))),
    page("/admin/login/", **dict.fromkeys(METHODS, OPEN)),
    page("/login/sso", GET=way(OPEN, also={404})),  # none is configured
    page("/login/sso/callback", GET=way(OPEN, also={404})),
    page("/logout", POST=OPEN),
    page("/preferences", POST=OPEN),
    page("/rail", GET=READ),
    page("/search", GET=READ),
    page("/activity/", GET=READ),
    page("/activity/background/", GET=READ),
    page("/activity/audit/", GET=ADMIN),
    page("/keys/", GET=READ, POST=way(READ, {"name": "k", "scope": "read", "days": "30"}, {400})),
    page("/filters/", POST=way(READ, {"page": "nodes", "name": "f", "query": "role=Compute"})),
    page("/filters/1/forget", POST=way(READ, also={404})),
    api("/api/v1/me", GET=READ),
    api("/api/v1/keys/", GET=READ, POST=way(READ, {"scope": "read"})),
    api("/api/v1/audit/", GET=READ),
    api("/api/v1/audit/export.csv/", GET=READ),
    api("/api/v1/audit/export.jsonl/", GET=READ),
    api("/events/stream", GET=way(READ, also={400})),
]
BOOTS = [
    # Firmware has no identity: whoever is on the boot network, of whatever node.
    api("/apis/bss/boot/v1/bootscript?name=<node>", GET=way(OPEN, also={404}, foreign=200)),
    api("/apis/bos", GET=READ),
    api("/apis/bos/", GET=READ),
    api("/v2/no/such/path"),
    *bos("/v2", GET=READ),
    *bos("/v2/version", GET=READ),
    *bos("/v2/healthz", GET=READ),
    *bos("/v2/sessiontemplates", GET=READ),
    *bos(
        "/v2/sessiontemplates/<template>",
        GET=READ,
        PUT=way(OPERATE, TEMPLATE, foreign=200),  # makes one of this name in one's own tenant
        PATCH=way(OPERATE, {"description": "d"}),
        DELETE=OPERATE,
    ),
    *bos("/v2/sessiontemplatesvalid/<template>", GET=READ),
    *bos("/v2/sessiontemplatetemplate", GET=READ),
    *bos("/v2/sessions", GET=READ, POST=way(OPERATE, SESSION), DELETE=OPERATE),
    *bos(
        "/v2/sessions/<session>",
        GET=READ,
        PATCH=way(OPERATE, {"status": {"status": "running"}}, {400}),
        DELETE=OPERATE,
    ),
    *bos("/v2/sessions/<session>/status", GET=READ, POST=READ),
    *bos(
        "/v2/components",
        GET=READ,
        PUT=way(OPERATE, [{"id": "<node>", "error": "e"}]),
        PATCH=way(OPERATE, [{"id": "<node>", "error": "e"}]),
    ),
    *bos(
        "/v2/components/<node>",
        GET=READ,
        POST=way(OPERATE, {}, {405}, foreign=405),
        PUT=way(OPERATE, {"error": "e"}, foreign=400),
        PATCH=way(OPERATE, {"error": "e"}),
        DELETE=ADMIN,
    ),
    *bos("/v2/applystaged", POST=way(OPERATE, {"xnames": ["<node>"]})),
    *bos("/v2/options", GET=READ, PATCH=way(SUPER, {"logging_level": "INFO"})),
    *bos("/v1", GET=READ),
    *bos("/v1/version", GET=READ),
    *bos("/v1/healthz", GET=READ),
    *bos("/v1/sessiontemplatetemplate", GET=READ),
    *bos("/v1/sessiontemplate", GET=READ, POST=way(OPERATE, {"name": "t1", **TEMPLATE})),
    *bos("/v1/sessiontemplate/<template>", GET=READ, DELETE=OPERATE),
    *bos("/v1/session", GET=READ, POST=way(OPERATE, V1_SESSION)),
    *bos("/v1/session/<uuid>", GET=READ, DELETE=OPERATE),
]
# Written by BOS's own agents: a body of theirs that says nothing is 400 for whoever may write.
WRITES = {
    "POST": way(OPERATE, {}, {400, 409}),
    "PATCH": way(OPERATE, {}, {400}),
    "DELETE": way(OPERATE, None, {400}),
}
BOOTS += [
    *bos("/v1/session/<uuid>/status", GET=READ, **WRITES),
    *bos(
        "/v1/session/<uuid>/status/compute",
        GET=way(READ, also={404}),
        **{**WRITES, "PATCH": way(OPERATE, {}, {400}, foreign=400)},  # the body is looked at first
    ),
    *bos("/v1/session/<uuid>/status/compute/boot", GET=way(READ, also={404})),
    *bos("/v1/session/<uuid>/status/compute/boot/failed", GET=way(READ, also={404})),
]
KEY = way(ADMIN, below=404)
NODES = [
    api("/api/v1/nodes/", GET=READ, POST=way(ADMIN, {"name": "x9c0s0b0n0"})),
    api(
        "/api/v1/nodes/<node>/",
        GET=READ,
        PUT=way(ADMIN, {"name": "<node>"}),
        PATCH=way(ADMIN, {"role": "Storage"}),
        DELETE=way(ADMIN, also={409}),
    ),
    api("/api/v1/nodes/<node>/history/", GET=READ),
    # Another tenant's node is not known there: 400, as for any name that nobody bears.
    api("/api/v1/nodes/power/", POST=way(OPERATE, {"action": "look", "nodes": ["<node>"]}, foreign=400)),
    api("/api/v1/bmcs/", GET=READ, POST=way(ADMIN, {"name": "b9", "kind": "fake"})),
    api(
        "/api/v1/bmcs/<bmc>/",
        GET=READ,
        PUT=way(ADMIN, {"name": "<bmc>", "kind": "fake"}),
        PATCH=way(ADMIN, {"settings": {}}),
        DELETE=way(ADMIN, also={409}),
    ),
    # Groups are the site's: templates of all tenants name them.
    api("/api/v1/groups/", GET=READ, POST=way(SUPER, {"name": "g9"})),
    api(
        "/api/v1/groups/<group>/",
        GET=way(READ, foreign=200),
        PUT=way(SUPER, {"name": "<group>"}),
        PATCH=way(SUPER, {"description": "d"}),
        DELETE=SUPER,
    ),
    api("/api/v1/sessions/", GET=READ, POST=way(OPERATE, {"operation": "boot", "template": "<template>"})),
    api("/api/v1/sessions/preview/", POST=way(OPERATE, {"operation": "boot", "template": "<template>"})),
    api("/api/v1/sessions/<uuid>/", GET=READ),
    api("/api/v1/sessions/<uuid>/cancel/", POST=OPERATE),
    api("/api/v1/sessions/<uuid>/errors/", GET=READ),
    api("/api/v1/sessions/<uuid>/nodes/", GET=READ),
    api("/api/v1/sessions/<uuid>/retry/", POST=way(OPERATE, {}, {409})),
    # A colleague's: only his admin knows that there is such a key.
    api("/api/v1/keys/<key>/", GET=KEY, DELETE=KEY),
    api("/api/v1/keys/<key>/rotate/", POST=KEY),
    page("/keys/<key>/revoke"),
    page("/sessions/", GET=READ),
    page("/sessions/start", GET=OPERATE, POST=way(OPERATE, {"template": "x"}, {400})),
    page("/sessions/<uuid>/", GET=READ),
    page("/sessions/<uuid>/live", GET=READ),
    page("/sessions/<uuid>/map.json", GET=READ),
    page("/sessions/<uuid>/tab/nodes", GET=READ),
    page("/sessions/<uuid>/nodes/<node>", GET=way(READ, also={404})),
    page("/sessions/<uuid>/cancel", GET=OPERATE, POST=way(OPERATE, {}, {409})),
    page("/sessions/<uuid>/retry", GET=way(OPERATE, also={409}), POST=way(OPERATE, {}, {409})),
    page("/nodes/", GET=READ),
    page("/nodes/import", GET=SUPER, POST=way(SUPER, {}, {400})),
    page("/nodes/export.csv", GET=READ),
    page("/nodes/act/look?nodes=<node>", GET=OPERATE, POST=OPERATE),
    page("/nodes/<node>/", GET=READ),
]
TASKS = [
    api("/v1/status", GET=READ),
    api("/v1/status/tasks/<task>", GET=READ),
    api("/v1/status/cluster", GET=way(READ, also={405})),
    api("/v1/status/other", GET=way(READ, also={404})),
    api("/v1/health", GET=way(READ, also={503})),
    api("/v1/tasks", GET=READ, POST=way(OPERATE, {}, {400}), PATCH=way(OPERATE, {}, {400})),
    api(
        "/v1/tasks/<task>",
        GET=READ,
        PUT=way(OPERATE, NEW_TASK, {400, 409}),
        PATCH=way(OPERATE, {"enabled": False}),
        DELETE=OPERATE,
    ),
    # Terraform's HTTP backend: a run's password or an administrator's key by Basic, never the cookie.
    api("/api/v1/tasks/<task>/state"),
    api("/api/v1/tasks/", GET=READ),
    api("/api/v1/tasks/<task>/", GET=READ, DELETE=OPERATE),
    api("/api/v1/tasks/<task>/events/", GET=READ),
    api("/api/v1/tasks/<task>/runs/", GET=READ, POST=OPERATE),
    api("/api/v1/task-runs/", GET=READ),
    api("/api/v1/task-runs/<run>/", GET=READ),
    api("/api/v1/task-runs/<run>/approve/", POST=way(OPERATE, also={409})),
    api("/api/v1/task-runs/<run>/cancel/", POST=way(OPERATE, also={409})),
    api("/api/v1/task-runs/<run>/discard/", POST=way(OPERATE, also={409})),
    api("/api/v1/task-runs/<run>/log/", GET=READ),
    page("/tasks/", GET=READ),
    page("/tasks/<task_uuid>/", GET=READ),
    page("/tasks/<task_uuid>/run/apply", GET=OPERATE, POST=way(OPERATE, {}, {409})),
    page("/tasks/<task_uuid>/enable", GET=OPERATE, POST=way(OPERATE, {}, {409})),
    page("/tasks/<task_uuid>/disable", GET=OPERATE, POST=way(OPERATE, {}, {409})),
    page("/tasks/<task_uuid>/runs/1/", GET=READ),
    page("/tasks/<task_uuid>/runs/1/log", GET=READ),
    page("/tasks/<task_uuid>/runs/1/discard", GET=OPERATE, POST=way(OPERATE, {}, {409})),
]
FLOWS = [
    # The documented door says 403 for a workflow that is not the key's, 404 for one that never was.
    api("/api/v1/runtime/workflow/<workflow>/action/status", GET=way(READ, foreign=403)),
    api("/api/v1/runtime/workflow/<workflow>/action/publish", POST=way(OPERATE, also={409}, foreign=403)),
    api("/api/v1/runtime/workflow/<workflow>/action/unpublish", POST=way(OPERATE, foreign=403)),
    api("/api/v1/runtime/workflow/<workflow>/action/run", POST=way(OPERATE, {}, {503}, foreign=403)),
    api("/api/v1/workflows", GET=READ, POST=way(ADMIN, FLOW)),
    api(
        "/api/v1/workflows/<workflow>",
        GET=READ,
        PUT=way(ADMIN, FLOW),
        PATCH=way(ADMIN, {"description": "d"}),
        DELETE=way(ADMIN, also={409}),
    ),
    api("/api/v1/workflows/<workflow>/publish", POST=way(OPERATE, also={409})),
    api("/api/v1/workflows/<workflow>/unpublish", POST=OPERATE),
    api("/api/v1/workflows/<workflow>/scale", POST=way(OPERATE, {"service": "entry", "replicas": 2}, {400})),
    api("/api/v1/workflows/<workflow>/rollback", POST=way(OPERATE, {"revision": 1})),
    api("/api/v1/workflows/<workflow>/revisions", GET=READ),
    api("/api/v1/workflows/<workflow>/state", GET=READ),
    api("/api/v1/workflows/<workflow>/logs?service=entry&replica=entry-0", GET=way(READ, also={404, 503})),
    api("/api/v1/runs", GET=READ),
    api("/api/v1/runs/<queued>", GET=READ),
    api("/api/v1/runs/<queued>/cancel", POST=OPERATE),
    api("/api/v1/runtimes", GET=READ, POST=way(SUPER, {"name": "r9", "kind": "fake"})),
    api("/api/v1/runtimes/fake", GET=READ, DELETE=way(SUPER, also={409})),
    page("/workflows/", GET=READ),
    page("/workflows/<workflow>/", GET=READ),
    page("/workflows/<workflow>/publish", GET=OPERATE, POST=way(OPERATE, {}, {409})),
    page("/workflows/<workflow>/unpublish", GET=OPERATE, POST=way(OPERATE, {}, {409})),
    page("/workflows/<workflow>/scale", POST=way(OPERATE, {}, {400})),
    page("/workflows/<workflow>/rollback", GET=OPERATE, POST=way(OPERATE, {"revision": "1"}, {409})),
    page("/workflows/<workflow>/logs/entry/entry-0", GET=way(READ, also={404, 503})),
]
TABLE: list[Path] = [*OURS, *BOOTS, *NODES, *TASKS, *FLOWS]
