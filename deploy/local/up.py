"""`bin/up`: from a fresh checkout to a running Muster with a booted fleet, in one command.

Starts on the machine's Python, makes `.venv`, goes on in there: until then, the standard library alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local import environment
from deploy.local.environment import PROJECT, Refusal
from deploy.local.home import MARK, Home, free_port, port_is_free

if TYPE_CHECKING:
    from deploy.emulated_fleet.fleet import Fleet

MOST_NODES = 10_000
MOST_GATEWAYS = 8


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of bin/up. Raises SystemExit, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="bin/up",
        description="Start Muster on this machine with all it needs, and boot an emulated fleet with it.",
        epilog="Settings come from the environment (docs/settings.md). Ctrl-C stops everything.",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8000,
        help="of the web server on 127.0.0.1; 0 takes a free one (default 8000)",
    )
    parser.add_argument("--home", default=None, metavar="DIR", help="where all state is kept (default ./var)")
    parser.add_argument(
        "--nodes",
        type=_nodes,
        default=64,
        help="size of the emulated fleet; 0 means none, and no demonstration (default 64)",
    )
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port (0 to 65535)")
    return int(text)


def _nodes(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_NODES:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of nodes (0 to {MOST_NODES})")
    return int(text)


def home_directory(given: str | None) -> Path:
    """HOME as an absolute path: --home as the caller meant it, else MUSTER_HOME, else ./var."""
    caller = Path(os.environ.get("MUSTER_CALLED_FROM") or Path.cwd())
    return Path(os.path.normpath(caller / (given or os.environ.get("MUSTER_HOME") or PROJECT / "var")))


def start(options: argparse.Namespace) -> int:
    """Everything from the lock to the end; answers the exit code.

    :raises Refusal: what stands in the way, in one sentence.
    """
    home = Home(home_directory(options.home))
    home.prepare()
    home.lock()
    home.end_leftovers()
    if options.port and not port_is_free(options.port):
        raise Refusal(
            f"Port {options.port} of 127.0.0.1 is taken by another program: choose another one with --port."
        )
    port = options.port or free_port()
    env = settings(home, port)
    home.sign(f"process {os.getpid()}, {env['MUSTER_URL']}\n")
    fleet = _plan_fleet(home, options.nodes, port)
    _prepare(home, env, bool(fleet))
    names = ["web", "worker", "runner", "beat", "watcher", "runtimes", *_gateways(env)]
    if "MUSTER_REDIS_URL" not in os.environ:
        names.insert(0, "redis")
    if fleet:
        names += ["emulator", "companion"]
    return _supervise(home, env, names)


def settings(home: Home, port: int) -> dict[str, str]:
    """The environment of everything that runs; also written to HOME/run/env for `. var/run/env`."""
    chosen = {
        "MUSTER_HOME": str(home.path),
        "MUSTER_URL": os.environ.get("MUSTER_URL") or f"http://127.0.0.1:{port}",
        "MUSTER_REDIS_URL": os.environ.get("MUSTER_REDIS_URL") or f"unix://{home.socket('redis.sock')}",
        # Two, so that workflows go on answering when one is gone.
        "MUSTER_GATEWAYS": os.environ.get("MUSTER_GATEWAYS") or "2",
    }
    lines = [
        f"export {name}='{value.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'\n"
        for name, value in chosen.items()
    ]
    (home.run / "env").write_text("".join(lines))
    return {**os.environ, **chosen, "PORT": str(port), "PYTHONUNBUFFERED": "1", MARK: str(home.path)}


def _gateways(env: dict[str, str]) -> list[str]:
    """Their names, as many as the settings ask for: "gateway", "gateway-2"..."""
    count = int(env["MUSTER_GATEWAYS"]) if env["MUSTER_GATEWAYS"].isdecimal() else 1
    return ["gateway", *(f"gateway-{number}" for number in range(2, min(count, MOST_GATEWAYS) + 1))]


def _plan_fleet(home: Home, count: int, port: int) -> Fleet | None:
    from deploy.emulated_fleet.fleet import forget_fleet, plan_fleet

    if count:
        return plan_fleet(home, count, besides=(port,))
    forget_fleet(home)
    return None


def _prepare(home: Home, env: dict[str, str], with_fleet: bool) -> None:
    """`manage.py bootstrap`: migrations, first user, fleet; its words in HOME/log/bootstrap.log."""
    from deploy.local.keep import die_with_parent

    log = home.log / "bootstrap.log"
    stamp = home.run / "bootstrapped"
    wanted = _bootstrap_fingerprint(home, env)
    if wanted and stamp.exists() and stamp.read_text() == wanted:
        return
    command = [sys.executable, "manage.py", "bootstrap", "--credentials", str(home.credentials)]
    command += ["--url", f"http://127.0.0.1:{env['PORT']}"]
    if with_fleet:
        command += ["--fleet", str(home.path / "fleet" / "fleet.json")]
    with log.open("w") as out:
        answer = subprocess.run(
            command, cwd=PROJECT, env=env, stdout=out, stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent, check=False,
        )  # fmt: skip
    if answer.returncode:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise Refusal(
            f"Muster's database could not be prepared: {lines[-1] if lines else 'no reason given'} "
            f"(see {log})."
        )
    stamp.write_text(_bootstrap_fingerprint(home, env))


def _bootstrap_fingerprint(home: Home, env: dict[str, str]) -> str:
    """Changes with whatever gives `bootstrap` something to do; "" where that can't be known from here.

    Loading Django for nothing would be a third of a start.
    """
    database = home.path / "muster.sqlite3"
    if "MUSTER_DATABASE_URL" in env or not (database.exists() and home.credentials.exists()):
        return ""
    digest = hashlib.sha256(f"{database.stat().st_ino} {env['PORT']}".encode())
    files = [*PROJECT.glob("*_app/migrations/*.py"), *PROJECT.glob("sessions_app/management/commands/*.py")]
    for path in [*sorted(files), PROJECT / "sessions_app" / "sample.py", home.fleet / "fleet.json"]:
        digest.update(path.read_bytes() if path.exists() else b"")
    digest.update((PROJECT / "requirements.txt").read_bytes())
    return digest.hexdigest()


def _supervise(home: Home, env: dict[str, str], names: list[str]) -> int:
    from deploy.local.keep import Log, die_with_parent
    from deploy.local.supervisor import Supervisor

    supervisor = Supervisor(names, env, Log(home.log / "supervisor.log"))
    guide = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.welcome"], cwd=PROJECT, env=env, preexec_fn=die_with_parent
    )
    supervisor.guide = guide
    try:
        supervisor.loop()
    finally:
        if guide.poll() is None:
            guide.terminate()
        guide.wait()
        home.forget_sockets()
    return 1 if supervisor.failed else 0


def _interrupt(*_: object) -> None:
    """Until the supervisor takes over, SIGTERM ends what is under way as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Exit code 0 when stopped by Ctrl-C or SIGTERM, 1 when it could not start, 2 for wrong options."""
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if not environment.inside():
            environment.ensure()
            environment.enter(["-m", "deploy.local.up", *sys.argv[1:]])
        return start(options)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
