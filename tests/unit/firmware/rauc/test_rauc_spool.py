"""A foreign bundle gets into a file whole, hashed and durable, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil
import stat
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.update import EngineKind
from agent.firmware.engines.rauc_bus import RaucBus
from agent.firmware.engines.rauc_spool import LEDGER_BYTES, PIECE_BYTES, spool
from agent.firmware.errors import Refusal, SlotFailed, SourceLost, UpdateRefused
from agent.firmware.ports import Progress
from agent.firmware.rauc_writer import RaucWriter
from agent.firmware.storage import FileStorage
from agent.ledger.space import FLOOR_BYTES, RESERVE_BYTES, SCARCE_FLOORS
from tests.support.power_disk import Fate, PowerDisk
from tests.support.update_world import config


@dataclass
class Bytes:
    """A source; ``size`` may promise more or less than ``data`` has. ``breaks_at``: the link is lost there."""

    data: bytes
    size: int
    breaks_at: int | None = None

    def read(self, offset: int, length: int) -> bytes:
        if self.breaks_at is not None and offset + length > self.breaks_at:
            raise SourceLost("the link broke", retryable=True)
        return self.data[offset : offset + length]


def whole(data: bytes) -> Bytes:
    return Bytes(data, len(data))


def nobody(progress: Progress) -> None:
    """Does not listen."""


class Cancelled(Exception):
    pass


SOME = bytes(range(256)) * (PIECE_BYTES // 256) + b"and a little more"


def test_the_file_is_the_source_and_only_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "update.raucb"
    told: list[Progress] = []
    digest = hashlib.sha256()
    spool(whole(SOME), path, FileStorage(), digest, len(SOME), told.append)
    assert path.read_bytes() == SOME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert digest.digest() == hashlib.sha256(SOME).digest()
    assert [(each.done_bytes, each.total_bytes) for each in told] == [
        (PIECE_BYTES, len(SOME)),
        (len(SOME), len(SOME)),
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_power_cut_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "update.raucb"
    path.write_bytes(b"half of something that was longer")
    spool(whole(b"new"), path, FileStorage(), None, 100, nobody)
    assert path.read_bytes() == b"new"


def test_what_a_power_cut_left_does_not_wait_for_the_next_update(tmp_path: Path) -> None:
    """It is as large as a bundle, and lies where the ledger has its room."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "spool.raucb").write_bytes(b"half of something")
    update_config = dataclasses.replace(config(tmp_path), engine=EngineKind.RAUC, state_dir=state)
    for _ in range(2):
        RaucWriter(FileStorage(), update_config, RaucBus())
        assert list(state.iterdir()) == []


def test_a_link_under_its_name_is_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "passwd", tmp_path / "update.raucb"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    spool(whole(b"new"), path, FileStorage(), None, 100, nobody)
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()


@pytest.mark.parametrize(
    ("source", "refusal"), [(whole(b"four"), Refusal.TOO_LARGE), (whole(b""), Refusal.MALFORMED)], ids=["long", "empty"]
)
def test_a_size_that_cannot_be_is_refused_before_anything_is_touched(
    tmp_path: Path, source: Bytes, refusal: Refusal
) -> None:
    path = tmp_path / "update.raucb"
    path.write_bytes(b"old")
    with pytest.raises(UpdateRefused) as refused:
        spool(source, path, FileStorage(), None, 3, nobody)
    assert refused.value.refusal is refusal
    assert path.read_bytes() == b"old"


class Partition(FileStorage):
    """One with ``free_bytes`` left, less what is in ``folder``. ``others``: what else is written after each look."""

    def __init__(self, folder: Path, free_bytes: int, others: int = 0) -> None:
        self.folder, self.left_bytes, self.others = folder, free_bytes, others

    def free_bytes(self, folder: Path) -> int:
        self.left_bytes -= self.others
        return self.left_bytes - sum(file.stat().st_size for file in self.folder.iterdir())


def test_the_ledger_keeps_the_room_that_it_needs() -> None:
    assert LEDGER_BYTES == SCARCE_FLOORS * FLOOR_BYTES + RESERVE_BYTES


def test_what_the_ledger_has_no_room_beside_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(99))  # what a power cut left makes room
    partition = Partition(tmp_path, LEDGER_BYTES + len(SOME) - 1)
    with pytest.raises(UpdateRefused) as refused:
        spool(Bytes(SOME, len(SOME), breaks_at=0), tmp_path / "x", partition, None, len(SOME), nobody)
    assert refused.value.refusal is Refusal.TOO_LARGE
    assert refused.value.remedy == "make room there, or put update.state_dir on a larger partition"
    assert list(tmp_path.iterdir()) == []
    partition.left_bytes += 1
    spool(whole(SOME), tmp_path / "x", partition, None, len(SOME), nobody)
    assert (tmp_path / "x").read_bytes() == SOME


def test_what_others_write_meanwhile_ends_it(tmp_path: Path) -> None:
    partition = Partition(tmp_path, LEDGER_BYTES + len(SOME) + 3, others=2)
    with pytest.raises(UpdateRefused, match=f"{len(SOME) - PIECE_BYTES} bytes are to come"):
        spool(whole(SOME), tmp_path / "x", partition, None, len(SOME), nobody)
    assert list(tmp_path.iterdir()) == []


def test_a_file_systems_room_is_what_is_free_to_us(tmp_path: Path) -> None:
    before = FileStorage().free_bytes(tmp_path)
    assert abs(before - shutil.disk_usage(tmp_path).free) < 1 << 30, "others write here, too"


def test_a_lost_source_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceLost, match="the link broke"):
        spool(Bytes(SOME, len(SOME), PIECE_BYTES), tmp_path / "x", FileStorage(), None, len(SOME), nobody)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_gives_less_than_it_promised_is_lost(tmp_path: Path) -> None:
    with pytest.raises(SourceLost, match="4 of 9 bytes") as lost:
        spool(Bytes(b"four", 9), tmp_path / "x", FileStorage(), None, 9, nobody)
    assert lost.value.retryable
    assert list(tmp_path.iterdir()) == []


def test_a_listener_can_cancel(tmp_path: Path) -> None:
    def cancel(progress: Progress) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        spool(whole(SOME), tmp_path / "x", FileStorage(), None, len(SOME), cancel)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlotFailed, match="nowhere"):
        spool(whole(b"new"), tmp_path / "nowhere" / "x", FileStorage(), None, 100, nobody)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    @dataclass
    class Zeros:
        size: int = 24 * PIECE_BYTES

        def read(self, offset: int, length: int) -> bytes:
            return bytes(length)

    tracemalloc.start()
    try:
        spool(Zeros(), tmp_path / "x", FileStorage(), hashlib.sha256(), Zeros.size, nobody)
        _now, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * PIECE_BYTES


@pytest.mark.parametrize("fate", Fate)
def test_a_power_cut_afterwards_leaves_the_whole_file(fate: Fate) -> None:
    disk, path = PowerDisk(), Path("/spool/x")
    disk.make_folder(path.parent)
    spool(whole(SOME), path, disk, None, len(SOME), nobody)
    assert disk.after_cut(fate, random.Random(0)).content(path) == SOME


@given(st.integers(1, 3 * PIECE_BYTES))
def test_any_size_is_copied_whole(size: int) -> None:
    disk, digest, data = PowerDisk(), hashlib.sha256(), (SOME * 3)[:size]
    path = Path("/spool/x")
    disk.make_folder(path.parent)
    spool(whole(data), path, disk, digest, size, nobody)
    assert digest.digest() == hashlib.sha256(data).digest()
    assert disk.content(path) == data
