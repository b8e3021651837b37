"""Checks a request's JSON against the documented schema, in the words of the original's validator.

Only what the task schema needs: objects with known properties, arrays, texts, booleans. As in the original
the properties of an object are looked at in order of their names, then what is missing; the first fault
ends the check (contracts, CTS 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class SchemaError(ValueError):
    """The value does not fit; the message is the whole sentence for the answer."""


@dataclass(frozen=True)
class Node:
    """One schema. `extra` is the schema of further properties; without it they are refused."""

    kind: str  # object, array, string, boolean, any, number
    properties: Mapping[str, Node] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    items: Node | None = None
    extra: Node | None = None
    nullable: bool = False
    default: Any = None


def obj(*required: str, extra: Node | None = None, **properties: Node) -> Node:
    """An object."""
    return Node("object", properties=properties, required=required, extra=extra)


STRING, BOOLEAN, NUMBER, ANY = Node("string"), Node("boolean"), Node("number"), Node("any")
STRINGS = Node("array", items=STRING)
MAP = obj(extra=STRING)
TRUE, FALSE = Node("boolean", default=True), Node("boolean", default=False)

_PLACE = {"datacenter": STRING, "namespace": STRING}
_SERVICES = {"regexp": STRING, "names": STRINGS, "filter": STRING, **_PLACE}

CONDITION = obj(
    services=obj(
        **_SERVICES,
        cts_user_defined_meta=obj(extra=Node("string", nullable=True)),
        use_as_module_input=TRUE,
    ),
    catalog_services=obj("regexp", regexp=STRING, node_meta=MAP, use_as_module_input=TRUE, **_PLACE),
    consul_kv=obj("path", path=STRING, recurse=FALSE, use_as_module_input=TRUE, **_PLACE),
    schedule=obj("cron", cron=STRING),
    # Ours:
    session=obj(template=STRING, name=STRING, states=STRINGS),
    workflow=obj(id=STRING, name=STRING, states=STRINGS),
)
MODULE_INPUT = obj(
    services=obj(**_SERVICES, cts_user_defined_meta=MAP),
    consul_kv=obj("path", path=STRING, recurse=FALSE, **_PLACE),
)
TASK = obj(
    "name",
    "module",
    "condition",
    description=STRING,
    enabled=TRUE,
    name=STRING,
    providers=STRINGS,
    module=STRING,
    variables=MAP,
    version=STRING,
    buffer_period=obj(enabled=BOOLEAN, min=STRING, max=STRING),
    condition=CONDITION,
    module_input=MODULE_INPUT,
    terraform_version=STRING,
    terraform_cloud_workspace=obj(
        execution_mode=STRING, agent_pool_id=STRING, agent_pool_name=STRING, terraform_version=STRING
    ),
    # Ours:
    auto_apply=BOOLEAN,
    guard_destroy=BOOLEAN,
    timeout=STRING,
    retries=NUMBER,
    driver=STRING,
    command=obj("argv", argv=STRINGS, env=MAP, plan_argv=STRINGS, destroy_argv=STRINGS),
    fake=obj(extra=ANY),
    backend=STRING,
    drift_schedule=STRING,
)
TASK_REQUEST = obj("task", task=TASK)
_PREFIX = "request body has an error: doesn't match schema #/components/schemas/TaskRequest: "
_NAMES = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "boolean": "a boolean",
    "number": "a number",
}


def check_task_request(value: Any) -> dict[str, Any]:
    """The request with defaults filled in. Raises SchemaError."""
    return _visit(TASK_REQUEST, value, ())


def _visit(node: Node, value: Any, path: tuple[str, ...]) -> Any:
    if node.kind == "any":
        return value
    if value is None:
        if node.nullable:
            return None
        raise _error(path, "Value is not nullable")
    if not _fits(node.kind, value):
        raise _error(path, f"value must be {_NAMES[node.kind]}")
    if node.kind == "object":
        return _object(node, value, path)
    if node.kind == "array" and node.items is not None:
        return [_visit(node.items, item, (*path, str(index))) for index, item in enumerate(value)]
    return value


def _object(node: Node, value: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for key in sorted(value):
        if key in node.properties:
            found[key] = _visit(node.properties[key], value[key], (*path, key))
        elif node.extra is not None:
            found[key] = _visit(node.extra, value[key], (*path, key))
        else:
            raise _error(path, f'property "{key}" is unsupported')
    for key in node.required:
        if key not in value:
            raise _error((*path, key), f'property "{key}" is missing')
    for key, child in node.properties.items():
        if key not in found and child.default is not None:
            found[key] = child.default
    return found


def _fits(kind: str, value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {"object": dict, "array": list, "string": str}[kind])


def _error(path: tuple[str, ...], reason: str) -> SchemaError:
    place = f'Error at "/{"/".join(path)}": ' if path else ""
    return SchemaError(f"{_PREFIX}{place}{reason}")
