"""The boot loader's protocol, byte for byte; no answer whatever leads to a hang, a crash or a false success."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sim.virtual_time import now_ms, run_virtual
from hal.firmware import FirmwareFailed
from hal.firmware.stm32 import Stm32Firmware
from hal.firmware.stm32_entry import BootEntry
from hal.firmware.stm32_loader import LoaderRefused, Stm32Loader
from hal.sim.faults import Fault
from hal.sim.stm32_bootloader import CHIP_ID, Mode
from tests.unit.hal.stm32_bench import ASKED, LINES, NEW, OLD, PAGES, SETTINGS, Bench

ACK, NACK = b"\x79", b"\x1f"


class ScriptedWire:
    """Answers every ``send`` with what ``answer`` makes of the number of sends before."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self.sent: list[bytes] = []
        self._answer = answer
        self._waiting = b""

    def send(self, data: bytes) -> None:
        self._waiting += self._answer(len(self.sent))
        self.sent.append(data)

    async def receive(self, count: int, timeout_ms: int) -> bytes:
        if len(self._waiting) < count:
            await asyncio.sleep(timeout_ms / 1000)
        answer, self._waiting = self._waiting[:count], self._waiting[count:]
        return answer

    def discard(self) -> None:
        self._waiting = b""

    def set_parity(self, *, even: bool) -> None: ...

    def set_lines(self, *, dtr: bool, rts: bool) -> None: ...

    def close(self) -> None: ...


def scripted(*answers: bytes) -> tuple[ScriptedWire, Stm32Loader]:
    wire = ScriptedWire(lambda sends: answers[sends] if sends < len(answers) else b"")
    return wire, Stm32Loader(wire, SETTINGS)


# --------------------------------------------------------------------------------------- the exact bytes


def test_bytes_of_every_command() -> None:
    async def main() -> None:
        wire, loader = scripted(ACK, ACK + b"\x06\x31\x02\x11\x21\x31\x44\x00" + ACK)
        await loader.sync(from_reset=True)
        assert wire.sent == [b"\x7f", b"\x00\xff"]

        wire, loader = scripted(ACK + b"\x05\x31\x02\x11\x21\x31\x44" + ACK, ACK + b"\x01\x04\x60" + ACK)
        await loader.check()
        assert wire.sent == [b"\x00\xff", b"\x02\xfd"]

        wire, loader = scripted(ACK, ACK, ACK + b"\xaa\xbb")
        assert await loader.read(0x0800_1234, 2) == b"\xaa\xbb"
        assert wire.sent == [b"\x11\xee", b"\x08\x00\x12\x34\x2e", b"\x01\xfe"]

        wire, loader = scripted(ACK, ACK, ACK)
        await loader.write(0x0800_0100, b"\x01\x02\x04\x08")
        assert wire.sent == [b"\x31\xce", b"\x08\x00\x01\x00\x09", b"\x03\x01\x02\x04\x08\x0c"]

        wire, loader = scripted(ACK, ACK)
        await loader.erase(0x0102)
        assert wire.sent == [b"\x44\xbb", b"\x00\x00\x01\x02\x03"]

        wire, loader = scripted(ACK, ACK)
        await loader.erase(0, 0)
        assert wire.sent == [b"\x44\xbb", b"\x00\x01\x00\x00\x00\x00\x01"]

        wire, loader = scripted(ACK, ACK)
        await loader.go(0x0800_0000)
        assert wire.sent == [b"\x21\xde", b"\x08\x00\x00\x00\x08"]

    run_virtual(main())


def test_what_came_late_is_no_answer_to_the_next_command() -> None:
    async def main() -> None:
        wire, loader = scripted(NACK, ACK, ACK, ACK + b"\xaa")
        wire.send(b"an earlier command")
        assert await loader.read(0x0800_0000, 1) == b"\xaa"

    run_virtual(main())


@pytest.mark.parametrize(
    ("answers", "sent"),
    [
        ((ACK,), 1),  # fresh from reset
        ((NACK,), 1),  # the first byte was the second half of a command
        ((b"", NACK), 2),  # the first byte was taken for half a command
        ((b"\x00", ACK), 2),  # noise when the port was opened
        ((b"", b"", ACK), 3),  # not ready before
    ],
)
def test_the_boot_loader_is_found_in_any_state(answers: tuple[bytes, ...], sent: int) -> None:
    async def main() -> None:
        wire, loader = scripted(*answers, ACK + b"\x00\x31" + ACK)
        await loader.sync(from_reset=True)
        assert wire.sent == [b"\x7f"] * sent + [b"\x00\xff"]

    run_virtual(main())


@pytest.mark.parametrize(
    ("answers", "error", "why"),
    [
        (
            (),
            FirmwareFailed,
            r"bench: boot loader: writing 8 bytes at 0x8000000: no answer within 1000 ms; check power",
        ),
        ((NACK,), LoaderRefused, "refuses writing 8 bytes at 0x8000000"),
        ((b"\x42",), FirmwareFailed, "42 came instead of an answer"),
        ((ACK, NACK), LoaderRefused, "refuses"),
        ((ACK, ACK), FirmwareFailed, "no answer within 2000 ms"),
        ((ACK, ACK, NACK), LoaderRefused, "refuses"),
    ],
)
def test_errors_say_what_and_where(answers: tuple[bytes, ...], error: type[FirmwareFailed], why: str) -> None:
    async def main() -> None:
        _, loader = scripted(*answers)
        with pytest.raises(error, match=why):
            await loader.write(0x0800_0000, bytes(8))

    run_virtual(main())


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ((ACK + b"\x03\x22\x02\x11\x43" + ACK,), "does not know the commands 0x21 0x31 0x44"),
        ((ACK + b"\x05\x31\x02\x11\x21\x31\x44" + ACK, ACK + b"\x01\x04\x10" + ACK), "chip 0x410, not 0x460"),
        ((ACK + b"\xff",), "256 bytes are announced"),
        ((ACK + b"\x05\x31",), "1 of 6 bytes came within 1000 ms"),
        ((ACK,), "0 of 1 bytes came"),
    ],
)
def test_another_controller_is_refused(answers: tuple[bytes, ...], why: str) -> None:
    async def main() -> None:
        _, loader = scripted(*answers)
        with pytest.raises(FirmwareFailed, match=why):
            await loader.check()

    run_virtual(main())


@pytest.mark.parametrize(("noise", "why"), [(b"", "does not answer"), (b"\x5a", "cannot be made out: 5a came")])
@pytest.mark.parametrize("from_reset", [True, False])
def test_nobody_there(noise: bytes, why: str, from_reset: bool) -> None:
    async def main() -> None:
        loader = Stm32Loader(ScriptedWire(lambda _: noise), SETTINGS)
        with pytest.raises(FirmwareFailed, match=why):
            await loader.sync(from_reset=from_reset)
        assert now_ms() < 10_000

    run_virtual(main())


# --------------------------------------------------------------------------------------- any bytes at all

LIMIT_MS = 120_000
answers_ = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([ACK, NACK, ACK * 2, ACK + b"\x05\x31\x02\x11\x21\x31\x44" + ACK, ACK + b"\x01\x04\x60" + ACK]),
    st.binary(min_size=33, max_size=300),
)


@given(answers=st.lists(answers_, max_size=60), endless=st.booleans(), asked=st.booleans())
def test_any_answers_end_in_a_typed_error(answers: list[bytes], endless: bool, asked: bool) -> None:
    def answer(sends: int) -> bytes:
        if endless and answers:
            return answers[sends % len(answers)]
        return answers[sends] if sends < len(answers) else b""

    async def main() -> None:
        entry = ASKED if asked else LINES
        firmware = Stm32Firmware(SETTINGS, entry, open_wire=lambda port, baud: ScriptedWire(answer))
        with pytest.raises(FirmwareFailed):
            await firmware.write(OLD, lambda done, total: None)
        with suppress(FirmwareFailed):
            assert isinstance(await firmware.version(), str | None)
        assert now_ms() < LIMIT_MS

    run_virtual(main())


@given(
    asked=st.booleans(),
    damage=st.dictionaries(st.integers(0, 90), st.binary(max_size=4) | st.sampled_from([ACK, NACK]), max_size=4),
    instead=st.booleans(),
)
def test_damaged_answers_never_make_a_false_success(asked: bool, damage: dict[int, bytes], instead: bool) -> None:
    """``instead`` of the answer, or behind it. Success means that the whole image is there, and runs."""

    async def main() -> None:
        bench = Bench(ASKED if asked else LINES)
        count = itertools.count()

        def mangle(data: bytes) -> bytes:
            done_to = damage.get(next(count))
            if done_to is None:
                return data
            return done_to if instead else data + done_to

        bench.cable.mangle = mangle
        try:
            await bench.write()
        except FirmwareFailed:
            assert bench.torn_starts() == []
        else:
            assert bench.flash.content.startswith(NEW)
        assert now_ms() < LIMIT_MS
        bench.cable.mangle = lambda data: data
        await bench.write()
        assert bench.runs(NEW)
        assert bench.torn_starts() == []

    run_virtual(main())


# --------------------------------------------------------------------------------------- the driver


def test_a_write_tells_its_progress_and_starts_the_application() -> None:
    async def main() -> None:
        bench = Bench(LINES)
        assert await bench.firmware.version() == "1.0"
        assert bench.runs(OLD)
        progress = await bench.write()
        assert bench.runs(NEW)
        assert progress[0] == (0, 160)
        assert progress[-1] == (160, 160)
        assert progress == sorted(progress)
        assert await bench.firmware.version() == "1.1"
        assert bench.firmware.max_image_bytes == sum(PAGES)

    run_virtual(main())


@pytest.mark.parametrize("content", [b"", bytes(8) + OLD[8:], OLD[:72] + b"\xff" * 20])
def test_no_application_or_one_without_version(content: bytes) -> None:
    async def main() -> None:
        bench = Bench(LINES, content=content)
        assert await bench.firmware.version() is None
        assert bench.controller.mode is not Mode.BOOT_LOADER or not content
        await bench.write()
        assert await bench.firmware.version() == "1.1"

    run_virtual(main())


@pytest.mark.parametrize("unit", [16, 32])
def test_a_flash_with_larger_units(unit: int) -> None:
    async def main() -> None:
        bench = Bench(LINES, settings=replace(SETTINGS, unit_bytes=unit), unit_bytes=unit)
        await bench.write()
        assert bench.runs(NEW)

    run_virtual(main())


def test_a_boot_loader_that_takes_no_zeros_over_what_is_written() -> None:
    async def main() -> None:
        bench = Bench(LINES)
        bench.controller.faults.set(Fault.REFUSE, count=1)
        await bench.write()
        assert bench.runs(NEW)

    run_virtual(main())


def test_an_image_that_cannot_be_meant_never_reaches_the_controller() -> None:
    async def main() -> None:
        bench = Bench(LINES)
        with pytest.raises(FirmwareFailed, match="reset handler"):
            await bench.write(b"\x7fELF" + OLD[4:])
        assert bench.cable.moved == 0
        assert bench.runs(OLD)

    run_virtual(main())


@pytest.mark.parametrize("entry", [LINES, ASKED], ids=["lines", "request"])
def test_another_chip_keeps_its_application(entry: BootEntry) -> None:
    async def main() -> None:
        bench = Bench(entry, settings=replace(SETTINGS, chip_id=CHIP_ID + 1))
        with pytest.raises(FirmwareFailed, match="chip 0x460"):
            await bench.write()
        assert bench.runs(OLD)
        assert bench.flash.steps == 0

    run_virtual(main())


def test_whoever_listens_to_the_progress_may_give_up() -> None:
    class GivenUp(Exception):
        pass

    def give_up(done: int, total: int) -> None:
        raise GivenUp

    async def main() -> None:
        bench = Bench(ASKED)
        with pytest.raises(GivenUp):
            await bench.firmware.write(NEW, give_up)
        assert bench.controller.mode is Mode.BOOT_LOADER
        await bench.write()
        assert bench.runs(NEW)

    run_virtual(main())


def test_the_version_is_what_is_heard_where_the_application_tells_it() -> None:
    async def heard() -> str | None:
        return "1.7"

    async def main() -> None:
        bench = Bench(LINES)
        settings = replace(SETTINGS, version_offset=None)
        firmware = Stm32Firmware(settings, LINES, heard=heard, open_wire=bench.cable.open_wire)
        assert await firmware.version() == "1.7"
        assert bench.cable.moved == 0
        for wrong in ((SETTINGS, heard), (settings, None)):
            with pytest.raises(ValueError, match="exactly one"):
                Stm32Firmware(wrong[0], LINES, heard=wrong[1])

    run_virtual(main())
