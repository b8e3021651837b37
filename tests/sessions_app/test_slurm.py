"""Slurm's RebootProgram: applies what is staged, else reboots plainly; the token is in no process list."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sessions_app.models import Node, NodePhase
from tests.contracts.bos import begin
from tests.factories import make_key, make_node, make_olga, make_template

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "slurm" / "muster-reboot"
NAME = "x1000c0s0b0n0"

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def reboot(tmp_path: Path, url: str, token: str, name: str = NAME) -> tuple[int, bool, str]:
    """Exit code, whether it fell back to a plain reboot, what it said."""
    settings, mark = tmp_path / "slurm", tmp_path / "rebooted"
    settings.write_text(f"MUSTER_URL={url}\nMUSTER_TOKEN={token}\n")
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "MUSTER_SETTINGS": str(settings),
        "MUSTER_XNAME": name,
        "MUSTER_REBOOT": f"touch {mark}",
        "MUSTER_PAUSE": "0",
    }
    done = subprocess.run(["sh", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, mark.exists(), done.stderr


def test_a_staged_node_is_left_to_muster(live_server, tmp_path):
    begin(make_template([make_node(NAME)]), name="roll", stage=True)
    token = make_key(make_olga(), scope="operate").token
    code, rebooted, said = reboot(tmp_path, live_server.url, token)
    assert (code, rebooted) == (0, False), said
    assert NodePhase.objects.get(phase__name="shutdown").due_at is not None
    code, rebooted, said = reboot(tmp_path, live_server.url, token)
    assert (code, rebooted) == (0, True)
    assert "nothing is staged" in said
    assert token not in said


def test_what_does_not_fit_is_not_rebooted(live_server, tmp_path):
    begin(make_template([make_node(NAME)]), name="roll", stage=True)
    Node.objects.update(staged=None)
    code, rebooted, said = reboot(tmp_path, live_server.url, make_key(make_olga()).token)
    assert (code, rebooted) == (1, False)
    assert "does not fit" in said


def test_without_muster_the_node_is_rebooted_plainly(tmp_path):
    code, rebooted, said = reboot(tmp_path, "http://127.0.0.1:9", "mst_a_b")
    assert (code, rebooted) == (0, True)
    assert "try 5" in said
