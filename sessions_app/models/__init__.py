"""Nodes and what is done to them."""

from sessions_app.models import lookups as lookups  # `id__among`
from sessions_app.models.nodes import Bmc, BootArtifacts, BootImage, BootToken, Node, NodeGroup
from sessions_app.models.options import BosOptions
from sessions_app.models.sessions import BootSession, BootSet, NodePhase, Phase, SessionTemplate

__all__ = [
    "Bmc",
    "BootArtifacts",
    "BootImage",
    "BootSession",
    "BootSet",
    "BootToken",
    "BosOptions",
    "Node",
    "NodeGroup",
    "NodePhase",
    "Phase",
    "SessionTemplate",
]
