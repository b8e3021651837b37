"""kill -9 of worker, beat and web, ten times in one session; the fleet's request log is the witness."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.base import Product

pytestmark = pytest.mark.process

NODES = 24
KILLS = 10
OFF = {"GracefulShutdown", "ForceOff"}


@pytest.fixture
def muster_of_24() -> Iterator[Product]:
    """Its first session is over, all its nodes are on."""
    directory = Path(tempfile.mkdtemp(prefix="muster-up-", dir="/tmp"))
    product = Product(directory / "home", nodes=NODES)
    try:
        product.start()
        product.wait_ready()
        product.wait_demo()
        yield product
    finally:
        product.end()
        shutil.rmtree(directory, ignore_errors=True)


def switched(product: Product) -> dict[str, list[str]]:
    """Reset types that each system was asked for, in order."""
    resets: dict[str, list[str]] = defaultdict(list)
    for line in (product.home / "log" / "emulator-requests.log").read_text().splitlines():
        entry = json.loads(line)
        if entry["method"] == "POST":
            resets[entry["path"]].append(entry["body"]["ResetType"])
    return resets


def test_ten_kills_in_one_reboot_contradict_nothing_and_lose_nothing(muster_of_24: Product) -> None:
    product = muster_of_24
    before = {path: len(types) for path, types in switched(product).items()}
    session = {"operation": "reboot", "template_name": "sample", "name": "through-ten-kills"}
    assert product.wait_until(lambda: answer(product, "/apis/bos/v2/sessions", "POST", session) == 201)
    dice = random.Random(4711)
    victims = list(itertools.islice(itertools.cycle(["worker", "beat", "web"]), KILLS))
    dice.shuffle(victims)
    for victim in victims:
        # Not for luck: at whatever moment it happens, the outcome must be the same.
        time.sleep(dice.uniform(0.2, 2.0))
        product.kill(victim)
    product.wait_until(lambda: state(product) == "complete", 240, "the session to be complete")
    status = product.ask("/apis/bos/v2/sessions/through-ten-kills/status").json
    assert status["error_summary"] == {}
    assert status["percent_successful"] == 100.0
    resets = {path: types[before[path] :] for path, types in switched(product).items()}
    assert len(resets) == NODES
    for path, types in resets.items():
        kinds = [kind for kind, _ in itertools.groupby("off" if name in OFF else "on" for name in types)]
        assert kinds == ["off", "on"], f"{path}: {types}"


def answer(product: Product, path: str, method: str, body: object) -> int:
    """The status; 0 while nobody answers."""
    try:
        return product.ask(path, method, body).status
    except OSError:
        return 0


def state(product: Product) -> str:
    """Of the session; "" while nobody answers."""
    try:
        document = product.ask("/apis/bos/v2/sessions/through-ten-kills")
    except OSError:
        return ""
    return document.json["status"]["status"] if document.status == 200 else ""
