"""`manage.py import_bos FILE…`: take over what HPE's BOS had."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.progress import track

from sessions_app import import_bos

SHOWN = 50


class Command(BaseCommand):
    """Reads what `cray bos v2 sessiontemplates|components|options|sessions list --format json` print."""

    help = (
        "Take over templates, components, options and complete sessions of HPE's BOS. Files are what "
        "`cray bos v2 ... list --format json` prints; directories, tar and zip archives of such files work "
        "too. Running it again changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        documents = []
        for path in options["files"]:
            if not path.exists():
                raise CommandError(f"There is no file {path}.")
            try:
                documents += list(import_bos.read(path))
            except (ValueError, OSError) as error:
                raise CommandError(str(error)) from None
        bar = partial(track, description="Taking over", disable=not sys.stdout.isatty())
        report = import_bos.take_over(documents, dry_run=options["dry_run"], each=bar)
        would = "would be " if options["dry_run"] else ""
        for (kind, outcome), count in sorted(report.counts.items()):
            self.stdout.write(f"{count} {kind}{'' if count == 1 else 's'} {would}{outcome}")
        for note in report.notes[:SHOWN]:
            self.stdout.write(f"note: {note}")
        if len(report.notes) > SHOWN:
            self.stdout.write(f"and {len(report.notes) - SHOWN} notes more")
        if report.errors:
            for fault in report.errors[:SHOWN]:
                self.stderr.write(f"not taken over: {fault}")
            raise CommandError(f"{len(report.errors)} could not be taken over; all others were.")
