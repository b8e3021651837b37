"""A configuration driver that changes nothing: works, fails on demand, takes its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from .base import ConfigurationDriver, Outcome


class FakeConfiguration(ConfigurationDriver):
    """Configurations whose name ends in `-fails` fail everywhere; nodes in `failing` fail with any."""

    label = "Fake (changes nothing)"
    failing: ClassVar[set[str]] = set()
    seconds: ClassVar[float] = 0.0
    journal: ClassVar[list[tuple[str, tuple[str, ...]]]] = []

    def apply(
        self, configuration: str, nodes: Sequence[str], *, wanted: Callable[[], bool]
    ) -> dict[str, Outcome]:
        """See ConfigurationDriver.apply."""
        self.journal.append((configuration, tuple(nodes)))
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            if not wanted():
                return {}
            time.sleep(0.05)
        everywhere = configuration.endswith("-fails")
        return {
            node: Outcome("Told to fail.") if everywhere or node in self.failing else Outcome()
            for node in nodes
        }
