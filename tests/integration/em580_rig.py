"""The EM580's driver and its simulator, joined by a pty, for the tests at the wire.

Charter: build the rig, meddle with single requests, check a record the way a verifier would.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hal.meters.em580 import MAP_NAME, Em580, RecordLimits
from hal.meters.modbus_line import ModbusLine
from hal.ports import DeviceTimeout, RecordFailed, RecordFault, RecordRequest, SignedRecord
from hal.sim.em580 import READY, SimEm580
from hal.sim.faults import Fault
from hal.sim.meter import Reply, SimMeterLine
from hal.sim.pty import PtyLink
from tests.integration.meter_rig import TIMEOUT_MS, Log, config_for, now_ms

LIMITS = RecordLimits(begin_ms=3_000, clock_ms=300, command_ms=1_500, sign_ms=600, fetch_ms=3_000, poll_ms=5)
KEYS = {curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.BrainpoolP384R1())}

REQUEST = RecordRequest(
    id_assigned=True,
    id_level="TRUSTED",
    id_flags=("OCPP_AUTH_TLS", "RFID_RELATED"),
    id_type="ISO14443",
    id_data="04A2B3C4D5E680",
    tariff_text="T17 0.52 EUR/kWh",
    point_id_type="EVSEID",
    point_id="DE*EVS*E0001*1",
    utc_ms=1_782_000_000_000,
    zone_minutes=120,
)


class MeddledEm580(SimEm580):
    """Tells a test of each request just before the device hears it."""

    on_request: Callable[[bytes], None] | None = None

    def hear(self, request: bytes) -> list[Reply]:
        if self.on_request is not None:
            self.on_request(request)
        return super().hear(request)


def is_write(request: bytes, address: int) -> bool:
    return request[1] == 16 and int.from_bytes(request[2:4]) == address


@dataclass
class Rig:
    sim: MeddledEm580
    line: SimMeterLine
    meter: Em580
    log: Log


@asynccontextmanager
async def driver(path: str, *, poll_ms_of_values: int = 20, **limits: Any) -> AsyncIterator[tuple[Em580, Log]]:
    """A driver of its own, past its first reading: what a restarted station would have."""
    config = config_for(path, map_name=MAP_NAME, poll_ms=poll_ms_of_values)
    line = ModbusLine(dataclasses.replace(config.line, write_timeout_ms=TIMEOUT_MS))
    meter, log = Em580(config, line, now_ms, dataclasses.replace(LIMITS, **limits)), Log()
    meter.start(log)
    try:
        await log.next_reading()
        yield meter, log
    finally:
        await meter.close()


@asynccontextmanager
async def rig(
    tmp_path: Path, *, curve: str = "brainpoolP384r1", sim: dict[str, Any] | None = None, **limits: Any
) -> AsyncIterator[Rig]:
    """``sim``: what the simulated device is made with; ``limits``: the driver's."""
    device = MeddledEm580(key=KEYS[curve], **(sim or {}))
    device.values.energy_import_mwh = 1_000_000_000
    line = SimMeterLine(PtyLink(tmp_path / "rs485"), [device])
    line.start()
    try:
        async with driver(line.path, **limits) as (meter, log):
            yield Rig(device, line, meter, log)
    finally:
        line.close()


def charge(sim: SimEm580, energy_mwh: int) -> None:
    """Less than the driver's plausibility allows in one go."""
    assert sim.values.energy_import_mwh is not None
    sim.values.energy_import_mwh += energy_mwh


def verified(record: SignedRecord) -> dict[str, Any]:
    """The payload of a record whose signature is right over exactly the bytes it came with."""
    header, payload, signature = record.text.split(b"|")
    key = load_der_public_key(record.public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(bytes.fromhex(json.loads(signature)["SD"]), payload, ec.ECDSA(hashes.SHA256()))
    assert header == b"OCMF"
    content = json.loads(payload)
    assert isinstance(content, dict)
    return content


async def failing(call: object) -> RecordFault:
    with pytest.raises(RecordFailed) as caught:
        await call  # type: ignore[misc]
    return caught.value.reason


async def ended(r: Rig) -> None:
    """A record of 2 Wh lies in the meter, ended but not fetched by anyone."""
    await r.meter.begin_record(REQUEST)
    charge(r.sim, 2_000)
    r.sim.faults.set(Fault.RECORD_SILENT)
    with pytest.raises(DeviceTimeout):
        await r.meter.end_record()
    r.sim.faults.clear()
    assert r.sim.state == READY
