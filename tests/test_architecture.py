"""The house rules that are kept by reading the code: floors, rooms, one writer of a status."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "events_app": 0,
    "accounts_app": 1,
    "sessions_app": 2,
    "tasks_app": 2,
    "workflows_app": 2,
    "config": 3,
}
APPS = [name for name in FLOORS if name != "config"]
# What a higher floor may use of a lower one.
OPEN_ROOMS = {
    "services", "models", "permissions", "signals", "states", "secrets", "declared", "admin",
    "authentication", "problems", "strict", "filters", "idempotency", "asking",
    "limits", "addresses", "parsers",
}  # fmt: skip
# Rooms of one app, upper rooms may use lower ones. What is not listed is a helper and may be used by all
# rooms above the models.
ROOMS = [
    {"states"},
    {"declared", "drivers", "secrets", "configuration"},
    {"models"},
    {"signals"},
    {"services", "steps"},
    {"forms", "serializers", "authentication", "permissions"},
    {"views", "api", "admin", "receivers"},
    {"urls"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
LOWEST = {"states", "drivers", "secrets", "models", "signals"}
STATUS_WORDS = {"status", "category"}
WRITERS = {
    # The doors through which a status moves: a table is checked, the old status must still hold.
    "events_app/models.py",
    "sessions_app/models/sessions.py",
}


def files() -> list[Path]:
    """Every module of the apps."""
    found = [
        path
        for app in FLOORS
        for path in (ROOT / app).rglob("*.py")
        if "migrations" not in path.parts and "__pycache__" not in path.parts
    ]
    assert len(found) > 30
    return sorted(found)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of whatever a module imports, wherever in the module."""
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = list(package[: len(package) - node.level]) if node.level else []
            base = ".".join([*start, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def ours(name: str) -> tuple[str, str] | None:
    """App and room of an imported name, None where it is not ours."""
    parts = name.split(".")
    if parts[0] not in FLOORS:
        return None
    return parts[0], parts[1] if len(parts) > 1 else ""


def room_of(path: Path) -> str:
    """The room that a module is in: drivers/redfish.py is in drivers, models/nodes.py in models."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_nobody_imports_from_a_higher_floor_or_sideways():
    wrong = []
    for path in files():
        app = path.relative_to(ROOT).parts[0]
        for line, name in imports(path):
            target = ours(name)
            if target is None or target[0] == app:
                continue
            if FLOORS[target[0]] >= FLOORS[app]:
                wrong.append(f"{relative(path)}:{line} imports {name}")
    assert wrong == []


def test_a_lower_floor_is_entered_only_through_its_open_rooms():
    wrong = []
    for path in files():
        app = path.relative_to(ROOT).parts[0]
        if app == "config":
            continue  # wires everything
        for line, name in imports(path):
            target = ours(name)
            if target is not None and target[0] != app and target[1] not in OPEN_ROOMS:
                wrong.append(f"{relative(path)}:{line} imports {name}")
    assert wrong == []


def test_no_room_imports_from_a_room_above_it():
    wrong = []
    for path in files():
        app, room = path.relative_to(ROOT).parts[0], room_of(path)
        if room not in LEVEL or app == "config":
            continue
        for line, name in imports(path):
            target = ours(name)
            if target is None or target[0] != app or target[1] == room:
                continue
            above = LEVEL.get(target[1])
            if above is None:
                # A helper that knows no rows may serve any room; one that does stands above the models.
                wrong_way = room in LOWEST and _knows_rows(app, target[1])
            else:
                wrong_way = above > LEVEL[room]
            if wrong_way:
                wrong.append(f"{relative(path)}:{line} imports {name}")
    # A model writes its event through the service that numbers it; the service needs the model's table.
    allowed = {"events_app/models.py"}
    assert [line for line in wrong if line.split(":")[0] not in allowed] == []


def _knows_rows(app: str, name: str) -> bool:
    path = ROOT / app / f"{name}.py"
    if not path.exists():
        return False
    used = {target[1] for _, imported in imports(path) if (target := ours(imported)) and target[0] == app}
    return bool(used - {"states", "drivers", "secrets"})


def test_django_eventstream_has_one_importer():
    importers = {
        relative(path)
        for path in files()
        for _, name in imports(path)
        if name.split(".")[0] == "django_eventstream"
    }
    assert importers <= {"events_app/stream.py"}


def status_writes(path: Path) -> Iterator[str]:
    """Assignments to `.status` or `.category`, and `update(status=…)` of a queryset."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                own = isinstance(target, ast.Attribute) and target.attr in STATUS_WORDS
                if own and not (isinstance(target.value, ast.Name) and target.value.id == "response"):
                    yield f"{relative(path)}:{node.lineno}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            updates = node.func.attr in {"update", "update_or_create"}
            if updates and any(keyword.arg in STATUS_WORDS for keyword in node.keywords):
                yield f"{relative(path)}:{node.lineno}"


def test_a_status_is_written_in_one_place():
    # Drivers hold no rows: what they call a status is not one of these.
    found = [place for path in files() if room_of(path) != "drivers" for place in status_writes(path)]
    assert [place for place in found if place.split(":")[0] not in WRITERS] == []
    assert {place.split(":")[0] for place in found} == WRITERS  # the rule finds what it looks for


@pytest.mark.parametrize("app", APPS)
def test_drivers_know_neither_models_nor_the_database(app):
    for path in (ROOT / app / "drivers").rglob("*.py"):
        for line, name in imports(path):
            assert not name.startswith("django.db"), f"{relative(path)}:{line}"
            target = ours(name)
            assert target is None or target[1] in {"drivers", "declared", "states"}, (
                f"{relative(path)}:{line} {name}"
            )


@pytest.mark.parametrize("app", APPS)
def test_celery_functions_live_in_steps(app):
    for path in files():
        if path.relative_to(ROOT).parts[0] == app and path.name != "steps.py":
            assert all(name != "celery.shared_task" for _, name in imports(path)), relative(path)


def test_no_file_has_outgrown_its_reader():
    long = {relative(path): len(path.read_text().splitlines()) for path in files()}
    assert {path: lines for path, lines in long.items() if lines > 600} == {}
