"""The native engine on real block devices and file systems: loop devices as slots, mounted images as folders.

A power cut is played by copying the files below loop devices at a step of the installation: what the kernel had sent
to them by then is what a cut would leave. The copies are mounted, and the same code must make them good.
Needs root and loop devices; elsewhere it is skipped. Whatever is attached or mounted is taken down again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from agent.firmware.engines import native_image
from agent.firmware.engines.native import NativeEngine
from agent.firmware.errors import SlotFailed, SourceLost, UpdateRefused
from agent.firmware.manifest import Manifest, PayloadType
from agent.firmware.ports import Progress
from agent.firmware.storage import FileStorage, Storage
from tests.unit.firmware.engines.native_making import ZSTD, BytesSource, bundle, files, image, mcu, noise

pytestmark = pytest.mark.wire

MIB: Final = 1024 * 1024
CHUNK: Final = 64 * 1024
SLOT_BYTES: Final = 2 * MIB
TREE: Final = {"kernel": noise(1, 300_000), "dtb/board.dtb": noise(2, 700), "dtb/empty": b""}
FIRMWARE: Final = noise(3, 30_000)
SYSTEM_FOLDERS: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

Made = tuple[Manifest, bytes]


def run(*words: str | Path) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=30, env={**os.environ, "PATH": SYSTEM_FOLDERS}
    )
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout.strip()


class Bench:
    """Loop devices and mounts that end with the test, the last one first."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder

    def attach(self, file: Path, *options: str) -> Path:
        device = run("losetup", "--find", "--show", *options, file)
        self._stack.callback(run, "losetup", "--detach", device)
        return Path(device)

    def mount(self, device: Path, *options: str) -> Path:
        folder = self._folder / f"on-{device.name}-{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        run("mount", *options, device, folder)
        self._stack.callback(run, "umount", folder)
        return folder


@pytest.fixture
def here() -> Iterator[Path]:
    """In memory where possible: the medium is below the loop devices, and nothing of it need last."""
    memory = "/dev/shm"
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def bench(here: Path) -> Iterator[Bench]:
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    if not all(shutil.which(name, path=SYSTEM_FOLDERS) for name in ("losetup", "mount", "mkfs.ext4")):
        pytest.skip("losetup, mount or mkfs.ext4 is not installed")
    probe = here / "probe"
    probe.write_bytes(bytes(4096))
    with ExitStack() as stack:
        try:
            Bench(stack, here).attach(probe)
        except OSError as error:
            pytest.skip(f"no loop devices here: {error}")
        yield Bench(stack, here)


class Device:
    """A charger made of three files: two slots, and a file system for all else."""

    def __init__(self, bench: Bench, folder: Path, storage: Storage | None = None) -> None:
        self.storage = storage or FileStorage()
        self.parts = {name: folder / name for name in ("a", "b", "data")}
        self.slots = {slot: bench.attach(self.parts[slot]) for slot in "ab"}
        # No commits of the journal by the clock: what is on the medium depends on our syncs alone.
        self.data = bench.mount(bench.attach(self.parts["data"]), *MOUNT.get(file_system(self.parts["data"]), ()))

    @property
    def engine(self) -> NativeEngine:
        boot, pilot = {"boot": self.data / "boot"}, {"pilot": self.data / "pilot"}
        return NativeEngine(self.storage, {"root": self.slots}, boot, pilot, self.data / "index")

    def install(
        self, made: Made, source: BytesSource | None = None, listen: Callable[[Progress], None] | None = None
    ) -> BytesSource:
        source = source or BytesSource(made[1])
        self.engine.write(made[0], source, "b", "a", whole_file=None, on_progress=listen or (lambda progress: None))
        return source

    def read_back(self, made: Made) -> None:
        self.engine.read_back(made[0], "b", on_progress=lambda progress: None)


MOUNT: Final = {"ext4": ("-o", "commit=300")}


def file_system(part: Path) -> str:
    return run("blkid", "-p", "-o", "value", "-s", "TYPE", part)


def blank(path: Path, size: int, content: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)
    return path


def root_image(folder: Path, word: str) -> bytes:
    """A root file system with a file in it that holds ``word``."""
    tree = folder / f"tree-{word}"
    tree.mkdir()
    (tree / "release").write_text(word)
    (tree / "large").write_bytes(noise(sum(word.encode()), 900_000))
    file = blank(folder / f"image-{word}", SLOT_BYTES - 2 * CHUNK)
    run("mkfs.ext4", "-q", "-O", "^has_journal", "-d", tree, file)
    return file.read_bytes()


def make_parts(folder: Path, data: str = "ext4") -> Path:
    """The files of a new device."""
    folder.mkdir(exist_ok=True)
    for number, slot in enumerate("ab"):
        blank(folder / slot, SLOT_BYTES, noise(10 + number, SLOT_BYTES))
    part = blank(folder / "data", 8 * MIB)
    if not shutil.which(f"mkfs.{data}", path=SYSTEM_FOLDERS):
        pytest.skip(f"mkfs.{data} is not installed")
    run(f"mkfs.{data}", *(("-q", "-b", "1024", "-J", "size=1") if data == "ext4" else ()), part)
    return folder


# -------------------------------------------------------------------------------------------------- slots


def test_a_root_file_system_is_installed_and_mounted(bench: Bench, here: Path) -> None:
    device = Device(bench, make_parts(here / "device"))
    made = bundle(image(root_image(here, "one"), chunk_size=CHUNK, compression=ZSTD), files(TREE), mcu(FIRMWARE, "1"))
    device.install(made)
    device.read_back(made)
    assert (bench.mount(device.slots["b"], "-o", "ro") / "release").read_text() == "one"
    assert device.engine.targets()[PayloadType.SLOT_IMAGE, "root"] == SLOT_BYTES
    staged = device.engine.staged_mcu("pilot", "b")
    assert staged is not None
    assert staged.image == FIRMWARE


def test_a_slot_that_is_not_complete_cannot_be_mounted(bench: Bench, here: Path) -> None:
    device = Device(bench, make_parts(here / "device"))
    old, new = (bundle(image(root_image(here, word), chunk_size=CHUNK)) for word in ("old", "new"))
    device.install(old)
    assert file_system(device.slots["b"]) == "ext4"
    source = BytesSource(new[1], lost_after=3)
    with pytest.raises(SourceLost):
        device.install(new, source)
    with pytest.raises(OSError, match="blkid"):
        file_system(device.slots["b"])
    with pytest.raises(OSError, match="mount"):
        bench.mount(device.slots["b"], "-o", "ro", "-t", "ext4")
    device.install(new)
    device.read_back(new)
    assert (bench.mount(device.slots["b"], "-o", "ro") / "release").read_text() == "new"


def test_a_mounted_slot_is_never_written_but_chunks_are_taken_from_it(bench: Bench, here: Path) -> None:
    device = Device(bench, make_parts(here / "device"))
    root = root_image(here, "running")
    for slot in "ab":
        with device.slots[slot].open("r+b") as raw:
            raw.write(root)
    made = bundle(image(root, chunk_size=CHUNK))
    bench.mount(device.slots["a"], "-o", "ro")
    assert device.install(made).fetched_bytes < len(root) // 2
    device.read_back(made)
    bench.mount(device.slots["b"], "-o", "ro")
    with pytest.raises(SlotFailed, match=f"{device.slots['b']}: .*; it is mounted or in use otherwise"):
        device.install(bundle(image(noise(1, SLOT_BYTES))))
    device.read_back(made)


def test_reading_back_sees_the_medium_and_not_the_memory(bench: Bench, here: Path) -> None:
    device = Device(bench, make_parts(here / "device"))
    made = bundle(image(noise(1, SLOT_BYTES), chunk_size=CHUNK))
    device.install(made)
    with device.slots["b"].open("rb") as raw:  # while it is open, the kernel keeps what was read
        raw.read()
        with device.parts["b"].open("r+b") as medium:
            medium.seek(5 * CHUNK + 17)
            medium.write(b"\0")
        raw.seek(0)
        assert raw.read() == made[1][made[0].payloads[0].offset :]
        with pytest.raises(SlotFailed, match=f"chunk 5 at offset {5 * CHUNK}"):
            device.read_back(made)


def test_a_device_that_is_too_small_shrinks_or_cannot_be_written(bench: Bench, here: Path) -> None:
    device = Device(bench, make_parts(here / "device"))
    with pytest.raises(UpdateRefused, match=f"has room for {SLOT_BYTES}"):
        device.install(bundle(image(noise(1, SLOT_BYTES + 1), chunk_size=CHUNK)))
    read_only = bench.attach(device.parts["b"], "--read-only")
    device.slots["b"] = read_only
    made = bundle(image(noise(1, SLOT_BYTES), chunk_size=CHUNK))
    with pytest.raises(SlotFailed, match=f"{read_only}: "):
        device.install(made)
    device.slots["b"] = bench.attach(device.parts["b"])

    def shrink(progress: Progress) -> None:
        if progress.done_bytes == 8 * CHUNK:
            os.truncate(device.parts["b"], 12 * CHUNK)
            run("losetup", "--set-capacity", device.slots["b"])

    with pytest.raises(SlotFailed, match=f"{device.slots['b']}: "):
        device.install(made, listen=shrink)
    with pytest.raises(SlotFailed, match=f"{device.slots['b']}: "):
        device.read_back(made)
    with pytest.raises(UpdateRefused, match=f"has room for {12 * CHUNK}"):
        device.install(made)


# ------------------------------------------------------------------------------------------------ folders


@pytest.mark.parametrize("kind", ["ext4", "vfat"])
def test_files_firmware_and_index_on_a_real_file_system(bench: Bench, here: Path, kind: str) -> None:
    parts = make_parts(here / "device", kind)
    try:
        device = Device(bench, parts)
    except OSError as error:
        if "unknown filesystem type" not in str(error):
            raise
        pytest.skip(f"this kernel knows no {kind}")
    content = noise(1, SLOT_BYTES)
    for number in range(3):
        tree = {**TREE, "kernel": noise(number, 200_000 + number), f"only-{number}": b"x"}
        made = bundle(files(tree), mcu(noise(number, 9_000), f"1.{number}"), image(content, chunk_size=CHUNK))
        device.install(made)
        device.read_back(made)
        below = (path for path in (device.data / "boot" / "b").rglob("*") if path.is_file())
        assert {str(path.relative_to(device.data / "boot" / "b")): path.read_bytes() for path in below} == tree
        staged = device.engine.staged_mcu("pilot", "b")
        assert staged is not None
        assert staged.version == f"1.{number}"
    assert device.install(made).fetched_bytes == 0


class Stopping(FileStorage):
    """Calls ``before`` ahead of each change of a name and each sync."""

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    def rename(self, old: Path, new: Path) -> None:
        self._before()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._before()
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        self._before()
        super().sync_folder(folder)


def test_after_a_power_cut_on_ext4_the_same_call_completes(
    bench: Bench, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_image, "SYNC_BYTES", 4 * CHUNK)
    root, old_root = root_image(here, "new"), root_image(here, "old")
    old = bundle(files({"kernel": b"old", "old": b"old"}), image(old_root, chunk_size=CHUNK), mcu(b"old", "1"))
    made = bundle(files(TREE), image(root, chunk_size=CHUNK), mcu(FIRMWARE, "2"))
    copies: list[Path] = []

    def copy() -> None:
        copies.append(here / f"cut-{len(copies)}")
        copies[-1].mkdir()
        for part in device.parts.values():
            shutil.copyfile(part, copies[-1] / part.name)

    device = Device(bench, make_parts(here / "device"), Stopping(lambda: None))
    device.install(old)
    device.storage = Stopping(copy)
    device.install(made, listen=lambda progress: copy() if progress.done_bytes % (16 * CHUNK) == 0 else None)
    copy()
    assert len(copies) > 15
    fetched = []
    for cut in copies:
        with ExitStack() as stack:
            found = Device(Bench(stack, here), cut)
            slot = (cut / "b").read_bytes()
            untouched = slot[CHUNK : len(root)] == old_root[CHUNK:]
            assert untouched or not any(slot[:4096]) or slot[4096 : len(root)] == root[4096:], cut
            fetched.append(found.install(made).fetched_bytes)
            found.read_back(made)
            assert (Bench(stack, here).mount(found.slots["b"], "-o", "ro") / "release").read_text() == "new"
        shutil.rmtree(cut)
    assert fetched[-1] == 0
    assert fetched[0] > len(root) // 4
