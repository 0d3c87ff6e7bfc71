"""The simulated meter speaks the frames a real one would, and plays exactly the faults it lists."""

from __future__ import annotations

import pytest

from hal.sim.faults import Fault, FaultSwitch
from hal.sim.meter import SUPPORTED, MeterValues, SimMeter, SimMeterLine, with_crc
from hal.sim.pty import PtyLink

READ_IMPORT = "01 04 00 48 00 02 F1 DD"
IMPORT_1234_5_KWH = "01 04 04 44 9A 50 00 F3 5B"


def hear(meter: SimMeter, request: str) -> list[str]:
    frame = bytes.fromhex(request)
    assert with_crc(frame[:-2]) == frame
    return [reply.data.hex(" ").upper() for reply in meter.hear(frame)]


def request(unit_id: int, function: int, address: int, count: int) -> bytes:
    return with_crc(bytes((unit_id, function)) + address.to_bytes(2) + count.to_bytes(2))


def meter_with_energy() -> SimMeter:
    meter = SimMeter()
    meter.values.energy_import_mwh = 1_234_500_000
    return meter


def test_worked_frame_of_the_import_register() -> None:
    assert hear(meter_with_energy(), READ_IMPORT) == [IMPORT_1234_5_KWH]


def test_worked_frame_of_voltages_and_currents() -> None:
    [reply] = hear(SimMeter(), "01 04 00 00 00 0C F0 0F")
    assert reply.startswith("01 04 18 43 66 00 00 43 66 00 00 43 66 00 00 00 00 00 00")


def test_serial_number_register() -> None:
    assert SimMeter().hear(request(1, 3, 0xFC00, 2))[0].data[3:7] == (12_345_678).to_bytes(4)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (request(1, 6, 0x0048, 2), 1),
        (request(1, 4, 0x0100, 2), 2),
        (request(1, 4, 0x004A, 3), 2),
        (request(1, 3, 0x0048, 2), 2),
        (request(1, 4, 0x0000, 81), 3),
        (request(1, 4, 0x0000, 0), 3),
    ],
)
def test_what_it_does_not_have_is_an_exception(frame: bytes, code: int) -> None:
    assert [reply.data for reply in SimMeter().hear(frame)] == [with_crc(bytes((1, frame[1] | 0x80, code)))]


def test_a_meter_without_a_serial_register() -> None:
    assert SimMeter(serial_number=None).hear(request(1, 3, 0xFC00, 2))[0].data[:3] == bytes((1, 0x83, 2))


def test_other_units_are_none_of_its_business() -> None:
    assert SimMeter(2).hear(bytes.fromhex(READ_IMPORT)) == []


def test_the_register_tells_what_a_float32_holds() -> None:
    meter = SimMeter()
    meter.values.energy_import_mwh = 123_456_789_012
    assert meter.register_mwh() == 123_456_789_062
    meter.values.energy_import_mwh = None
    with pytest.raises(ValueError, match="not available"):
        meter.register_mwh()


def test_stuck_freezes_the_registers_until_cleared() -> None:
    meter = meter_with_energy()
    meter.faults.set(Fault.STUCK)
    meter.values.energy_import_mwh = 2_000_000_000
    assert hear(meter, READ_IMPORT) == [IMPORT_1234_5_KWH]
    meter.faults.clear()
    assert meter.register_mwh() == 2_000_000_000


@pytest.mark.parametrize(
    ("fault", "param", "replies"),
    [
        (Fault.DROP, None, []),
        (Fault.SILENT, None, []),
        (Fault.CORRUPT, None, ["01 04 04 44 8A 50 00 F3 5B"]),
        (Fault.SHORT, None, ["01 04 00 22 C0"]),
        (Fault.WRONG_UNIT, None, ["02 04 04 44 9A 50 00 C0 5B"]),
        (Fault.REFUSE, 6, ["01 84 06 C3 02"]),
        (Fault.DUPLICATE, None, [IMPORT_1234_5_KWH] * 2),
    ],
)
def test_one_shot_faults_bite_once(fault: Fault, param: int | None, replies: list[str]) -> None:
    meter = meter_with_energy()
    meter.faults.set(fault, count=1, param=param)
    assert hear(meter, READ_IMPORT) == replies
    assert hear(meter, READ_IMPORT) == [IMPORT_1234_5_KWH]


def test_a_late_reply_says_how_late() -> None:
    meter = meter_with_energy()
    meter.faults.set(Fault.DELAY, count=1, param=300)
    frame = bytes.fromhex(READ_IMPORT)
    assert [reply.late_ms for reply in meter.hear(frame) + meter.hear(frame)] == [300, 0]


def test_noise_is_reproducible_and_no_reply() -> None:
    def noise() -> list[str]:
        meter = meter_with_energy()
        meter.faults.set("garbage", param=9)
        return hear(meter, READ_IMPORT)

    assert noise() == noise() != [IMPORT_1234_5_KWH]


def test_faults_that_cannot_be_played_are_an_error() -> None:
    meter = SimMeter()
    with pytest.raises(ValueError, match=r"fault 'reset' is not supported here; .*corrupt, delay"):
        meter.faults.set(Fault.RESET)
    with pytest.raises(ValueError, match="unknown fault 'explode'"):
        meter.faults.set("explode")
    with pytest.raises(ValueError, match="count must be at least 1"):
        meter.faults.set(Fault.DROP, count=0)
    with pytest.raises(ValueError, match="on no line"):
        meter.faults.set(Fault.UNPLUG)
    assert Fault.RESET not in SUPPORTED


def test_a_switch_tells_changes_and_counts_down() -> None:
    told: list[tuple[Fault, bool]] = []
    switch = FaultSwitch(frozenset({Fault.DROP, Fault.DELAY}), lambda fault, on: told.append((fault, on)))
    switch.set(Fault.DROP, count=2)
    switch.set(Fault.DELAY, param=70)
    assert switch.is_on(Fault.DROP)
    assert [switch.take(Fault.DROP) for _ in range(3)] == [True, True, False]
    assert (switch.param(Fault.DELAY, 5), switch.param(Fault.DROP, 5)) == (70, 5)
    assert switch.take(Fault.DELAY)
    switch.clear()
    switch.clear(Fault.DELAY)
    assert told == [(Fault.DROP, True), (Fault.DELAY, True), (Fault.DROP, False), (Fault.DELAY, False)]


def test_units_on_one_line_must_differ() -> None:
    link = PtyLink()
    with pytest.raises(ValueError, match="must differ"):
        SimMeterLine(link, [SimMeter(1), SimMeter(1)])
    link.close()


def test_values_default_to_an_idle_meter() -> None:
    assert MeterValues() == MeterValues(0, 0, 0, (230_000,) * 3, (0,) * 3, 50_000)
