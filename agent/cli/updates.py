"""``evsed update``, ``slots``: updates on site, by a technician.

Charter: talks to the installer, which judges and writes, and to the station, which knows when nobody charges. Plain
words for people; JSON and exit codes for machines.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from agent.cli.bar import bar
from agent.cli.looking import EXIT_AWAY, print_table
from agent.cli.processes import EXIT_CONFIG, load_config
from agent.config.model import Config
from agent.firmware.client import InstallerAway, InstallerClient
from agent.firmware.errors import SlotFailed, SourceLost, UpdateRefused
from agent.firmware.storage import FileStorage, StoredFile, opened
from agent.firmware.view import InstallerView, InstallOrder, Origin, SlotView, StagedPhase
from agent.ipc.codec import to_plain

_PHASES = {
    StagedPhase.WRITING: "is not whole yet: hand the same bundle over again",
    StagedPhase.READY: "waits to be installed",
    StagedPhase.ACTIVATED: "is tried at the next boot, or right now",
    StagedPhase.ROLLED_BACK: "was tried and did not become good",
}


def slots(parsed: argparse.Namespace) -> int:
    """What runs, what waits, what boots next."""

    def show(installer: InstallerClient, _config: Config) -> int:
        found = installer.status()
        if parsed.json:
            print(json.dumps(to_plain(found)))
        else:
            _show(found)
        return 0

    return _with_installer(parsed, show)


def mark_good(parsed: argparse.Namespace) -> int:
    def mark(installer: InstallerClient, _config: Config) -> int:
        found = installer.status()
        if found.booted is not None and found.booted == found.primary and not found.on_trial:
            print(f"slot {found.booted} was good already; nothing to do")  # and no download ends for it
            return 0
        installer.confirm()
        print(f"slot {found.booted} is good: it stays")
        return 0

    return _with_installer(parsed, mark)


def rollback(parsed: argparse.Namespace) -> int:
    def back(installer: InstallerClient, _config: Config) -> int:
        slot = installer.revert()
        print(f"slot {slot} boots from now on; restart the charger to use it")
        return 0

    return _with_installer(parsed, back)


def guard(parsed: argparse.Namespace) -> int:
    """Some time after a boot: go back where nobody marked the running image good. Needs the installer, not the station.
    Where the boot loader cannot be told, it counts the restart as a try all the same."""

    def look(installer: InstallerClient, _config: Config) -> int:
        found = installer.status()
        if not found.on_trial:
            print(f"slot {found.booted or '?'} is not on trial; nothing to do")
            return 0
        print(f"slot {found.booted} is on trial and was not marked good in time", flush=True)
        try:
            print(f"slot {installer.revert()} boots from now on; the charger restarts", flush=True)
        except UpdateRefused as refused:  # restarts would never end
            print(f"evsed: {refused}; so slot {found.booted} runs on, and still needs somebody", file=sys.stderr)
            return 0
        except SlotFailed as failed:
            print(f"evsed: {failed}; the charger restarts all the same", file=sys.stderr, flush=True)
        installer.reboot()
        return 0

    return _with_installer(parsed, look)


def update(parsed: argparse.Namespace) -> int:
    """Hand a bundle over; it is installed when nobody charges."""

    def hand_over(installer: InstallerClient, config: Config) -> int:
        with _bundle(parsed.file) as source, bar(parsed.file.name) as show:
            staged = installer.install(
                source, InstallOrder(Origin.LOCAL), lambda progress: show(progress.done_bytes, progress.total_bytes)
            )
        print(f"{staged.version} is in slot {staged.slot}, and was judged good")
        return asyncio.run(_install(installer, config, staged.digest))

    return _with_installer(parsed, hand_over)


async def _install(installer: InstallerClient, config: Config, digest: str) -> int:
    """The station decides when; where there is none, nobody charges."""
    from agent.ipc.client import RemoteStation
    from agent.ipc.port import StationLost

    try:
        station = await RemoteStation.connect(config.station.run_dir / "station.sock")
    except StationLost:
        await asyncio.to_thread(installer.activate, digest)
        print("no station runs here: the next restart tries the new image")
        return 0
    try:
        said = await station.install_staged()
    except StationLost as lost:
        print(f"evsed: {lost}; the bundle is in its slot: hand it over again to have it installed", file=sys.stderr)
        return EXIT_AWAY
    finally:
        await station.close()
    print(said)
    return 1 if said.startswith(("not ", "nothing ", "this station ")) else 0


@contextlib.contextmanager
def _bundle(path: Path) -> Iterator[StoredFile]:
    """The file as a ``Source``."""
    try:
        file = FileStorage().open(path.absolute())
    except OSError as error:
        raise SourceLost(f"{path}: {error.strerror or error}", retryable=False) from error
    with opened(file):
        yield file


def _with_installer(parsed: argparse.Namespace, work: Callable[[InstallerClient, Config], int]) -> int:
    config = load_config(parsed, "tool")
    if config is None:
        return EXIT_CONFIG
    if config.update is None:
        print("evsed: the configuration has no [update] table: this charger takes no updates", file=sys.stderr)
        return EXIT_CONFIG
    try:
        with InstallerClient(config.station.installer_socket) as installer:
            return work(installer, config)
    except InstallerAway as away:
        print(f"evsed: {away}; only root and the station's user may ask it", file=sys.stderr)
        return EXIT_AWAY
    except UpdateRefused as refused:
        print(f"evsed: refused ({refused.refusal}): {refused}", file=sys.stderr)
        return 1
    except (SourceLost, SlotFailed) as failed:
        print(f"evsed: {failed}", file=sys.stderr)
        return 1


# ------------------------------------------------------------------------------------------------ tables


def _show(found: InstallerView) -> None:
    from rich.table import Table

    trial = ", on trial: not marked good yet" if found.on_trial else ""
    print(f"runs from slot {found.booted or '?'}{trial}; the next boot takes slot {found.primary or '?'}")
    print(f"boot loader {found.selector}   engine {found.engine}   least security epoch {found.security_epoch}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("slot", "version", "state", "tries left", "epoch", "installed", "manifest"):
        table.add_column(name, justify="right" if name in ("tries left", "epoch") else "left")
    for slot in found.slots:
        table.add_row(*_cells(slot, found))
    print_table(table)
    if found.staged is not None:
        print(f"{found.staged.version} in slot {found.staged.slot} {_PHASES[found.staged.phase]}")
    for note in found.notes:
        print(f"note: {note}")


def _cells(slot: SlotView, found: InstallerView) -> list[str]:
    if slot.running:
        state = "runs, on trial" if found.on_trial else "runs"
    elif not slot.bootable:
        state = "does not boot"
    else:
        state = "good" if slot.good else "to be tried"
    return [
        slot.slot,
        slot.version or "?",
        state,
        "-" if slot.tries_left is None else str(slot.tries_left),
        "?" if slot.security_epoch is None else str(slot.security_epoch),
        "?" if slot.installed_wall_ms is None else _day(slot.installed_wall_ms),
        slot.digest[:16] or "?",
    ]


def _day(wall_ms: int) -> str:
    return datetime.fromtimestamp(wall_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")
