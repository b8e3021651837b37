"""`manage.py power ACTION NODES`: switch nodes by hand, look at them, locate them."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts_app.models import User
from sessions_app import watch
from sessions_app.models import Node
from sessions_app.nodeset import NodeSetError, expand, fold
from sessions_app.selectors.search import group_names
from sessions_app.services import Refused
from sessions_app.services_power import LEAVE, REFUSE, TAKE, act_by_hand, plan
from sessions_app.states import SWITCHING, ByHand, SessionResult


class Command(BaseCommand):
    """Names what it hits, asks, begins the action, and follows it."""

    help = "Switch nodes by hand (on, soft, off, cycle), look at them, or light their locate LED."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to do, and to which nodes."""
        parser.add_argument("action", choices=ByHand.values)
        parser.add_argument("nodes", help="range such as x1000c[0-3], or @group")
        parser.add_argument("--network-boot", action="store_true", help="boot from the network this once")
        parser.add_argument(
            "--busy", choices=(REFUSE, TAKE, LEAVE), default=REFUSE,
            help="nodes that something is at work with: refuse all, take them out of it, leave them out",
        )  # fmt: skip
        parser.add_argument("--user", default="admin", help="in whose name")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--detach", action="store_true", help="do not wait for the end")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError where it can't begin, or did not succeed on all nodes."""
        rows = dict(Node.objects.values_list("name", "id"))
        try:
            selection = expand(options["nodes"], rows, group_names)
        except NodeSetError as error:
            raise CommandError(str(error)) from None
        if selection.unknown:
            raise CommandError(f"Nothing bears: {', '.join(selection.unknown[:20])}.")
        ids = [rows[name] for name in selection.names]
        made = plan(action=options["action"], ids=ids, busy=options["busy"])
        for reason, names in made.left_out.items():
            self.stdout.write(f"Left out, {reason}: {fold(names)}")
        if options["action"] in SWITCHING and not options["yes"] and made.nodes:
            self.stdout.write(
                f"{ByHand(options['action']).label}: {len(made.nodes)} nodes: {fold(made.names)}"
            )
            if input("Type the number of nodes to go on: ").strip() != str(len(made.nodes)):
                raise CommandError("Nothing was done.")
        try:
            session = act_by_hand(
                action=options["action"],
                ids=[pk for pk, _ in made.nodes],
                actor=User.objects.filter(username=options["user"]).first(),
                network_boot=options["network_boot"],
                busy=options["busy"],
            )
        except Refused as refused:
            raise CommandError(str(refused)) from None
        if options["detach"]:
            self.stdout.write(f"{session.name} has begun: manage.py watch {session.name}")
            return
        # Whoever stops watching does not stop the action.
        with suppress(KeyboardInterrupt):
            watch.follow(session)
        if session.result not in ("", SessionResult.SUCCEEDED):
            raise CommandError(f"{session.title}: {SessionResult(session.result).label}.")
