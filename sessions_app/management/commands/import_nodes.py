"""`manage.py import_nodes FILE`: nodes and BMCs from CSV (columns: docs/dashboard.md)."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.progress import track

from sessions_app.importing import ImportRefused, carry_out, plan_import
from sessions_app.nodeset import fold


class Command(BaseCommand):
    """Add and change nodes and their BMCs; all lines or none."""

    help = "Import nodes and BMCs from a CSV file; '-' reads standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def handle(self, *args: Any, file: str, dry_run: bool, **options: Any) -> None:
        try:
            if file == "-":
                plan = plan_import(sys.stdin)
            else:
                with open(file, newline="", encoding="utf-8-sig") as lines:
                    plan = plan_import(lines)
            if not dry_run:
                bar = partial(track, description="Importing", disable=not sys.stdout.isatty())
                carry_out(plan, actor=None, each=bar)
        except OSError as error:
            raise CommandError(f"{file} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise CommandError(f"{file} is no text in UTF-8.") from None
        except ImportRefused as error:
            more = len(error.problems) - 20
            said = "\n".join(error.problems[:20]) + (f"\nand {more} more" if more > 0 else "")
            raise CommandError(f"Nothing was imported.\n{said}") from None
        verb = "Would add" if dry_run else "Added"
        self.stdout.write(f"{verb} {len(plan.new)} nodes: {fold(plan.new, most=20) or 'none'}")
        verb = "Would change" if dry_run else "Changed"
        self.stdout.write(f"{verb} {len(plan.changed)} nodes: {fold(plan.changed, most=20) or 'none'}")
