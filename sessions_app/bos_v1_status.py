"""BOS v1's status tree: session, boot set, phase, category (contracts, BOS 1.4; seed 000)."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from sessions_app import bos_v1_schemas as schemas
from sessions_app import services_status
from sessions_app.bos import Problem, nothing
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

    def status(self, session_id: str) -> Tree:
        """The session, unless its status was deleted. Raises Plain 404."""
        tree = self.tree(session_id)
        if tree.session.status_deleted:
            raise Plain(404, "")
        return tree

    def boot_set(self, tree: Tree, name: str) -> BootSetRow:
        """The named boot set, unless its status was deleted. Raises Plain 404."""
        found = tree.boot_set(name)
        if found is None or found.status_deleted:
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
        return reply(session_status_document(self.status(session_id)))

    def post(self, request: Request, session_id: str) -> HttpResponse:
        """Create it: every session has one, so 409 with it, unless it was deleted."""
        self.body(schemas.SESSION_STATUS)
        tree = self.tree(session_id)
        created = services_status.create_status(session_id=tree.session.pk)
        return reply(session_status_document(self.tree(session_id)), 200 if created else 409)

    def patch(self, request: Request, session_id: str) -> HttpResponse:
        """Its start is set when the session is made and its stop when it ends, and the first write of
        either counts; so there is nothing left to write."""
        self.body(schemas.SESSION_STATUS_PATCH)
        return reply(session_status_document(self.status(session_id)))

    def delete(self, request: Request, session_id: str) -> HttpResponse:
        """Delete the status, not the session."""
        services_status.delete_status(session_id=self.status(session_id).session.pk)
        return nothing()


class BootSetStatusView(StatusView):
    """/v1/session/{id}/status/{boot set}"""

    def get(self, request: Request, session_id: str, boot_set: str) -> HttpResponse:
        """A boot set with its phases and all their nodes."""
        tree = self.status(session_id)
        return reply(boot_set_document(tree, self.boot_set(tree, boot_set)))

    def post(self, request: Request, session_id: str, boot_set: str) -> HttpResponse:
        """Create it: each boot set of a session has one, so 409 with it, unless it was deleted."""
        self.body(schemas.BOOT_SET_STATUS)
        tree = self.status(session_id)
        found = tree.boot_set(boot_set)
        if found is None:
            raise Problem(400, f"The session has no boot set '{boot_set}'")
        created = services_status.create_status(session_id=tree.session.pk, boot_set=boot_set)
        return reply(boot_set_document(tree, found), 200 if created else 409)

    def patch(self, request: Request, session_id: str, boot_set: str) -> HttpResponse:
        """Move nodes between categories, note errors, set times."""
        updates = self.body(schemas.UPDATES)
        tree = self.status(session_id)
        found = self.boot_set(tree, boot_set)
        if not found.phases or not found.phases[0].id:
            raise Problem(400, "The session has not begun")
        services_status.update_boot_set(
            session_id=tree.session.pk, boot_set=boot_set, updates=updates, actor=request.user
        )
        return nothing()

    def delete(self, request: Request, session_id: str, boot_set: str) -> HttpResponse:
        """Delete the boot set's status, not the boot set."""
        tree = self.status(session_id)
        services_status.delete_status(session_id=tree.session.pk, boot_set=self.boot_set(tree, boot_set).name)
        return nothing()


class PhaseStatusView(StatusView):
    """/v1/session/{id}/status/{boot set}/{phase}"""

    def get(self, request: Request, session_id: str, boot_set: str, phase: str) -> HttpResponse:
        """A phase with its nodes by category."""
        found = self.phase(self.boot_set(self.status(session_id), boot_set), phase)
        return reply(phase_documents([found])[0])


class CategoryStatusView(StatusView):
    """/v1/session/{id}/status/{boot set}/{phase}/{category}"""

    def get(
        self, request: Request, session_id: str, boot_set: str, phase: str, category: str
    ) -> HttpResponse:
        """The nodes of one category."""
        found = self.phase(self.boot_set(self.status(session_id), boot_set), phase)
        if category.lower() not in CATEGORIES:
            raise Plain(404, "")
        return reply(category_document(category.lower(), nodes_in(found, category.lower())))
