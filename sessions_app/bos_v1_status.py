"""BOS v1's status tree: session, boot set, phase, category (contracts, BOS 1.4; seed 000)."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from sessions_app.bos_v1 import Plain, V1View, reply
from sessions_app.bos_v1_documents import (
    CATEGORIES,
    BootSetRow,
    PhaseRow,
    Tree,
    boot_set_document,
    category_document,
    nodes_in,
    phase_documents,
    session_status_document,
)


class StatusView(V1View):
    """What all levels share: unknown names end with an empty 404."""

    def boot_set(self, tree: Tree, name: str) -> BootSetRow:
        """The named boot set. Raises Plain 404."""
        found = tree.boot_set(name)
        if found is None:
            raise Plain(404, "")
        return found

    def phase(self, boot_set: BootSetRow, name: str) -> PhaseRow:
        """The named phase, in any case of letters. Raises Plain 404."""
        for phase in boot_set.phases:
            if phase.name == name.lower():
                return phase
        raise Plain(404, "")


class SessionStatusView(StatusView):
    """/v1/session/{id}/status"""

    def get(self, request: Request, session_id: str) -> HttpResponse:
        """The session and its boot sets."""
        return reply(session_status_document(self.tree(session_id)))


class BootSetStatusView(StatusView):
    """/v1/session/{id}/status/{boot set}"""

    def get(self, request: Request, session_id: str, boot_set: str) -> HttpResponse:
        """A boot set with its phases and all their nodes."""
        tree = self.tree(session_id)
        return reply(boot_set_document(tree, self.boot_set(tree, boot_set)))


class PhaseStatusView(StatusView):
    """/v1/session/{id}/status/{boot set}/{phase}"""

    def get(self, request: Request, session_id: str, boot_set: str, phase: str) -> HttpResponse:
        """A phase with its nodes by category."""
        found = self.phase(self.boot_set(self.tree(session_id), boot_set), phase)
        return reply(phase_documents([found])[0])


class CategoryStatusView(StatusView):
    """/v1/session/{id}/status/{boot set}/{phase}/{category}"""

    def get(
        self, request: Request, session_id: str, boot_set: str, phase: str, category: str
    ) -> HttpResponse:
        """The nodes of one category."""
        found = self.phase(self.boot_set(self.tree(session_id), boot_set), phase)
        if category.lower() not in CATEGORIES:
            raise Plain(404, "")
        return reply(category_document(category.lower(), nodes_in(found, category.lower())))
