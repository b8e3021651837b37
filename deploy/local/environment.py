"""The project's own Python environment, `.venv`: made at first use, renewed when the requirements change.

Runs on the machine's Python before anything is installed, so it uses the standard library alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeoutError|Temporary failure in name resolution|Name or service not known"
    r"|No route to host|Network is unreachable|Connection refused|ReadTimeoutError|Cannot connect to proxy"
    r"|ProxyError|Failed to establish a new connection"
)


class Refusal(Exception):
    """Why Muster does not start, in one sentence for the person at the terminal."""


def ensure(*, tests: bool = False) -> None:
    """Make `.venv` and install what the requirements file names; quick when nothing has changed.

    :raises Refusal: no venv module, no package index, no write access, a package that does not install.
    """
    requirements = PROJECT / ("tests/requirements.txt" if tests else "requirements.txt")
    wanted = _fingerprint(tests)
    stamp = VENV / (".muster-tests" if tests else ".muster-product")
    if _usable() and _stamped(stamp) == wanted:
        return
    with _alone():
        # Another start may have done it while this one waited.
        if not _usable():
            _make_venv()
        if _stamped(stamp) == wanted:
            return
        _install(requirements)
        try:
            if tests:
                (VENV / ".muster-product").write_text(_fingerprint(tests=False))
            stamp.write_text(wanted)
        except OSError as error:
            raise Refusal(f"{stamp} can't be written: {error.strerror}.") from None


def enter(arguments: Sequence[str]) -> None:
    """Replace this process by `.venv`'s Python with these arguments."""
    environment = dict(os.environ)
    environment["VIRTUAL_ENV"] = str(VENV)
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
    environment.pop("PYTHONHOME", None)
    os.execve(PYTHON, [str(PYTHON), *arguments], environment)  # noqa: S606


def inside() -> bool:
    """Whether this process already runs in `.venv`."""
    return Path(sys.prefix).resolve() == VENV.resolve()


def _fingerprint(tests: bool) -> str:
    """Changes with the requirements and with the Python that they were installed for."""
    digest = hashlib.sha256()
    names = ["requirements.txt", "tests/requirements.txt"] if tests else ["requirements.txt"]
    for name in names:
        digest.update((PROJECT / name).read_bytes())
    return digest.hexdigest()


def _stamped(stamp: Path) -> str:
    try:
        return stamp.read_text()
    except OSError:
        return ""


def _usable() -> bool:
    """A copied checkout or an upgraded Python leaves a `.venv` whose interpreter is gone or another one."""
    try:
        answer = subprocess.run(
            [PYTHON, "-c", "import sys, pip; sys.exit(sys.version_info < (3, 11))"],
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return answer.returncode == 0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One start at a time installs; the lock goes with the process, so a killed one leaves none behind."""
    descriptor = os.open(PROJECT, os.O_RDONLY)
    try:
        # A file system without locks on directories (some NFS) only loses this protection.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_venv() -> None:
    try:
        import ensurepip  # noqa: F401  (Debian ships Python without it)
        import venv
    except ImportError:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise Refusal(
            f"Python {version} at {sys.executable} lacks its venv module: install it "
            f"(on Debian and Ubuntu: apt install python{version}-venv)."
        ) from None
    print(f"Making {VENV} ...", flush=True)
    try:
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(VENV)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refusal(f"The Python environment {VENV} can't be made: {reason}.") from None


def _install(requirements: Path) -> None:
    print(
        f"Installing the packages of {requirements.relative_to(PROJECT)} (at first some two minutes) ...",
        flush=True,
    )
    log = VENV / "pip.log"
    options = "--disable-pip-version-check --no-input --retries 2 --timeout 15"
    command = [str(PYTHON), "-m", "pip", "install", *options.split()]
    try:
        with log.open("w") as out:
            process = subprocess.Popen(
                [*command, "--requirement", str(requirements)],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=PROJECT,
            )
            try:
                _show_progress(process, log)
            except BaseException:
                process.kill()
                process.wait()
                raise
    except OSError as error:
        raise Refusal(f"{log} can't be written: {error.strerror}.") from None
    if process.returncode == 0:
        return
    said = log.read_text(errors="replace")
    if NO_NETWORK.search(said):
        raise Refusal(
            "The Python packages could not be installed because no package index answers: connect this "
            "machine, or name a mirror in PIP_INDEX_URL or a folder of wheels in PIP_FIND_LINKS "
            f"(pip's words are in {log})."
        )
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    raise Refusal(
        f"pip could not install {requirements.relative_to(PROJECT)}: {errors[0] if errors else ''} ({log})."
    )


def _show_progress(process: subprocess.Popen[bytes], log: Path) -> None:
    """On a terminal, one line that changes: what pip is at."""
    lively = sys.stdout.isatty()
    while process.poll() is None:
        time.sleep(0.3)
        if lively:
            lines = log.read_text(errors="replace").splitlines()
            words = next(
                (line.split() for line in reversed(lines) if line.startswith(("Collecting", "Installing"))),
                [],
            )
            print(f"\r\033[K  {' '.join(words[:2])[:70]}", end="", flush=True)
    if lively:
        print("\r\033[K", end="", flush=True)


def main() -> int:
    """`python -m deploy.local.environment [--tests] ARGUMENT...`: ensure, then run Python with these."""
    arguments = sys.argv[1:]
    tests = arguments[:1] == ["--tests"]
    try:
        ensure(tests=tests)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments[tests:]:
        enter(arguments[tests:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
