"""What the pages about running say is there, and what is there they say."""

from __future__ import annotations

import re

import yaml

from deploy.local.keep import lines
from tests.base import PROJECT

READ = re.compile(r"env\.\w+\(\s*\"(MUSTER_[A-Z_]+)\"")
NAMED = re.compile(r"`(MUSTER_[A-Z_]+)`")


def test_every_setting_is_on_the_page_of_settings() -> None:
    read = set(READ.findall((PROJECT / "config" / "settings.py").read_text()))
    told = set(NAMED.findall((PROJECT / "docs" / "settings.md").read_text()))
    assert len(read) > 20
    assert read - told == set()


def test_no_setting_on_the_page_is_made_up() -> None:
    told = set(NAMED.findall((PROJECT / "docs" / "settings.md").read_text()))
    sources = [*PROJECT.glob("*_app/**/*.py"), *PROJECT.glob("config/*.py"), *PROJECT.glob("deploy/**/*")]
    sources += [*PROJECT.glob("tests/**/*.py"), *PROJECT.glob("bin/*")]
    code = "\n".join(path.read_text(errors="replace") for path in sources if path.is_file())
    assert {name for name in told if name not in code} == set()


def test_every_process_is_described() -> None:
    page = (PROJECT / "docs" / "running.md").read_text()
    assert [name for name in lines() if f"`{name}`" not in page] == []


def test_the_pages_that_the_readme_names_exist() -> None:
    named = re.findall(r"`(docs/[a-z]+\.md)`", (PROJECT / "README.md").read_text())
    assert len(named) > 5
    assert [name for name in named if not (PROJECT / name).exists()] == []
    linked = {path.name for path in (PROJECT / "docs").glob("*.md")}
    assert linked == {name.removeprefix("docs/") for name in named}


def test_units_run_lines_of_the_procfile() -> None:
    target = (PROJECT / "deploy" / "systemd" / "muster.target").read_text()
    units = set(re.findall(r"muster@(\w+)\.service", target))
    assert units | {"web"} == set(lines()) - {"redis", "emulator", "companion"}


def test_containers_run_all_that_production_needs() -> None:
    needed = set(lines()) - {"redis", "emulator", "companion"}
    composed = yaml.safe_load((PROJECT / "deploy/container/compose.yaml").read_text())["services"]
    assert set(composed) - {"database", "redis"} == needed
    own = {name: each["command"] for name, each in composed.items() if name in needed - {"gateway"}}
    assert own == {name: [name] for name in own}
