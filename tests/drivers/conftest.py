"""BMCs for the driver tests: scripted ones, and the real emulator."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .scripted_bmc import ScriptedBmc, make_certificate

EMULATED = [f"5a3e0000-0000-4000-8000-{number:012d}" for number in range(5)]


@pytest.fixture
def make_bmc() -> Iterator[Callable[..., ScriptedBmc]]:
    """Make scripted BMCs that stop with the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(ScriptedBmc(*args, **options))


@pytest.fixture
def bmc(make_bmc: Callable[..., ScriptedBmc]) -> ScriptedBmc:
    """One scripted BMC with one system."""
    return make_bmc()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BMC's self-signed certificate with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "bmc.pem")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """sushy-tools' Redfish emulator as a real process: its base URL and its request log."""
    home = tmp_path_factory.mktemp("emulator")
    systems = [
        {
            "uuid": uuid,
            "name": f"node{number}",
            "power_state": "Off",
            "external_notifier": False,
            "nics": [{"mac": f"00:5c:52:31:3a:{number:02x}", "ip": "172.22.0.100"}],
        }
        for number, uuid in enumerate(EMULATED)
    ]
    config = home / "emulator.conf"
    config.write_text(
        f"SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\n"
        f"SUSHY_EMULATOR_LISTEN_PORT = 0\n"
        f"SUSHY_EMULATOR_STATE_DIR = {str(home)!r}\nSUSHY_EMULATOR_FAKE_SYSTEMS = {systems!r}\n"
    )
    log = home / "requests.log"
    program = Path(sys.executable).with_name("sushy-emulator")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), "--config", str(config)], stdout=output, stderr=subprocess.STDOUT, cwd=home
        )
    try:
        yield _wait_for(process, log), log
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the emulator says it listens on, once it answers there."""
    until = time.monotonic() + 120
    address = ""
    while time.monotonic() < until:
        assert process.poll() is None, f"The emulator ended: {log.read_text()}"
        for word in log.read_text().split():
            if word.startswith("http://127.0.0.1:"):
                address = word
        if address:
            try:
                with urllib.request.urlopen(f"{address}/redfish/v1/Systems", timeout=30):
                    return address
            except urllib.error.URLError:
                pass
        time.sleep(0.1)
    pytest.fail(f"The emulator did not start: {log.read_text()}")
