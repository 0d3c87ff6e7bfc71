"""An update beside its own disk: the native engine against ``sha256sum`` and ``dd`` of the same image, and RAUC.

Charter: a real bundle, two slots that are files of the image's size, all on one real file system (where temporary
files go). Each run of the engine is a process of its own, which parses the bundle's manifest and installs; its time
ends when the image is durable, its memory is its peak. ``dd`` writes over the same kind of file with one sync at the
end. The engine knows what the other slot holds (nothing of use), and must take all from the bundle, which is a local
file. All take turns, several times, and the median counts; what is read stands in the kernel's memory for all of them.
RAUC's time has its start and its answer over the message bus in it.
Units: seconds, MiB.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.bench.result import Figure, Tell
from tests.bench.scene import BenchFailed

_MIB: Final = 1 << 20
_SHARE_AIM: Final = 85.0
_PEAK_AIM_MIB: Final = 64.0
_LONGEST_S: Final = 600


async def measure(tell: Tell, size_mib: int, rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        return await asyncio.to_thread(_measure, tell, Path(folder), size_mib, rounds)


def _measure(tell: Tell, folder: Path, size_mib: int, rounds: int) -> list[Figure]:
    scene = _Scene(folder, size_mib)
    tell(f"an image of {size_mib} MiB; with zstd it is {scene.packed_mib:.0f} MiB")
    runs = _Runs()
    with ExitStack() as stack:
        rauc = _rauc(tell, stack, scene)
        for number in range(rounds):
            runs.time("sha256sum", partial(_command, "sha256sum", scene.image))
            output = f"of={scene.folder / 'dd'}"
            runs.time("dd", partial(_command, "dd", f"if={scene.image}", output, "bs=1M", "conv=fsync,notrunc"))
            runs.found("raw", scene.install("raw"))
            runs.found("raw, whole file hashed", scene.install("raw", whole=True))
            runs.found("zstd", scene.install("zstd"))
            runs.found("zstd, whole file hashed", scene.install("zstd", whole=True))
            if rauc is not None:
                runs.time("rauc", rauc)
            tell(f"round {number + 1} of {rounds}")
    return [*_full_figures(runs), *_changed_figures(scene)]


def _full_figures(runs: _Runs) -> list[Figure]:
    slower_s = max(runs.median_s("sha256sum"), runs.median_s("dd"))
    figures = [Figure(f"{name}, alone", runs.median_s(name), "s") for name in ("sha256sum", "dd")]
    if "rauc" in runs.took_s:
        figures.append(Figure("rauc install", runs.median_s("rauc"), "s"))
    for name, results in runs.results.items():
        took_s = runs.median_s(name)
        figures += [
            Figure(name, took_s, "s"),
            Figure(f"{name}: of the slower", 100 * slower_s / took_s, "%", _SHARE_AIM, at_least=True),
            Figure(f"{name}: peak memory", max(each["peak_mib"] for each in results), "MiB", _PEAK_AIM_MIB),
        ]
    back_s = [each["read_back_s"] for results in runs.results.values() for each in results]
    return [*figures, Figure("read back", median(back_s), "s")]


def _changed_figures(scene: _Scene) -> list[Figure]:
    """Of an image that differs in 1 % of its chunks: over the old one, and with that in the other slot."""
    figures = []
    for label, holds in (("over it", "b"), ("beside it", "a")):
        scene.install("raw", slot=holds)
        found = scene.install("changed", keep_index=True)
        figures += [
            Figure(f"1 % changed {label}", found["write_s"], "s"),
            Figure(f"1 % changed {label}: fetched", found["fetched"] / _MIB, "MiB"),
            Figure(f"1 % changed {label}: written", found["written"] / _MIB, "MiB"),
        ]
        scene.install("other", slot="b")
    return figures


@dataclass(slots=True)
class _Runs:
    took_s: dict[str, list[float]] = field(default_factory=dict)
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def time(self, name: str, work: Callable[[], object]) -> None:
        os.sync()
        began_s = time.perf_counter()
        work()
        self.took_s.setdefault(name, []).append(time.perf_counter() - began_s)

    def found(self, name: str, result: dict[str, Any]) -> None:
        self.took_s.setdefault(name, []).append(result["write_s"])
        self.results.setdefault(name, []).append(result)

    def median_s(self, name: str) -> float:
        return median(self.took_s[name])


# ------------------------------------------------------------------------------------------------ the scene


class _Scene:
    """Images, bundles of them, and two slots in a folder."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder, self.image = folder, folder / "image"
        changed = range(50, size_mib, 100)  # one of a hundred
        other = folder / "other"
        for path, seed in ((self.image, 1), (other, 2)):
            with path.open("wb") as file:
                file.writelines(_mebibytes(seed, size_mib))
        for name in ("slot-a", "slot-b", "dd"):
            _command("cp", "--reflink=never", other, folder / name)
        self._bundle("raw", self.image, packed=False)
        self._bundle("zstd", self.image, packed=True)
        self._bundle("other", other, packed=False)
        with self.image.open("r+b") as file:
            for number in changed:
                file.seek(number * _MIB)
                file.write(b"changed")
        self._bundle("changed", self.image, packed=False)
        self.packed_mib = (folder / "zstd.bundle").stat().st_size / _MIB
        for slot in "ab":
            self.install("other", slot=slot)

    def _bundle(self, name: str, image: Path, *, packed: bool) -> None:
        from agent.firmware.bundle.make import Description, PayloadPlan, create
        from agent.firmware.manifest import Compression, PayloadType, Requires

        compression = Compression.ZSTD if packed else Compression.NONE
        plan = PayloadPlan("root", PayloadType.SLOT_IMAGE, "root", image, compression=compression)
        create(Description(("x",), 0, 9, "1.0", 1, 1_764_000_000_000, (plan,), Requires()), self._file(name))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.bundle"

    def install(self, name: str, *, slot: str = "b", whole: bool = False, keep_index: bool = False) -> dict[str, Any]:
        """In a process of its own. ``keep_index``: with what is known of the slot it goes to."""
        if not keep_index:
            (self.folder / "index" / f"root-{slot}.index").unlink(missing_ok=True)
        os.sync()
        words = (self.folder, self._file(name), slot, str(int(whole)))
        found: dict[str, Any] = json.loads(_command(sys.executable, "-m", "tests.bench.update", *words))
        return found


def _mebibytes(seed: int, count: int) -> Iterator[bytes]:
    """Half noise, half not, block by block, as programs are about half as large when they are compressed."""
    chance = random.Random(seed)
    for _ in range(count):
        yield b"".join(chance.randbytes(2048) + bytes(2048) for _ in range(_MIB // 4096))


def _command(*words: str | Path) -> bytes:
    done = subprocess.run(words, capture_output=True, check=False, timeout=_LONGEST_S)
    if done.returncode != 0:
        raise BenchFailed(f"{words[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _rauc(tell: Tell, stack: ExitStack, scene: _Scene) -> Callable[[], object] | None:
    """Installs the same image with RAUC, if it can run here."""
    from tests.support.rauc_service import rauc_service, why_not

    if (reason := why_not()) is not None:
        tell(f"RAUC is left out: {reason}")
        return None
    service = stack.enter_context(rauc_service(scene.folder / "rauc", scene.image.stat().st_size))
    bundle = service.make_bundle(scene.image)
    return partial(service.install, bundle)


# ------------------------------------------------------------------------------------------ the process itself


class _FileSource:
    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)


def _install(folder: Path, bundle: Path, slot: str, whole: bool) -> dict[str, float]:
    from agent.firmware.bundle.layout import HEADER_BYTES, parse_header
    from agent.firmware.bundle.parse import parse_manifest
    from agent.firmware.engines.native import HashOverFile, NativeEngine
    from agent.firmware.ports import Progress
    from agent.firmware.storage import FileStorage

    source = _FileSource(bundle)
    header = parse_header(source.read(0, HEADER_BYTES), source.size)
    manifest = parse_manifest(source.read(HEADER_BYTES, header.manifest_length), header)
    slots = {"root": {each: folder / f"slot-{each}" for each in "ab"}}
    engine = NativeEngine(FileStorage(), slots, {}, {}, folder / "index")
    last = Progress(0, 0, 0, 0)

    def listen(progress: Progress) -> None:
        nonlocal last
        last = progress

    hashed = HashOverFile() if whole else None
    began_s = time.perf_counter()
    engine.write(manifest, source, slot, "a" if slot == "b" else "b", whole_file=hashed, on_progress=listen)
    written_s = time.perf_counter()
    found = {"write_s": written_s - began_s, "fetched": last.fetched_bytes, "written": last.written_bytes}
    engine.read_back(manifest, slot, on_progress=listen)
    return found | {"read_back_s": time.perf_counter() - written_s, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def main(arguments: Sequence[str]) -> int:
    folder, bundle, slot, whole = arguments
    print(json.dumps(_install(Path(folder), Path(bundle), slot, whole == "1")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
