"""bin/muster-report: what a real node runs, in the shells and with the clients that nodes have."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.base import PROJECT, Product, request, wait_until
from tests.running.notes import Notes

REPORTER = str(PROJECT / "bin" / "muster-report")
TOOLS = ("cat", "grep", "sleep", "tail", "sed")
XNAME = "x3000c0s0b0n0"


@pytest.fixture
def notes() -> Iterator[Notes]:
    taker = Notes()
    yield taker
    taker.server.shutdown()
    taker.server.server_close()


@pytest.fixture
def path_with(tmp_path: Path) -> Callable[..., str]:
    """A PATH with the common tools and these clients alone."""

    def make(*clients: str) -> str:
        directory = tmp_path / "bin"
        directory.mkdir()
        for tool in TOOLS:
            (directory / tool).symlink_to(found(tool))
        for client in clients:
            if client == "busybox-wget":
                (directory / "wget").write_text(f'#!/bin/sh\nexec {found("busybox")} wget "$@"\n')
                (directory / "wget").chmod(0o755)
            else:
                (directory / client).symlink_to(found(client))
        return str(directory)

    return make


def found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed here; .ci/run installs it")
    return path


SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}


def report(shell: str, path: str, *options: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    program, *more = SHELLS[shell]
    command = [found(program), *more, REPORTER, *options]
    return subprocess.run(
        command, env={"PATH": path}, capture_output=True, text=True, timeout=timeout, check=False
    )


def cmdline(directory: Path, *words: str) -> str:
    file = directory / "cmdline"
    file.write_text(" ".join(["BOOT_IMAGE=kernel", "quiet", *words]) + "\n")
    return str(file)


# -- against a Muster that only takes notes ------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_it_reads_what_it_needs_from_the_kernels_command_line(
    shell: str, notes: Notes, tmp_path: Path, path_with: Callable[..., str]
) -> None:
    words = [
        f"muster_url={notes.url}/",
        f"xname={XNAME}",
        "bss_referral_token=mnt_a-b",
        "bos_update_frequency=4h",
    ]
    answer = report(shell, path_with("curl"), "--once", "--cmdline", cmdline(tmp_path, *words))
    assert answer.returncode == 0, answer.stderr
    expected = {"id": XNAME, "actual_state": {"bss_token": "mnt_a-b"}}
    assert notes.requests == [("PATCH", f"/apis/bos/v2/components/{XNAME}", expected, "Bearer mnt_a-b")]


@pytest.mark.parametrize("client", ["curl", "wget"])
def test_arguments_win_and_both_clients_send_the_same(
    client: str, notes: Notes, tmp_path: Path, path_with: Callable[..., str]
) -> None:
    file = cmdline(tmp_path, "xname=x1c0s0b0n0", "bss_referral_token=other", "muster_url=http://127.0.0.1:9")
    answer = report(
        "dash",
        path_with(client),
        "--once",
        "--url",
        notes.url,
        "--xname",
        XNAME,
        "--token",
        "mine",
        "--cmdline",
        file,
    )
    assert answer.returncode == 0, answer.stderr
    assert [request[1:] for request in notes.requests] == [
        (
            f"/apis/bos/v2/components/{XNAME}",
            {"id": XNAME, "actual_state": {"bss_token": "mine"}},
            "Bearer mine",
        )
    ]


def test_it_repeats_until_accepted(notes: Notes, path_with: Callable[..., str]) -> None:
    notes.report_status = 503
    process = subprocess.Popen(
        [found("dash"), REPORTER, "--once", "--url", notes.url, "--xname", XNAME, "--token", "mine"],
        env={"PATH": path_with("curl")},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(notes.reports(XNAME)) >= 2, what="a second try")
    notes.report_status = 200
    assert process.wait(60) == 0
    assert process.stderr is not None
    said = process.stderr.read()
    assert "not accepted yet (503); again in 2 s" in said
    assert "mine" not in said


def test_it_repeats_an_accepted_report_in_time(notes: Notes, path_with: Callable[..., str]) -> None:
    process = subprocess.Popen(
        [found("dash"), REPORTER, "--url", notes.url, "--xname", XNAME, "--token", "mine", "--every", "2s"],
        env={"PATH": path_with("curl")},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(notes.reports(XNAME)) >= 3, what="the third report")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["xname=x0c0s0b0n0", "bss_referral_token=t"], "where is Muster?"),
        (["muster_url=http://127.0.0.1:9", "bss_referral_token=t"], "which node is this?"),
        (["muster_url=http://127.0.0.1:9", "xname=x0c0s0b0n0"], "this boot was not Muster's"),
        (["muster_url=http://127.0.0.1:9", 'xname=x"0', "bss_referral_token=t"], "neither can have"),
        (["muster_url=u", "xname=x", "bss_referral_token=t", "bos_update_frequency=soon"], "'soon' is not"),
    ],
)
def test_what_is_missing_or_malformed_is_said(
    words: list[str], complaint: str, tmp_path: Path, path_with: Callable[..., str]
) -> None:
    answer = report("dash", path_with("curl"), "--once", "--cmdline", cmdline(tmp_path, *words))
    assert answer.returncode == 2
    assert complaint in answer.stderr


def test_without_curl_and_wget_it_says_so(tmp_path: Path, path_with: Callable[..., str]) -> None:
    file = cmdline(tmp_path, "muster_url=http://127.0.0.1:9", "xname=x", "bss_referral_token=t")
    answer = report("dash", path_with(), "--once", "--cmdline", file)
    assert answer.returncode == 2
    assert "neither curl nor wget" in answer.stderr


def test_shellcheck_has_nothing_to_say() -> None:
    programs = [REPORTER, *(str(PROJECT / "bin" / name) for name in ("up", "test"))]
    answer = subprocess.run(
        [found("shellcheck"), "-x", *programs], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert answer.stdout == ""


# -- against a real one ---------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize(
    ("shell", "client"),
    [("dash", "curl"), ("busybox", "wget"), ("bash", "curl"), ("busybox", "busybox-wget")],
)
def test_muster_accepts_the_report_of_a_node_that_booted_with_its_script(
    muster: Product, shell: str, client: str, tmp_path: Path, path_with: Callable[..., str]
) -> None:
    script = request(f"{muster.url}/apis/bss/boot/v1/bootscript?name={XNAME}")
    assert script.status == 200
    (parameters,) = re.findall(r"(?m)^kernel .*$", script.text)
    answer = report(shell, path_with(client), "--once", "--cmdline", cmdline(tmp_path, parameters))
    assert answer.returncode == 0, answer.stderr
    component = muster.ask(f"/apis/bos/v2/components/{XNAME}").json
    assert component["actual_state"]["boot_artifacts"]["kernel"] in parameters
