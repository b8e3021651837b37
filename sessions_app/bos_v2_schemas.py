"""What BOS v2's bodies may hold: names, types and limits of the original's specification."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft4Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

# Patterns as the original spells them, for errors show them; `_pattern` lets no line break follow.
NAME = "^[a-zA-Z0-9](?:[-._a-zA-Z0-9]{0,125}[a-zA-Z0-9])?$"
AGE = "^(0|0[mMhHdDwW]|[1-9][0-9]*[mMhHdDwW])$"
LEVEL = "|".join(
    "".join(f"[{letter}{letter.upper()}]" for letter in word)
    for word in ("debug", "info", "warning", "error", "critical")
)


def _type(validator: Any, types: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """As usual, but OpenAPI's `nullable` lets null pass."""
    if instance is None and schema.get("nullable"):
        return
    yield from Draft4Validator.VALIDATORS["type"](validator, types, instance, schema)


def _enum(validator: Any, words: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if instance is None and schema.get("nullable"):
        return
    yield from Draft4Validator.VALIDATORS["enum"](validator, words, instance, schema)


def _pattern(
    validator: Any, pattern: str, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """As usual, but `$` is the end of the text, not also the place before a line break there."""
    if isinstance(instance, str) and (instance.endswith("\n") or not re.search(pattern, instance)):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = extend(Draft4Validator, {"type": _type, "enum": _enum, "pattern": _pattern})


def compiled(schema: Mapping[str, Any]) -> Draft4Validator:
    """A validator for `bos.check`."""
    validator: Draft4Validator = _Validator(schema)
    return validator


def text(longest: int, shortest: int = 0, **more: Any) -> dict[str, Any]:
    """A string within these lengths."""
    return {"type": "string", **({"minLength": shortest} if shortest else {}), "maxLength": longest, **more}


def whole(least: int, most: int) -> dict[str, Any]:
    """A whole number within these bounds."""
    return {"type": "integer", "minimum": least, "maximum": most}


def listing(most: int, items: Mapping[str, Any], least: int = 1) -> dict[str, Any]:
    """An array."""
    return {"type": "array", **({"minItems": least} if least else {}), "maxItems": most, "items": items}


def record(properties: Mapping[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    """An object with these properties and no others."""
    # The order is the original's: what is wrong first is what is told.
    found: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        found["required"] = list(required)
    return {**found, "additionalProperties": False, **more}


FLAG = {"type": "boolean"}
MOMENT = {"type": "string"}  # BOS fills it in; what is sent is overwritten
NAMED = text(127, 1, pattern=NAME)
NAMED_OR_EMPTY = {"oneOf": [NAMED, {"type": "string", "enum": [""]}]}
AGED = {"type": "string", "pattern": AGE, "minLength": 1, "maxLength": 8}
SESSION_STATES = {"type": "string", "enum": ["pending", "running", "complete"]}
PHASES = {"type": "string", "enum": ["configuring", "powering_off", "powering_on", ""]}
CFS = record({"configuration": text(127)})

BOOT_SET = record(
    {
        "name": NAMED,
        "path": text(4095, 1),
        "cfs": CFS,
        "type": text(127, 1),
        "etag": text(65536),
        "kernel_parameters": text(4096),
        "node_list": listing(65535, text(127, 1)),
        "node_roles_groups": listing(1023, text(127, 1)),
        "node_groups": listing(4095, text(127, 1)),
        "arch": {"type": "string", "enum": ["X86", "ARM", "Other", "Unknown"]},
        "rootfs_provider": text(511, 1),
        "rootfs_provider_passthrough": text(4096),
    },
    "path",
    "type",
)
# In a PATCH a boot set that exists keeps what is not named.
BOOT_SET_PATCH = {key: value for key, value in BOOT_SET.items() if key != "required"}


def _template(boot_set: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "description": text(1023, 1),
        "enable_cfs": FLAG,
        "cfs": CFS,
        "boot_sets": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 127,
            "additionalProperties": boot_set,
        },
    }


# name, tenant and links are read-only: sessions_app.bos_v2 lets through those that say what is so.
TEMPLATE = compiled({**record(_template(BOOT_SET)), "required": ["boot_sets"]})
TEMPLATE_PATCH = compiled(record(_template(BOOT_SET_PATCH)))

SESSION = compiled(
    record(
        {
            "name": NAMED,
            "operation": {"type": "string", "enum": ["boot", "reboot", "shutdown"]},
            "template_name": NAMED,
            "limit": text(524288, nullable=True),
            "stage": FLAG,
            "include_disabled": FLAG,
        },
        "operation",
        "template_name",
    )
)
SESSION_PATCH = compiled(
    record(
        {
            "components": text(524288),
            "status": record(
                {
                    "start_time": text(127),
                    "end_time": text(127, nullable=True),
                    "status": SESSION_STATES,
                    "error": text(65536, nullable=True),
                }
            ),
        }
    )
)

ARTIFACTS = record({"kernel": text(4095), "kernel_parameters": text(4096), "initrd": text(4095)})
TOKEN = text(65535)
COMPONENT_PROPERTIES: dict[str, Any] = {
    "id": text(127, 1),
    "actual_state": record({"boot_artifacts": ARTIFACTS, "bss_token": TOKEN, "last_updated": MOMENT}),
    "desired_state": record(
        {"boot_artifacts": ARTIFACTS, "configuration": text(127), "bss_token": TOKEN, "last_updated": MOMENT}
    ),
    "staged_state": record(
        {
            "boot_artifacts": ARTIFACTS,
            "configuration": text(127),
            "session": NAMED_OR_EMPTY,
            "last_updated": MOMENT,
        }
    ),
    "last_action": record(
        {
            "last_updated": MOMENT,
            "action": {
                "type": "string",
                "enum": [
                    "actual_state_cleanup",
                    "apply_staged",
                    "newly_discovered",
                    "powering_off_forcefully",
                    "powering_off_gracefully",
                    "powering_on",
                    "session_setup",
                ],
            },
            "failed": FLAG,
        }
    ),
    "event_stats": record(
        {
            "power_on_attempts": whole(0, 1048576),
            "power_off_graceful_attempts": whole(0, 1048576),
            "power_off_forceful_attempts": whole(0, 1048576),
        }
    ),
    "status": record(
        {
            "phase": PHASES,
            "status": {"type": "string"},  # computed; what is sent has no effect
            "status_override": text(65536),
        }
    ),
    "enabled": FLAG,
    "error": text(65536),
    "session": NAMED_OR_EMPTY,
    "retry_policy": whole(0, 1048576),
}
COMPONENT = record(COMPONENT_PROPERTIES, minProperties=1)
COMPONENT_WITH_ID = record(COMPONENT_PROPERTIES, "id")
EMPTY = {"type": "string", "enum": [""], "nullable": True}
COMPONENT_BODY = compiled(COMPONENT)
COMPONENTS_PUT = compiled({"type": "array", "items": COMPONENT_WITH_ID})
COMPONENTS_BY_FILTER = compiled(
    record(
        {
            "patch": COMPONENT,
            "filters": {
                "oneOf": [
                    record({"ids": text(65535, 1), "session": EMPTY}, "ids"),
                    record({"ids": EMPTY, "session": NAMED}, "session"),
                ]
            },
        },
        "patch",
        "filters",
    )
)
APPLY_STAGED = compiled(record({"xnames": listing(32768, text(127, 1), least=0)}))

READ_TIMEOUT = whole(10, 86400)
WAIT = whole(0, 1048576)
OPTIONS = compiled(
    {
        "type": "object",
        "properties": {
            "bss_read_timeout": READ_TIMEOUT,
            "cfs_read_timeout": READ_TIMEOUT,
            "cleanup_completed_session_ttl": AGED,
            "clear_stage": FLAG,
            "component_actual_state_ttl": {
                "type": "string",
                "pattern": "^[1-9][0-9]*[hHdDwW]$",
                "minLength": 2,
                "maxLength": 8,
            },
            "default_retry_policy": WAIT,
            "discovery_frequency": whole(0, 33554432),
            "hsm_read_timeout": READ_TIMEOUT,
            "ims_errors_fatal": FLAG,
            "ims_images_must_exist": FLAG,
            "ims_read_timeout": READ_TIMEOUT,
            "logging_level": {"type": "string", "pattern": f"^({LEVEL})$"},
            "max_boot_wait_time": WAIT,
            "max_component_batch_size": whole(0, 131071),
            "max_power_off_wait_time": WAIT,
            "max_power_on_wait_time": WAIT,
            "pcs_read_timeout": READ_TIMEOUT,
            "polling_frequency": WAIT,
            "reject_nids": FLAG,
            "session_limit_required": FLAG,
        },
        "minProperties": 1,
        "maxProperties": 1024,
    }
)
