"""A power driver without hardware: works, fails on demand, takes its time. See docs/drivers.md.

Node states live in this process, or, with `state_dir`, in one small file per node, so that several workers
(and a test that kills them) see the same nodes. Every switch is written to `FakeDriver.journal`, or to the
file `journal` in that directory: the witness of what was asked of whom, in order.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, ClassVar

from .base import VAULT_PATH, Action, Power, PowerError, Reason, Result, Setting, Target
from .bounded import BoundedDriver, TooLateError


class FakeDriver(BoundedDriver):
    """Nodes that exist only as a word, `on` or `off`, and the time at which it becomes true."""

    kind = "fake"
    label = "Fake (no hardware)"
    settings = (
        Setting("delay", "Delay", float, default=0.0, help="Seconds that each answer takes."),
        Setting("on_after", "On after", float, default=0.0, help="Seconds until it is on."),
        Setting("off_after", "Off after", float, default=0.0, help="Seconds until it is off."),
        Setting("initial", "Initial power", default="off", choices=("on", "off")),
        Setting("fail", "Fail", help="Actions that fail, e.g. `on, off_graceful=unsupported`."),
        Setting("state_dir", "State directory", help="Share the nodes' states between processes here."),
        Setting("password", "Password", secret=True, help="Not needed; there to try out secrets."),
        VAULT_PATH,
    )
    nodes: ClassVar[dict[str, tuple[str, float]]] = {}
    journal: ClassVar[list[tuple[str, Action]]] = []
    lit: ClassVar[set[str]] = set()  # locate LEDs; of this process, whatever the state_dir

    def channel_of(self, target: Target) -> str:
        """Fake nodes have no BMC that they could share."""
        return target.node

    async def act(self, target: Target, begin_by: float) -> Result:
        """See BoundedDriver.act."""
        if delay := self._setting(target, "delay"):
            await asyncio.sleep(delay)
        if target.action is not Action.STATE and time.monotonic() > begin_by:
            raise TooLateError
        for item in (self._setting(target, "fail") or "").replace(" ", "").split(","):
            action, _, reason = item.partition("=")
            if action == target.action:
                raise PowerError(Reason(reason or Reason.REFUSED), f"Told to fail at {action}")
        if target.action is Action.STATE:
            word, since = self._load(target)
            power = Power(word) if time.time() >= since else Power.CHANGING
            return Result(target.key, ok=True, power=power, lit=target.node in self.lit)
        if target.action in (Action.LOCATE, Action.UNLOCATE):
            (self.lit.add if target.action is Action.LOCATE else self.lit.discard)(target.node)
            self._write_down(target)
            return Result(target.key, ok=True)
        word = "on" if target.action is Action.ON else "off"
        self._save(target, word, time.time() + self._setting(target, f"{word}_after"))
        return Result(target.key, ok=True)

    def _setting(self, target: Target, name: str) -> Any:
        default = next(setting.default for setting in self.settings if setting.name == name)
        return target.settings.get(name, default)

    def _load(self, target: Target) -> tuple[str, float]:
        unknown = (self._setting(target, "initial"), 0.0)
        directory = self._setting(target, "state_dir")
        if not directory:
            return self.nodes.get(target.node, unknown)
        try:
            word, since = (Path(directory) / target.node).read_text().split()
        except FileNotFoundError:
            return unknown
        return word, float(since)

    def _save(self, target: Target, word: str, since: float) -> None:
        directory = self._setting(target, "state_dir")
        if directory:
            draft = Path(directory) / f".{target.node}.{os.getpid()}"
            draft.write_text(f"{word} {since}")
            draft.replace(Path(directory) / target.node)  # at once: another process may be reading it
        else:
            self.nodes[target.node] = (word, since)
        self._write_down(target)

    def _write_down(self, target: Target) -> None:
        directory = self._setting(target, "state_dir")
        if not directory:
            self.journal.append((target.node, target.action))
            return
        with (Path(directory) / "journal").open("a") as journal:
            journal.write(f"{time.time():.3f} {target.node} {target.action}\n")
