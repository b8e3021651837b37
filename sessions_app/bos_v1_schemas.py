"""What BOS v1's bodies may hold (contracts, BOS 1.2 to 1.4)."""

from __future__ import annotations

from typing import Any

from sessions_app.bos_v2_schemas import FLAG, compiled, record

TEXT = {"type": "string"}
NUMBER = {"type": "integer", "minimum": 0}
NAMES = {"type": "array", "items": TEXT}
SOME_NAMES = {**NAMES, "minItems": 1}
PHASES = "shutdown|boot|configure"
CATEGORIES = "not_started|in_progress|succeeded|failed|excluded"

# Fields of older releases: accepted and dropped.
OLD_TEMPLATE = ("cfs_branch", "cfs_url", "partition")
OLD_CFS = ("branch", "clone_url", "commit", "playbook")
OLD_BOOT_SET = ("boot_ordinal", "network", "shutdown_ordinal")

BOOT_SET = record(
    {
        "name": TEXT,
        "path": TEXT,
        "type": TEXT,
        "etag": TEXT,
        "kernel_parameters": TEXT,
        "node_list": SOME_NAMES,
        "node_roles_groups": SOME_NAMES,
        "node_groups": SOME_NAMES,
        "rootfs_provider": TEXT,
        "rootfs_provider_passthrough": TEXT,
        "network": {"type": "string", "pattern": r"^[nN][mM][nN]\Z"},
        "boot_ordinal": NUMBER,
        "shutdown_ordinal": NUMBER,
    },
    "path",
    "type",
)
TEMPLATE = compiled(
    record(
        {
            "name": {"type": "string", "minLength": 1},
            "description": TEXT,
            "cfs_url": TEXT,
            "cfs_branch": TEXT,
            "enable_cfs": FLAG,
            "cfs": record(dict.fromkeys((*OLD_CFS, "configuration"), TEXT)),
            "partition": TEXT,
            "boot_sets": {"type": "object", "additionalProperties": BOOT_SET},
        },
        "name",
    )
)


def _session(*required: str) -> dict[str, Any]:
    return record(
        {
            "operation": {"type": "string", "pattern": r"^(?i:boot|configure|reboot|shutdown)\Z"},
            "templateUuid": {"type": "string", "minLength": 1},
            "templateName": {"type": "string", "minLength": 1},
            "limit": TEXT,
        },
        "operation",
        *required,
    )


SESSION = compiled(_session())

METADATA = record(
    {
        "complete": FLAG,
        "error_count": {"type": "integer"},
        "in_progress": FLAG,
        "start_time": TEXT,
        "stop_time": {"type": "string", "nullable": True},
    }
)
CATEGORY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": rf"^(?i:{CATEGORIES})\Z"},
        "node_list": NAMES,
    },
}
PHASE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": rf"^(?i:{PHASES})\Z"},
        "metadata": METADATA,
        "categories": {"type": "array", "items": CATEGORY},
        "errors": {"type": "object", "additionalProperties": NAMES},
    },
}
LINKS = {"type": "array", "items": record({"href": TEXT, "rel": TEXT})}
SESSION_STATUS = compiled(
    {
        "type": "object",
        "properties": {
            "metadata": METADATA,
            "boot_sets": SOME_NAMES,
            "id": TEXT,
            "links": LINKS,
        },
    }
)
SESSION_STATUS_PATCH = compiled(METADATA)
BOOT_SET_STATUS = compiled(
    {
        "type": "object",
        "properties": {
            "name": TEXT,
            "session": TEXT,
            "metadata": METADATA,
            "phases": {"type": "array", "items": PHASE},
            "links": LINKS,
        },
    }
)

PHASE_NAME = {"type": "string", "pattern": rf"^(?i:{PHASES})?\Z"}
CATEGORY_NAME = {"type": "string", "pattern": rf"^(?i:{CATEGORIES})\Z"}
UPDATE_DATA: dict[str, dict[str, Any]] = {
    "NodeChangeList": record(
        {"phase": PHASE_NAME, "source": CATEGORY_NAME, "destination": CATEGORY_NAME, "node_list": NAMES},
        "phase",
        "source",
        "destination",
        "node_list",
    ),
    "NodeErrorsList": {"type": "object", "additionalProperties": NAMES},
    "GenericMetadata": METADATA,
}
UPDATES = compiled(
    {
        "type": "array",
        "items": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {
                        "update_type": {"type": "string", "enum": [kind]},
                        "phase": PHASE_NAME,
                        "data": data,
                    },
                    "required": ["data", "phase", "update_type"],
                }
                for kind, data in UPDATE_DATA.items()
            ]
        },
    }
)
