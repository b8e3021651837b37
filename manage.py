#!/usr/bin/env python
"""Django's command line for Muster."""

import os
import sys


def main() -> None:
    """Run one management command with Muster's settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    from config import loglevel

    if loglevel.GOING_ON.intersection(sys.argv[1:2]):
        loglevel.follow()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
