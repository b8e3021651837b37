"""`python -m deploy.line NAME`: becomes the process that the Procfile's line NAME describes.

For supervisors other than bin/up's (systemd, a container engine), so that the commands stand in one place.
NAME-2 is one more of them: gateways of one machine share their port.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from deploy.local.environment import PROJECT
from deploy.local.keep import line_name, lines


def main() -> None:
    """Exit code 2 for a name that is none."""
    known: Mapping[str, str] = lines()
    name = line_name(sys.argv[1]) if len(sys.argv) == 2 else ""
    if name not in known:
        print(f"Which process? One of: {', '.join(known)}.", file=sys.stderr)
        sys.exit(2)
    os.chdir(PROJECT)
    # The Procfile says `python`: this one.
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.execv("/bin/sh", ["/bin/sh", "-c", f"exec {known[name]}"])  # noqa: S606


if __name__ == "__main__":
    main()
