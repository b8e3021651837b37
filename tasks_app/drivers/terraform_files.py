"""The root module that Terraform gets for a task, as JSON. Nothing is ever pasted into HCL.

Values of users (module address, variables, what Consul says) stand in JSON only where Terraform takes text
literally: `source`, `version`, `*.auto.tfvars.json`. The only expressions are references written here, to
names that were checked. Layout and types: contracts, CTS 9.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAIN = "main.tf.json"
INPUTS = "terraform.tfvars.json"
VARIABLES = "variables.auto.tfvars.json"
PROVIDERS = "providers.auto.tfvars.json"
OLDEST = ">= 1.4.0"

_INSTANCE = (
    "object({id = string, name = string, kind = string, address = string, port = number, meta = map(string),"
    " tags = list(string), namespace = string, status = string, node = string, node_id = string,"
    " node_address = string, node_datacenter = string, node_tagged_addresses = map(string),"
    " node_meta = map(string), cts_user_defined_meta = map(string)})"
)
INPUT_TYPES = {
    "services": f"map({_INSTANCE})",
    "catalog_services": "map(list(string))",
    "consul_kv": "map(string)",
}
# Arguments of a module block that are not variables of the module.
RESERVED = frozenset(
    {"source", "version", "providers", "count", "for_each", "depends_on", "lifecycle", "locals"}
)
_IDENTIFIER = re.compile(r"[^\W\d][\w-]*")


def is_identifier(text: str) -> bool:
    """Whether a text is an HCL identifier: a letter or underscore, then letters, digits, `_`, `-`."""
    return _IDENTIFIER.fullmatch(text) is not None


def module_source(module: str, directory: Path) -> str:
    """The module's address; a path is written relative to the task's directory.

    Terraform uses a module by relative path in place and copies one by absolute path, so that later edits
    of a copied one would be missed. `./` and `../` count from the working directory of this process.
    """
    if not module.startswith(("./", "../", "/")) and module not in {".", ".."}:
        return module
    relative = os.path.relpath(os.path.realpath(module), os.path.realpath(directory))
    return relative if relative.startswith("../") else f"./{relative}"


def backend_path(kind: str, settings: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Settings of the backend block; a local state lies in the task's own directory."""
    if kind == "local" and not settings:
        return {"path": str(directory / "terraform.tfstate"), "workspace_dir": str(directory / "states")}
    return dict(settings)


def root_module(
    *,
    name: str,
    directory: Path,
    document: Mapping[str, Any],
    inputs: Mapping[str, Any],
    backend: Mapping[str, Any],
    providers: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of main.tf.json."""
    given = {"services": {}, **inputs}  # `services` is always passed (contract, CTS 9)
    blocks = {kind: dict(settings) for kind, settings in backend.items()}
    terraform: dict[str, Any] = {"required_version": OLDEST, "backend": blocks}
    module: dict[str, Any] = {"source": module_source(document["module"], directory)}
    if document.get("version"):
        module["version"] = document["version"]
    variables: dict[str, Any] = {}
    for key in given:
        variables[key] = {"type": INPUT_TYPES[key]} if key in INPUT_TYPES else {}
        module[key] = f"${{var.{key}}}"
    for key in document.get("variables") or {}:
        variables[key] = {}
        module[key] = f"${{var.{key}}}"
    root: dict[str, Any] = {"terraform": terraform, "variable": variables, "module": {name: module}}
    _add_providers(root, terraform, document.get("providers") or [], providers, module)
    return root


def _add_providers(
    root: dict[str, Any],
    terraform: dict[str, Any],
    wanted: list[str],
    known: Mapping[str, Any],
    module: dict[str, Any],
) -> None:
    for word in wanted:
        name, _, alias = word.partition(".")
        settings = known.get(word) or known.get(name) or {}
        source = {key: settings[key] for key in ("source", "version") if settings.get(key)}
        if source:
            terraform.setdefault("required_providers", {})[name] = source
        if not settings.get("config") and not alias:
            continue
        variable = f"provider_{name}"
        # Sensitive, as they are passwords more often than not: Terraform then masks them.
        root["variable"][variable] = {"sensitive": True}
        block = {key: f"${{var.{variable}.{key}}}" for key in settings.get("config") or {}}
        if alias:
            block["alias"] = alias
            module.setdefault("providers", {})[name] = word
        root.setdefault("provider", {}).setdefault(name, []).append(block)


def provider_values(wanted: list[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the providers' variables."""
    values = {}
    for word in wanted:
        name, _, alias = word.partition(".")
        settings = known.get(word) or known.get(name) or {}
        if settings.get("config") or alias:
            values[f"provider_{name}"] = dict(settings.get("config") or {})
    return values


def provider_environment(wanted: list[str], known: Mapping[str, Any]) -> dict[str, str]:
    """Environment variables that the providers of a task bring (`task_env` in the original)."""
    found: dict[str, str] = {}
    for word in wanted:
        settings = known.get(word) or known.get(word.partition(".")[0]) or {}
        found.update({str(key): str(value) for key, value in (settings.get("env") or {}).items()})
    return found


def write_json(path: Path, content: Any) -> bool:
    """Write a file that only we may read, whole or not at all; answer whether it is another one now."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    try:
        if path.read_text() == text:
            return False
    except OSError:
        pass
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
    return True
