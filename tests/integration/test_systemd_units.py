"""The units as systemd reads them, and the installer's system calls against the filter of its unit.

Nothing is started by systemd here: its own tools judge the files, an installer under strace stands for the service, and
a shell for the last line of the boot guard. Skipped where the tools are missing.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.firmware.installer_state import InstallerState, StateFile
from agent.firmware.storage import FileStorage, opened
from agent.firmware.view import InstallOrder, Origin, StagedPhase, StagedView
from agent.supervisor import _HANG_S, _READY_S
from tests.support.update_kit import UpdateKit

pytestmark = pytest.mark.wire
UNITS = Path(__file__).parents[2] / "systemd"
STATION, INSTALLER, GUARD = "evsed-station.service", "evsed-installer.service", "evsed-boot-guard.service"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def settings(unit: str, name: str) -> list[str]:
    """All values of one setting, in order."""
    return re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def analyze(*words: str) -> str:
    """What systemd-analyze says; also where it finds something to say."""
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False)
    if "nrecognized option" in done.stderr or "Unknown command verb" in done.stderr:
        pytest.skip(f"this systemd-analyze cannot do {words[0]} offline")
    return done.stdout + done.stderr


# ---------------------------------------------------------------------------------------- the files


@needs_systemd
@pytest.mark.parametrize(
    ("unit", "most"),
    [(STATION, 2.0), ("evsed-gateway.service", 2.0), (INSTALLER, 2.0), (GUARD, 1.0)],
)
def test_unit_is_exposed_as_little_as_it_can_be(unit: str, most: float) -> None:
    said = analyze("security", "--offline=true", str(UNITS / unit))
    score = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert score, said
    assert float(score[1]) <= most, said


@needs_systemd
def test_units_have_no_mistake_that_systemd_finds(tmp_path: Path) -> None:
    """With a program that is there, since systemd looks for it."""
    files = [file for file in UNITS.iterdir() if file.is_file()]
    assert len(files) == 7
    for file in files:
        (tmp_path / file.name).write_text(file.read_text().replace("/opt/evsed/bin/evsed", "/bin/true"))
    assert analyze("verify", "--man=no", *(str(tmp_path / file.name) for file in files)) == ""


def test_a_station_that_hangs_is_killed_as_by_our_own_supervisor() -> None:
    """``notify``: the time runs from when the station is ready, not before."""
    wanted = {"Type": ["notify"], "WatchdogSec": [f"{_HANG_S:.0f}"], "WatchdogSignal": ["SIGKILL"]}
    assert {name: settings(STATION, name) for name in wanted} == wanted
    assert settings(STATION, "TimeoutStartSec") == [f"{_READY_S / 3_600:.0f}h"]


@pytest.mark.parametrize("process", ["station", "gateway", "installer"])
def test_no_process_reads_its_configuration_before_the_data_partition_with_it_is_there(process: str) -> None:
    """docs/updates.md lets evsed.toml be a link; one that leads nowhere is a wrong configuration, and ends it for good.
    systemd.exec(5): StateDirectory= waits for the mounts of its folder as RequiresMountsFor= does."""
    unit = f"evsed-{process}.service"
    waits = " ".join(settings(unit, "RequiresMountsFor")).split()
    states = [f"/var/lib/{each}" for each in settings(unit, "StateDirectory")]
    assert "/etc/evsed" in waits and any(each.startswith("/var/lib/evsed") for each in [*waits, *states])


MODULES = {"ttyS": None, "ttyAMA": None, "ttyUSB": "usbserial", "ttyACM": "cdc_acm"}
"""What makes a group of devices known to the kernel; None: what every kernel that has such a UART has inside."""


def test_no_port_is_forbidden_because_its_driver_was_loaded_after_the_unit_had_started() -> None:
    """systemd leaves out of ``DeviceAllow=`` what /proc/devices does not list at that moment."""
    seen = set()
    for file in UNITS.glob("*.service"):
        for group in re.findall(r"^DeviceAllow=char-(\S+)", file.read_text(), re.MULTILINE):
            seen.add(group)
            if (module := MODULES[group]) is not None:
                for name in ("Wants", "After"):
                    words = [word for value in settings(file.name, name) for word in value.split()]
                    assert f"modprobe@{module}.service" in words, (file.name, name, group)
    assert seen == MODULES.keys()


# ---------------------------------------------------------------------------------- system calls


@functools.cache
def sets() -> dict[str, set[str]]:
    """systemd's named sets of system calls, each with what it names directly."""
    found: dict[str, set[str]] = {}
    members: set[str] = set()
    for line in analyze("syscall-filter").splitlines():
        word = line.strip()
        if line.startswith("@"):
            members = found.setdefault(word, set())
        elif word and not word.startswith("#"):
            members.add(word)
    return found


def calls_of(names: Sequence[str]) -> set[str]:
    """All system calls of sets and single names."""
    calls: set[str] = set()
    for name in names:
        calls |= calls_of(sorted(sets()[name])) if name.startswith("@") else {name}
    return calls


def allowed(unit: str) -> set[str]:
    """What the unit's filter lets through."""
    calls = calls_of(["@default"])
    for value in settings(unit, "SystemCallFilter"):
        named = calls_of(value.lstrip("~").split())
        calls = calls - named if value.startswith("~") else calls | named
    return calls


@needs_systemd
def test_the_installers_filter_lets_no_dangerous_call_through() -> None:
    filtered = allowed(INSTALLER)
    assert {"openat", "pwrite64", "fsync", "accept4"} <= filtered
    assert not filtered & {"mount", "reboot", "ptrace", "bpf", "init_module", "setuid", "chown", "kexec_load", "swapon"}


@needs_systemd
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")
def test_the_installer_makes_no_call_that_its_unit_forbids(tmp_path: Path) -> None:
    """From its start to its end, with an update and a restart of the machine."""
    table = tmp_path / "calls"
    strace = ["strace", "-f", "-qq", "-c", "-o", str(table)]
    if subprocess.run([*strace, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace may not trace here")
    kit = UpdateKit(tmp_path)
    bundle = kit.bundle("2.0.0", epoch=1)
    with kit.installer(strace) as installer:
        installer.confirm()
        with opened(FileStorage().open(bundle)) as source:
            staged = installer.install(source, InstallOrder(Origin.LOCAL), lambda _: None)
        installer.activate(staged.digest)
        installer.reboot()
    made = {line.split()[-1] for line in table.read_text().splitlines()[2:] if re.match(r" *[0-9]", line)} - {"total"}
    assert {"pwrite64", "fsync", "recvfrom", "execve"} <= made, "the installer was not seen at work"
    assert made - allowed(INSTALLER) == set()


# ---------------------------------------------------------------------------- the guard's last line


@pytest.mark.parametrize("result", ["success", "exit-code"])
@pytest.mark.parametrize("phase", [None, *StagedPhase])
def test_the_guards_last_line_restarts_a_trial_that_nobody_can_end(
    tmp_path: Path, result: str, phase: StagedPhase | None
) -> None:
    """Where the guard failed, and only while an update is activated and was not marked good."""
    kit = UpdateKit(tmp_path)
    if phase is not None:
        staged = StagedView("b", phase, "00" * 32, "2.0.0", 1, False)
        StateFile(FileStorage(), kit.state_file).save(InstallerState(staged=staged))
    (line,) = settings(GUARD, "ExecStopPost")
    words = [
        word.replace("$$", "$").replace("/var/lib/evsed-installer", str(kit.state_file.parent))
        for word in shlex.split(line)
    ]
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    systemctl.chmod(0o755)
    path = f"{systemctl.parent}:{os.environ['PATH']}"
    done = subprocess.run(words, env={"PATH": path, "SERVICE_RESULT": result}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    restarts = result != "success" and phase is StagedPhase.ACTIVATED
    assert (tmp_path / "asked").exists() is restarts
    if restarts:
        assert (tmp_path / "asked").read_text() == "--no-block reboot\n"
