"""Stays with one process, so that a later supervisor still learns how it ended.

Started as `python -S -E shim.py DIRECTORY`; imports nothing of ours and little of Python. Reads
DIRECTORY/spec.json, writes state.json there when the program runs and exit.json when it has ended, or could
not be run.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress


def main(directory):
    """Run the process of spec.json to its end."""
    with open(os.path.join(directory, "spec.json")) as file:
        spec = json.load(file)
    # The process is asked to end by its own group; the shim lives until it has noted how it ended.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ready, started = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(spec, started)
    os.close(started)
    # The pipe closes by itself when the program takes the child's place.
    error = os.read(ready, 4096).decode("utf-8", "replace")
    if error:
        _write(directory, "exit.json", {"error": error})
        return
    _write(directory, "state.json", {"pid": pid, "shim": os.getpid()})
    _, status = os.waitpid(pid, 0)
    # What it left in its group ends with it.
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    _write(directory, "exit.json", {"code": code} if code >= 0 else {"signal": -code})


def _become(spec, started):
    """In the child: its own session, limits, environment, and then the program itself."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if spec["memory"]:
            resource.setrlimit(resource.RLIMIT_DATA, (spec["memory"], spec["memory"]))
        if spec["cores"]:
            os.sched_setaffinity(0, spec["cores"])
        # A core file would hold secrets and fill the disk.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Where the machine runs out of memory, replicas end before Muster does.
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
        os.chdir(spec["directory"])
        os.set_inheritable(started, False)
        os.execvpe(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606
    except BaseException as error:
        words = getattr(error, "strerror", None) or str(error)
        os.write(started, f"{spec['command'][0]}: {words}".encode()[:4000])
    os._exit(127)


def _write(directory, name, value):
    """Appears at once and whole."""
    path = os.path.join(directory, name)
    with open(path + ".new", "w") as file:
        json.dump(value, file)
    os.rename(path + ".new", path)


if __name__ == "__main__":
    main(sys.argv[1])
