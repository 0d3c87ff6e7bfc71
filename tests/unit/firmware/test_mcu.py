"""The microcontroller gets what the booted slot brings: the decision, and how often it is tried."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from agent.firmware.mcu import Failed, Outcome, Same, Staged, Written, bring_in_line, must_write
from hal.firmware import ControllerFirmware, FirmwareFailed, OnProgress

IMAGE = b"image of 1.1"
STAGED = Staged("1.1", IMAGE, hashlib.sha256(IMAGE).digest())


class Controller:
    """``faults``: what its next calls raise, one each; None: nothing. Images begin with the version they tell."""

    max_image_bytes = 100

    def __init__(self, running: str | None, *faults: str | None, becomes: str | None = "1.1") -> None:
        self.running = running
        self.becomes = becomes
        self.writes = 0
        self._faults = list(faults)

    async def version(self) -> str | None:
        self._fail_if_told()
        return self.running

    async def write(self, image: bytes, on_progress: OnProgress) -> None:
        assert image == IMAGE
        self.writes += 1
        self.running = None
        self._fail_if_told()
        on_progress(len(image), len(image))
        self.running = self.becomes

    def _fail_if_told(self) -> None:
        fault = self._faults.pop(0) if self._faults else None
        if fault is not None:
            raise FirmwareFailed("port", fault)


def outcome(controller: Controller, staged: Staged | None = STAGED, attempts: int = 3) -> Outcome:
    port: ControllerFirmware = controller
    return asyncio.run(bring_in_line(staged, port, lambda done, total: None, attempts=attempts))


@pytest.mark.parametrize(
    ("staged", "running", "write"),
    [
        (None, None, False),
        (None, "1.0", False),
        (STAGED, None, True),
        (STAGED, "1.0", True),
        (STAGED, "1.2", True),  # a rollback brings the older one back
        (STAGED, "1.1", False),
        (STAGED, "1.1 ", True),
        (STAGED, "", True),
    ],
)
def test_decision(staged: Staged | None, running: str | None, write: bool) -> None:
    assert must_write(staged, running) is write


@pytest.mark.parametrize(
    ("controller", "expected", "writes"),
    [
        (Controller("1.1"), Same("1.1"), 0),
        (Controller("1.0"), Written("1.0", "1.1", 1), 1),
        (Controller(None), Written(None, "1.1", 1), 1),
        (Controller("1.1", "silent"), Same("1.1"), 0),  # version() failed once
        (Controller("1.0", "silent"), Written("1.0", "1.1", 2), 1),
        (Controller("1.0", None, "torn"), Written("1.0", "1.1", 2), 2),  # it told no version at the second try
        (Controller("1.0", None, "torn", None, "torn"), Written("1.0", "1.1", 3), 3),
        (Controller("1.0", None, None, "silent"), Written("1.0", "1.1", 2), 1),  # written, told only later
        (Controller("1.0", None, "1", None, "2", None, "3"), Failed("port: 3", 3), 3),
        (Controller("1.0", "1", "2", "3"), Failed("port: 3", 3), 0),
    ],
)
def test_outcome(controller: Controller, expected: Outcome, writes: int) -> None:
    assert outcome(controller) == expected
    assert controller.writes == writes


def test_one_attempt_is_enough_and_two_are_not_made() -> None:
    assert outcome(Controller("1.0"), attempts=1) == Written("1.0", "1.1", 1)
    controller = Controller("1.0", None, "torn")
    assert outcome(controller, attempts=1) == Failed("port: torn", 1)
    assert controller.writes == 1


def test_nothing_is_staged() -> None:
    controller = Controller("1.0", "must not be asked")
    assert outcome(controller, None) == Same(None)


@pytest.mark.parametrize("becomes", ["1.0", None])
def test_an_image_of_another_version_is_written_once(becomes: str | None) -> None:
    """Writing it again would only wear the flash."""
    controller = Controller("1.0", becomes=becomes)
    failed = outcome(controller)
    assert isinstance(failed, Failed)
    assert f"read back as 1.1, but tells {becomes or 'no version'}" in failed.reason
    assert controller.writes == 1


@pytest.mark.parametrize(
    ("staged", "why"),
    [
        (replace(STAGED, image=IMAGE + b"!"), "do not have the hash"),
        (replace(STAGED, sha256=bytes(32)), "do not have the hash"),
        (replace(STAGED, image=b"x" * 101), "image of 101 bytes: the controller holds 100"),
    ],
)
def test_a_wrong_image_never_reaches_the_controller(staged: Staged, why: str) -> None:
    controller = Controller("1.0")
    failed = outcome(controller, staged)
    assert isinstance(failed, Failed)
    assert why in failed.reason
    assert controller.writes == 0


def test_a_damaged_image_does_not_matter_where_the_version_runs_already() -> None:
    assert outcome(Controller("1.1"), replace(STAGED, image=b"damaged")) == Same("1.1")
