"""packaging/boot/uboot.cmd on a real U-Boot, in QEMU: it does what its model ``UbootScript`` does.

The part of the script that is the same on every board runs as it is, but for two commands: ``saveenv`` (QEMU's flash
cannot be written by this U-Boot) and ``reset`` only say that they were called. Skipped where QEMU or U-Boot is absent.
"""

from __future__ import annotations

import os
import random
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from agent.firmware.selectors.uboot_env import Environment, EnvironmentCopy, EnvironmentPair, encode
from agent.sim.bootloaders import UbootScript
from tests.support.power_disk import PowerDisk

pytestmark = pytest.mark.wire

SCRIPT: Final = Path(__file__).parents[2] / "packaging" / "boot" / "uboot.cmd"
UBOOT: Final = Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin")
TOOLS: Final = ("qemu-system-aarch64", "mkimage")
ADDRESS: Final = "0x41000000"
NAMES: Final = ("BOOT_ORDER", "BOOT_A_LEFT", "BOOT_A_GOOD", "BOOT_B_LEFT", "BOOT_B_GOOD")
DEADLINE_S: Final = 60.0
SEED: Final = 20261128
CASES: Final = 200

Variables = dict[str, str]


class Console:
    """A serial console; commands are answered in order."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._heard = b""
        self._number = 0

    def until(self, pattern: bytes) -> str:
        end = time.monotonic() + DEADLINE_S
        while not (match := re.search(pattern, self._heard)):
            if time.monotonic() > end:
                pytest.fail(f"no {pattern!r} in {self._heard[-2000:]!r}")
            select.select([self._out], [], [], 1.0)
            self._heard += self._out.read() or b""
        told, self._heard = self._heard[: match.start()], self._heard[match.end() :]
        return told.decode("latin-1")

    def do(self, command: str) -> str:
        """What the command said. U-Boot loses what is typed while it works, so this waits for the prompt."""
        self._number += 1
        self._in.write(f"{command}; echo done{self._number}\n".encode())
        self._in.flush()
        return self.until(rf"\ndone{self._number}\r\n=> ".encode())


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing or not UBOOT.exists():
        pytest.skip(f"no {', '.join(missing) or UBOOT} (packages qemu-system-arm, u-boot-qemu, u-boot-tools)")
    folder = tmp_path_factory.mktemp("uboot")
    _, _, script = SCRIPT.read_text().partition("# ---- from here on it is the same on every board\n")
    assert script.count("\nreset\n") == 1
    (folder / "cmd").write_text(script.replace("saveenv", "run save").replace("\nreset\n", "\necho RESET\n"))
    subprocess.run(
        ["mkimage", "-A", "arm64", "-T", "script", "-C", "none", "-d", folder / "cmd", folder / "scr"],
        check=True,
        capture_output=True,
    )
    machine = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "128", "-nographic", "-net", "none"]
    image = f"loader,file={folder / 'scr'},addr={ADDRESS},force-raw=on"
    with subprocess.Popen(
        [*machine, "-bios", UBOOT, "-device", image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            console = Console(process)
            console.until(rb"Hit any key")
            console.do("true")
            shown = " ".join(f"{name}=${{{name}}}," for name in NAMES)
            console.do(f"setenv save 'echo SAVE {shown}'")
            console.do("setenv evsed_boot_a 'echo START a'; setenv evsed_boot_b 'echo START b'")
            yield console
        finally:
            process.kill()


@dataclass(frozen=True)
class Outcome:
    """Which slot starts, and what is saved when it does."""

    slot: str | None
    saved: Variables


def really(console: Console, variables: Variables, broken: str) -> Outcome:
    console.do("; ".join(f"setenv {name} {variables.get(name, '')}" for name in NAMES))
    saved = dict(variables)
    for _ in range(2):  # the second after a reset
        told = console.do(f"source {ADDRESS}")
        for match in re.finditer(r"\n(SAVE (.*)|START (.)|RESET)\r", told):
            if match[2] is not None:
                pairs = (pair.strip().partition("=") for pair in match[2].rstrip(",").split(","))
                saved = {name: value for name, _, value in pairs if value}
            elif match[3] is not None and match[3] not in broken:
                return Outcome(match[3], saved)
        assert "RESET" in told
    return Outcome(None, saved)


def by_the_model(variables: Variables, broken: str) -> Outcome:
    copies = (EnvironmentCopy(Path("/one")), EnvironmentCopy(Path("/two")))
    entries = tuple(f"{name}={value}".encode() for name, value in variables.items())
    disk = PowerDisk()
    for copy in copies:
        disk.put(copy.path, encode(Environment(entries), 0, 512))
    slot = UbootScript(disk, copies, 512, ("a", "b"), frozenset(broken)).boot()
    after = EnvironmentPair(disk, copies, 512).demand().environment
    return Outcome(slot, {name: value for name in NAMES if (value := after.get(name))})


def cases() -> list[tuple[Variables, str]]:
    """What our selector writes, and what it never would."""
    chance = random.Random(SEED)
    found: list[tuple[Variables, str]] = [({}, ""), ({}, "ab")]
    while len(found) < CASES:
        variables = {
            "BOOT_ORDER": chance.choice(["", "A", "B", "A B", "B A", "B A", "C", "C B"]),
            **{f"BOOT_{slot}_LEFT": chance.choice(["", "0", "0", "1", "3", "9", "x"]) for slot in "AB"},
            **{f"BOOT_{slot}_GOOD": chance.choice(["", "0", "1"]) for slot in "AB"},
        }
        found.append(({name: value for name, value in variables.items() if value}, chance.choice(["", "", "a", "b"])))
    return found


def test_the_script_does_what_its_model_does(console: Console) -> None:
    for variables, broken in cases():
        assert really(console, variables, broken) == by_the_model(variables, broken), (variables, broken)
