"""Runs one command and outlives its parent long enough to end it well.

`python guard.py DIRECTORY GRACE PROGRAM [ARGUMENTS]`. Started by `process.py`; needs nothing but the standard
library, so that it starts fast. Standard input is the parent's hand: the letter I interrupts the command, K
kills it, and the end of the input (the parent is dead) interrupts it and kills it GRACE seconds later. What
the command says goes to DIRECTORY/output and, while the parent listens, to standard output. The exit code
is left in DIRECTORY/exit. An exclusive lock on DIRECTORY/lock says that somebody is at work here.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time

LOCKED = 75  # exit code: another process works here
PR_SET_PDEATHSIG = 1


def main() -> int:
    """Exit code of the command, LOCKED, or 127 where it can't be started."""
    directory, grace, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    lock = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return LOCKED
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, "exit"))
    output = os.open(os.path.join(directory, "output"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    # The parent decides about signals; a Ctrl-C at its terminal must not reach the command twice.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_guard,
        )
    except OSError as error:
        message = json.dumps(
            {"@level": "error", "@message": f"{command[0]}: {error.strerror}", "type": "guard"}
        )
        os.write(output, message.encode() + b"\n")
        with contextlib.suppress(OSError):
            os.write(1, message.encode() + b"\n")
        return 127
    code = _follow(child, output, grace)
    temporary = os.path.join(directory, "exit.new")
    with open(temporary, "w") as file:
        file.write(str(code))
    os.replace(temporary, os.path.join(directory, "exit"))
    return code if code >= 0 else 128 - code


def _follow(child: "subprocess.Popen[bytes]", output: int, grace: float) -> int:
    said, hand, listening = child.stdout.fileno(), 0, True  # type: ignore[union-attr]
    waiting = {said, hand}
    kill_at = None
    while said in waiting:
        timeout = 5.0 if kill_at is None else max(0.0, min(5.0, kill_at - time.monotonic()))
        ready, _, _ = select.select(list(waiting), [], [], timeout)
        if said in ready:
            data = os.read(said, 65536)
            if not data:
                waiting.discard(said)
            with contextlib.suppress(OSError):  # a full disk must not stop the work
                os.write(output, data)
            listening = listening and _pass_on(data)
        if hand in ready:
            word = os.read(hand, 16)
            if b"K" in word:
                child.kill()
            elif b"I" in word or not word:
                child.send_signal(signal.SIGINT)
            if not word:
                waiting.discard(hand)
                kill_at = time.monotonic() + grace
        if kill_at is not None and time.monotonic() >= kill_at:
            child.kill()
            kill_at = None
        if child.poll() is not None and not ready:
            break  # something that it left behind keeps its output open
    return child.wait()


def _pass_on(data: bytes) -> bool:
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return False
    return True


def _die_with_guard() -> None:
    """Linux: the command must not go on when this guard is killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
