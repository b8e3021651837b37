"""Whether the files that a session's nodes are to boot can be fetched, before any node is switched.

Only what is named by http(s) can be asked for. Options as with the original: `ims_read_timeout` bounds the
asking, `ims_errors_fatal` ends sessions whose files could not be asked for; one that is certainly not there
ends them in any case.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from sessions_app.drivers.http_files import Found, look_for
from sessions_app.images import image_of
from sessions_app.models import BootSession, BosOptions
from sessions_app.states import Operation

log = logging.getLogger(__name__)

REMEMBERED = 30.0  # seconds; sessions by the same template come one after the other
_known: dict[str, tuple[Found, float]] = {}
_lock = threading.Lock()


def files_of(session: BootSession) -> dict[str, str]:
    """Address by what it is ("boot set 'compute': kernel") of a session with its template."""
    if session.template is None or session.operation in {Operation.SHUTDOWN, Operation.CONFIGURE}:
        return {}
    found = {}
    for name, boot_set in session.template.boot_sets.items():
        image = image_of(boot_set)
        for kind, url in (("kernel", image.kernel), ("initrd", image.initrd)):
            if url.startswith(("http://", "https://")):
                found[f"boot set '{name}': {kind}"] = url
    return found


def faults_of(sessions: Iterable[BootSession]) -> dict[int, str] | None:
    """What is wrong with the files of these sessions, by id; all are asked for at once. None while another
    thread asks: only one shall wait for a server that does not answer."""
    if not _lock.acquire(blocking=False):
        return None
    try:
        return _faults_of(sessions, BosOptions.current())
    finally:
        _lock.release()


def _faults_of(sessions: Iterable[BootSession], options: dict[str, Any]) -> dict[int, str]:
    wanted = {session.pk: files_of(session) for session in sessions}
    known = _ask({url for files in wanted.values() for url in files.values()}, options["ims_read_timeout"])
    faults = {}
    for pk, files in wanted.items():
        for what, url in files.items():
            found = known[url]
            if found.there:
                continue
            if found.certain or options["ims_errors_fatal"]:
                faults[pk] = f"{what} {url} could not be found: {found.why}."
                break
            log.warning("%s %s may be missing: %s", what, url, found.why)
    return faults


def _ask(urls: set[str], seconds: float) -> dict[str, Found]:
    """What is known of these addresses, lately or just now."""
    now = time.monotonic()
    for url in [url for url, (_, until) in _known.items() if until < now]:
        del _known[url]
    new = look_for(urls - _known.keys(), seconds=seconds)
    _known.update((url, (found, time.monotonic() + REMEMBERED)) for url, found in new.items())
    return {url: _known[url][0] for url in urls}
