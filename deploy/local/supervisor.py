"""The supervisor: honcho over the Procfile, with two habits changed.

honcho ends everything when one process ends; here a keeper that ends is started again. And honcho prints
all that its processes say; here that is in the log files, and the terminal gets a line when something ends.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import honcho.manager
from honcho.manager import SYSTEM_PRINTER_NAME, Manager

from deploy.local.keep import GRACE, Log

LAST = "redis"  # workers that find it gone would wait for it instead of ending

# honcho's patience, counted from the first process that ends, must outlast the keepers' own.
honcho.manager.KILL_WAIT = GRACE + 2


class Supervisor(Manager):
    """Runs one keeper per name until told to stop, or until the guide (if any) fails."""

    def __init__(self, names: Sequence[str], env: Mapping[str, str], log: Log) -> None:
        # The others' fork servers would be more processes to look after; this one has a single thread.
        if sys.platform == "linux":
            multiprocessing.set_start_method("fork", force=True)
        super().__init__(printer=_Printer(log))
        env = {**env, "MUSTER_SUPERVISOR": str(os.getpid())}
        for name in names:
            self.add_process(name, command_of(name), env=env)
        self.guide: subprocess.Popen[bytes] | None = None  # shows the person at the terminal around
        self.failed = False

    def _killall(self, force: bool = False) -> None:
        """As honcho's, but who is still being started is told as soon as it has a number, and LAST last."""
        others = any("returncode" not in process for name, process in self._processes.items() if name != LAST)
        for name, process in self._processes.items():
            if process.get("pid") is None or "returncode" in process or process.get("told") == force:
                continue
            if name == LAST and others and not force:
                continue
            process["told"] = force
            if force:
                self._procmgr.kill(process["pid"])
            else:
                self._procmgr.terminate(process["pid"])

    def _any_stopped(self) -> bool:
        """Asked on every turn of honcho's loop: the place to look after what has ended."""
        if not self._terminating and self.guide is not None and self.guide.poll():
            self.failed = True
            self.terminate()
        if self._terminating:
            return bool(super()._any_stopped())
        for name, process in self._processes.items():
            if process.get("returncode") is not None:
                self._start_again(name, process)
        return False

    def _all_stopped(self) -> bool:
        """Asked on every turn too, after the first has stopped as well."""
        if self._terminating:
            self._killall()
        return bool(super()._all_stopped())

    def _start_again(self, name: str, ended: dict[str, Any]) -> None:
        run = multiprocessing.Process(name=name, target=ended["obj"].run, args=(self.events, True))
        self._processes[name] = {"obj": ended["obj"], "process": run}
        run.start()


def command_of(name: str) -> str:
    """The shell command that keeps this line of the Procfile running."""
    return f'exec "{sys.executable}" -m deploy.local.keep {name}'


class _Printer:
    """What honcho prints to: its own words to the log, a keeper's to the terminal too."""

    width = 0

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(self, message: Any) -> None:
        text = message.data.decode(errors="replace") if isinstance(message.data, bytes) else message.data
        self._log.write(f"{message.time:%Y-%m-%d %H:%M:%S} {message.name}: {text.rstrip()}\n".encode())
        if message.name != SYSTEM_PRINTER_NAME:
            print(text.rstrip(), flush=True)
