"""What stands before a first start: Python, the virtual environment, the package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local import environment
from deploy.local.environment import Refusal
from tests.base import PROJECT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with what a start reads before anything is installed."""
    target = tmp_path / "muster"
    for name in ("bin", "deploy"):
        shutil.copytree(PROJECT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "Procfile"):
        shutil.copy(PROJECT / name, target / name)
    return target


def up(checkout: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MUSTER_", "PIP_"))}
    return subprocess.run(
        ["/bin/sh", "bin/up", "--port", "0", "--home", "home"],
        cwd=checkout,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def only_with(directory: Path, **programs: str) -> str:
    """A PATH with the shell's tools and these scripts alone."""
    directory.mkdir()
    for tool in ("sh", "dirname"):
        (directory / tool).symlink_to(shutil.which(tool) or "")
    for name, script in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return str(directory)


def test_a_python_that_is_too_old_is_named_in_one_sentence(checkout: Path, tmp_path: Path) -> None:
    old = 'case "$2" in *exit*) exit 1 ;; *) echo 3.9.2 ;; esac'
    answer = up(checkout, PATH=only_with(tmp_path / "bin", python3=old))
    assert answer.returncode == 1
    assert answer.stderr == (
        f"Muster needs Python 3.11 or later ({tmp_path}/bin/python3 is 3.9.2): "
        "install one, or name it in MUSTER_PYTHON.\n"
    )


def test_without_any_python_it_says_so(checkout: Path, tmp_path: Path) -> None:
    answer = up(checkout, PATH=only_with(tmp_path / "bin"))
    assert answer.returncode == 1
    assert "there is no Python on the PATH" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_later_python_with_its_number_in_its_name_is_found(checkout: Path, tmp_path: Path) -> None:
    old = 'case "$2" in *exit*) exit 1 ;; *) echo 3.9.2 ;; esac'
    path = only_with(tmp_path / "bin", python3=old, **{"python3.12": "echo 3.12.1 chosen >&2; exit 0"})
    assert "3.12.1 chosen" in up(checkout, PATH=path).stderr


def test_without_a_package_index_one_sentence_says_what_to_do(checkout: Path) -> None:
    answer = up(
        checkout, PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_NO_CACHE_DIR="1"
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith(
        "The Python packages could not be installed because no package index answers"
    )
    assert answer.stderr.count("\n") == 1
    assert not (checkout / ".venv" / ".muster-product").exists(), "a later start must try again"


def test_a_package_that_does_not_exist_is_named(checkout: Path) -> None:
    (checkout / "requirements.txt").write_text("there is no such package\n")
    answer = up(checkout)
    assert answer.returncode == 1
    assert "pip could not install requirements.txt: Invalid requirement" in answer.stderr


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A project with these requirements; what `ensure` did with them is noted."""
    done: list[str] = []
    monkeypatch.setattr(environment, "PROJECT", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(environment, "_install", lambda file: done.append(file.name))

    def make() -> None:
        done.append("venv")
        python = tmp_path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.unlink(missing_ok=True)
        python.symlink_to(sys.executable)

    monkeypatch.setattr(environment, "_make_venv", make)

    def ensure(requirements: str) -> list[str]:
        done.clear()
        (tmp_path / "requirements.txt").write_text(requirements)
        environment.ensure()
        return list(done)

    return ensure


def test_it_installs_once_and_again_only_when_the_requirements_change(
    project: Callable[[str], list[str]],
) -> None:
    assert project("one==1\n") == ["venv", "requirements.txt"]
    assert project("one==1\n") == []
    assert project("one==2\n") == ["requirements.txt"]


def test_an_environment_whose_python_is_gone_is_made_anew(
    project: Callable[[str], list[str]], tmp_path: Path
) -> None:
    project("one==1\n")
    (tmp_path / ".venv" / "bin" / "python").unlink()
    assert project("one==1\n")[0] == "venv"


def test_python_without_its_venv_module_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(Refusal, match=r"lacks its venv module: install it .*apt install python3\.\d+-venv"):
        environment._make_venv()


def test_a_place_that_can_not_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(environment, "VENV", tmp_path / "file" / ".venv")
    with pytest.raises(Refusal, match=r"can't be made: Not a directory"):
        environment._make_venv()
