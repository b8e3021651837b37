"""Nodes and BMCs from CSV: checked whole first, then written whole, or nothing is.

Columns: `name` is needed; nid, mac, role, subrole, arch, enabled, locked, domain, groups (by blanks), bmc,
bmc_kind, bmc_address, bmc_domain, bmc_settings (JSON). What an export of the node list wrote can be read
back. A column that is missing, or a cell that is empty, leaves what is stored. A new BMC without a domain
gets that of its nodes where they have the same; else it is the superadmins'.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError

from accounts_app.models import Domain
from events_app.services import followed, recording
from sessions_app import services
from sessions_app.models import Bmc, Node, NodeGroup
from sessions_app.models.nodes import canonical_mac, canonical_name
from sessions_app.nodeset import fold

COLUMNS = (
    *("name", "nid", "mac", "role", "subrole", "arch", "enabled", "locked", "domain", "groups"),
    *("bmc", "bmc_kind", "bmc_address", "bmc_domain", "bmc_settings"),
)
MOST_ROWS = 100_000
_TRUE, _FALSE = {"yes", "true", "1", "on"}, {"no", "false", "0", "off"}


class ImportRefused(ValueError):
    """The file can't be imported; `problems` has one sentence for each line that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems[:5]))
        self.problems = problems


@dataclass
class Row:
    """One line, checked."""

    name: str
    fields: dict[str, Any]
    groups: list[str] | None
    domain: str
    bmc: str
    bmc_kind: str
    bmc_address: str
    bmc_domain: str
    bmc_settings: dict[str, Any]


@dataclass
class Plan:
    """What an import would do."""

    rows: list[Row] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    bmcs: list[str] = field(default_factory=list)


def plan_import(lines: Iterable[str]) -> Plan:
    """Read and check a file; nothing is written. Raises ImportRefused."""
    reader = csv.DictReader(lines, strict=True)
    problems: list[str] = []
    rows: list[Row] = []
    seen: dict[str, int] = {}
    try:
        header = [name.strip().lower() for name in reader.fieldnames or []]
        _check_header(header)
        reader.fieldnames = header
        for record in reader:
            if len(rows) >= MOST_ROWS:
                raise ImportRefused([f"At most {MOST_ROWS:,} lines are read."])
            try:
                row = _read(record)
                if row.name in seen:
                    raise ValueError(f"{row.name} stands in line {seen[row.name]} already")
                seen[row.name] = reader.line_num
                rows.append(row)
            except (ValueError, ValidationError) as error:
                said = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
                problems.append(f"Line {reader.line_num}: {said}.".replace("..", "."))
    except csv.Error as error:
        problems.append(f"Line {reader.line_num}: this is no CSV ({error}).")
    if problems:
        raise ImportRefused(problems)
    return _compare(rows)


def _check_header(header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if "name" not in header:
        raise ImportRefused(["The first line must name the columns, `name` among them."])
    if unknown:
        raise ImportRefused([f"Unknown columns: {', '.join(unknown[:10])}. Known: {', '.join(COLUMNS)}."])


def _read(record: dict[str, Any]) -> Row:
    if None in record or None in record.values():
        raise ValueError("the number of cells is not that of the first line")
    cells = {name: _plain(text) for name, text in record.items()}
    fields: dict[str, Any] = {name: cells[name] for name in ("role", "subrole", "arch") if cells.get(name)}
    if cells.get("nid"):
        if not cells["nid"].isdecimal() or len(cells["nid"]) > 18:
            raise ValueError(f"'{cells['nid']}' is no node number")
        fields["nid"] = int(cells["nid"])
    if cells.get("mac"):
        fields["mac"] = canonical_mac(cells["mac"])
    for column, name in (("enabled", "hardware_enabled"), ("locked", "locked")):
        if cells.get(column):
            fields[name] = _flag(cells[column])
    try:
        settings = json.loads(cells.get("bmc_settings") or "{}")
    except ValueError:
        raise ValueError("bmc_settings is no JSON") from None
    if not isinstance(settings, dict):
        raise ValueError("bmc_settings must be a JSON object")
    return Row(
        name=canonical_name(cells["name"]),
        fields=fields,
        groups=cells["groups"].split() if cells.get("groups") else None,
        domain=cells.get("domain", ""),
        bmc=cells.get("bmc", ""),
        bmc_kind=cells.get("bmc_kind", ""),
        bmc_address=cells.get("bmc_address", ""),
        bmc_domain=cells.get("bmc_domain", ""),
        bmc_settings=settings,
    )


def _plain(text: str) -> str:
    """A cell without the quote that an export writes before what a spreadsheet would take for a formula."""
    text = text.strip()
    return text[1:] if text[:1] == "'" and text[1:2] in "=+-@" else text


def _flag(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"'{text}' is neither yes nor no")


def _compare(rows: list[Row]) -> Plan:
    known = set(Node.objects.values_list("name", flat=True))
    bmcs = sorted({row.bmc for row in rows if row.bmc})
    return Plan(
        rows=rows,
        new=[row.name for row in rows if row.name not in known],
        changed=[row.name for row in rows if row.name in known],
        bmcs=bmcs,
    )


def carry_out(plan: Plan, *, actor: Any, each: Callable[[list[Row]], Iterable[Row]] = iter) -> None:
    """Write all of it in one transaction, as a background task of `actor`; `each` may watch the rows go by.

    Raises ImportRefused; then nothing was written.
    """
    count = len(plan.rows)
    with followed(kind="import_nodes", owner=actor, subject=f"{count:,} nodes", total=count) as task:
        try:
            with recording():
                domains = _domains(plan.rows)
                bmcs = _write_bmcs(plan.rows, domains, actor)
                groups = _write_groups(plan.rows)
                for row in each(plan.rows):
                    _write_node(row, bmcs, groups, domains)
        except (services.Refused, ValidationError) as error:
            said = error.messages if isinstance(error, ValidationError) else [str(error)]
            raise ImportRefused(list(said)) from None
        task.message = f"{len(plan.new):,} nodes were added, {len(plan.changed):,} changed."
        task.result = {"added": fold(plan.new), "changed": fold(plan.changed), "bmcs": len(plan.bmcs)}


def _domains(rows: list[Row]) -> dict[str, Domain]:
    """The domains that the rows name, by name; all must be there."""
    domains = {domain.name: domain for domain in Domain.objects.all()}
    for row in rows:
        for name in (row.domain, row.bmc_domain):
            if name and name not in domains:
                raise ImportRefused([f"{row.name}: there is no domain {name}."])
    return domains


def _write_bmcs(rows: list[Row], domains: dict[str, Domain], actor: Any) -> dict[str, Bmc]:
    wanted = {row.bmc for row in rows if row.bmc}
    found = {bmc.name: bmc for bmc in Bmc.objects.select_related("domain").filter(name__in=wanted)}
    of_nodes: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        of_nodes[row.bmc].add(row.domain)
    for row in rows:
        known = found.get(row.bmc)
        told = row.bmc_kind or row.bmc_address or row.bmc_domain or row.bmc_settings
        if not row.bmc or (known and not told):
            continue
        if known is None and not row.bmc_kind:
            raise ImportRefused([f"{row.name}: BMC {row.bmc} is new, so bmc_kind is needed."])
        settings = {**(known.settings if known else {}), **row.bmc_settings}
        domain = domains.get(row.bmc_domain) or (known.domain if known else None)
        if known is None and domain is None and len(of_nodes[row.bmc]) == 1:
            domain = domains.get(row.domain)
        same = known and (row.bmc_kind or known.kind, row.bmc_address or known.address, domain, settings) == (
            known.kind,
            known.address,
            known.domain,
            known.settings,
        )
        if not same:
            found[row.bmc] = services.register_bmc(
                name=row.bmc,
                kind=row.bmc_kind or (known.kind if known else ""),
                address=row.bmc_address or (known.address if known else ""),
                settings=settings,
                domain=domain,
                actor=actor,
            )
    return found


def _write_groups(rows: list[Row]) -> dict[str, NodeGroup]:
    names = {name for row in rows for name in row.groups or []}
    NodeGroup.objects.bulk_create([NodeGroup(name=name) for name in sorted(names)], ignore_conflicts=True)
    return {group.name: group for group in NodeGroup.objects.filter(name__in=names)}


def _write_node(
    row: Row, bmcs: dict[str, Bmc], groups: dict[str, NodeGroup], domains: dict[str, Domain]
) -> None:
    values = dict(row.fields)
    stored = Node.objects.select_related("bmc", "domain").filter(name=row.name).first()
    bmc = bmcs.get(row.bmc) if row.bmc else (stored.bmc if stored else None)
    domain = domains.get(row.domain) or (stored.domain if stored else None)
    services.register_node(
        name=row.name,
        bmc=bmc,
        domain=domain,
        groups=None if row.groups is None else [groups[name] for name in row.groups],
        mac=values.pop("mac", "") or (stored.mac or "" if stored else ""),
        **values,
    )
