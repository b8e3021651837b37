"""HOME: the lock, leftovers, sockets, ports, files."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from deploy.local.environment import Refusal
from deploy.local.home import MARK, SOCKET_PATH_BYTES, Home, free_port, identity, port_is_free
from tests.base import PROJECT, wait_until


def home_in(path: Path) -> Home:
    home = Home(path)
    home.prepare()
    return home


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )


HOLDER = """
    import sys, time
    from pathlib import Path
    from deploy.local.home import Home
    home = Home(Path(sys.argv[1]))
    home.lock()
    home.sign("process 1, http://127.0.0.1:1")
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_directory_in_use_is_refused_with_who_uses_it(tmp_path: Path) -> None:
    home = home_in(tmp_path / "home")
    holder = python(HOLDER, str(home.path))
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(Refusal, match=r"already runs in .*home \(process 1, http://127.0.0.1:1\)"):
            home.lock()
    finally:
        holder.kill()
        holder.wait()


def test_the_lock_of_a_killed_process_does_not_block(tmp_path: Path) -> None:
    home = home_in(tmp_path / "home")
    holder = python(HOLDER, str(home.path))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    holder.kill()
    holder.wait()
    home.lock()


def test_new_directories_are_nobody_elses(tmp_path: Path) -> None:
    home = home_in(tmp_path / "a" / "home")
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.run.stat().st_mode) == 0o700


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(Refusal, match=r"^Muster can't write to .*home: File exists\.$"):
        Home(tmp_path / "home").prepare()


def test_leftovers_are_found_by_their_mark_and_ended(tmp_path: Path) -> None:
    home, other = home_in(tmp_path / "home"), home_in(tmp_path / "other")
    mine = subprocess.Popen(
        ["sleep", "600"], env={**os.environ, MARK: str(home.path)}, start_new_session=True
    )
    not_mine = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: str(other.path)})
    try:
        wait_until(lambda: mine.pid in home.marked(), what="the mark to be seen")
        assert home.end_leftovers() == 1
        assert mine.wait(10) == -9
        assert not_mine.poll() is None
    finally:
        for process in (mine, not_mine):
            process.kill()
            process.wait()


def test_a_socket_goes_below_home_or_where_its_path_is_short_enough(tmp_path: Path) -> None:
    short = Path(f"/tmp/muster-short-{os.getpid()}")
    assert Home(short).socket("redis.sock") == short / "run" / "redis.sock"
    deep = tmp_path.joinpath(*["a-rather-long-directory-name"] * 5)
    path = Home(deep).socket("redis.sock")
    assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Home(deep).socket("redis.sock") == path
    assert Home(deep / "b").socket("redis.sock") != path
    path.parent.rmdir()
    Home(deep / "b").socket("redis.sock").parent.rmdir()


def test_a_foreign_directory_is_not_used_for_sockets(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-directory-name"] * 5)
    directory = Home(deep).socket("redis.sock").parent
    directory.chmod(0o777)
    try:
        with pytest.raises(Refusal, match="too long a path for a socket"):
            Home(deep).socket("redis.sock")
    finally:
        directory.rmdir()


def test_a_taken_port_is_seen_and_another_one_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_is_free(port)
        found = free_port(port)
        assert found != port
        assert port_is_free(found)
    assert free_port(found) == found
    assert free_port(found, besides=(found,)) != found


def test_json_files_are_private_and_replaced_at_once(tmp_path: Path) -> None:
    home = home_in(tmp_path / "home")
    home.write_json("run/thing.json", {"a": 1})
    home.write_json("run/thing.json", {"a": 2})
    assert home.read_json("run/thing.json") == {"a": 2}
    assert stat.S_IMODE((home.run / "thing.json").stat().st_mode) == 0o600
    assert [path.name for path in home.run.iterdir()] == ["thing.json"]
    (home.run / "thing.json").write_text("{")
    assert home.read_json("run/thing.json") is None


def test_a_process_is_told_from_a_later_one_of_the_same_number() -> None:
    mine = identity(os.getpid())
    assert mine is not None
    assert mine == identity(os.getpid())
    process = subprocess.Popen(["true"])
    process.wait()
    assert not psutil.pid_exists(process.pid)
    assert identity(process.pid) is None
