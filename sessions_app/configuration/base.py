"""What every configuration driver can do: plain values in, one outcome per node out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went for one node; `error` is one sentence for a person, "" where it went well."""

    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the configuration is applied."""
        return not self.error


class ConfigurationDriver(ABC):
    """Applies one configuration to many nodes. Blocks until it is done; called from worker threads."""

    label: str
    read_seconds: float = 20.0  # how long it waits for a node or a repository that says nothing

    @abstractmethod
    def apply(
        self, configuration: str, nodes: Sequence[str], *, wanted: Callable[[], bool]
    ) -> dict[str, Outcome]:
        """Outcome by node name; a node that is missing in the answer was not tried.

        Must ask `wanted` every few seconds, and stop soon when it says no: then nobody waits for the
        outcome any more (cancel, a newer session). One node's failure must not touch the others.
        """
