"""16-MV-01, 02, 06, 09 as the CSMS sees them: when a reading was taken, and whose it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.facts import MeterFact, SampleContext, Trigger
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import Rig
from tests.support.fake_station import sample, session_facts

REGISTER = "Energy.Active.Import.Register"


def told(rig: Rig) -> list[tuple[int, int | None, str, str]]:
    """(connector, transaction, context, minute) of each MeterValues with one reading."""
    found = []
    for call in rig.csms.of("MeterValues"):
        [value] = call.payload["meterValue"]
        context = value["sampledValue"][0]["context"]
        minute = value["timestamp"].removeprefix("2026-11-24T08:")
        found.append((call.payload["connectorId"], call.payload.get("transactionId"), context, minute))
    return found


@pytest.mark.parametrize("offline", [False, True])
def test_16_mv_09_a_reading_belongs_to_the_transaction_that_ran_when_it_was_taken(offline: bool) -> None:
    """Readings outside a transaction have none, and so have those of connector 0; also where all of it is told later,
    when another transaction runs. 16-MV-02: clock-aligned ones are told without a transaction, too."""

    async def main() -> None:
        rig = Rig()
        await rig.station.set("SampledDataCtrlr.TxUpdatedMeasurands", REGISTER)
        start, _, reading, end = session_facts("tx-1", start_ms=60_000)
        aligned = replace(
            reading,
            trigger=Trigger.METER_VALUE_CLOCK,
            samples=(sample(SampleContext.CLOCK, 150_000, 3_000_000),),
        )
        facts = (
            MeterFact(1, sample(SampleContext.CLOCK, 0, 1_000_000)),
            start,
            reading,
            aligned,
            MeterFact(0, sample(SampleContext.CLOCK, 155_000, 9_000_000)),
            MeterFact(2, sample(SampleContext.CLOCK, 160_000, 1_000_000)),
            end,
            MeterFact(1, sample(SampleContext.CLOCK, 300_000, 4_000_000)),
            session_facts("tx-2", start_ms=600_000)[0],
        )
        if offline:
            await rig.station.append(*facts)
        async with rig.online():
            if not offline:
                for fact in facts:
                    await rig.station.append(fact)
                    await rig.drained()
            await rig.drained()
        assert told(rig) == [
            (1, None, "Sample.Clock", "00:00.000Z"),
            (1, 100, "Sample.Periodic", "02:00.000Z"),
            (1, 100, "Sample.Clock", "02:30.000Z"),
            (0, None, "Sample.Clock", "02:35.000Z"),
            (2, None, "Sample.Clock", "02:40.000Z"),
            (1, None, "Sample.Clock", "05:00.000Z"),
        ]

    run_virtual(main())


def test_16_mv_09_not_even_a_transaction_puts_its_id_on_connector_0() -> None:
    async def main() -> None:
        rig = Rig()
        start, _, reading, _ = session_facts("tx-1")
        await rig.station.append(start, replace(reading, evse=0))
        async with rig.online():
            await rig.drained()
        assert [call.payload.get("transactionId") for call in rig.csms.of("MeterValues")] == [None]

    run_virtual(main())


def test_16_mv_06_values_of_one_instant_go_together_and_several_instants_in_one_message() -> None:
    async def main() -> None:
        rig = Rig()
        start, _, reading, _ = session_facts("tx-1")
        first = sample(SampleContext.PERIODIC, 60_000, 2_000_000, current_ma=(1_000, 2_000, 3_000))
        second = sample(SampleContext.PERIODIC, 120_000, 3_000_000, current_ma=(4_000, 5_000, 6_000))
        await rig.station.append(start, replace(reading, samples=(first, second)))
        async with rig.online():
            await rig.drained()
        [call] = rig.csms.of("MeterValues")
        assert [instant(value) for value in call.payload["meterValue"]] == [
            ("2026-11-24T08:01:00.000Z", ["2000", "1", "2", "3"]),
            ("2026-11-24T08:02:00.000Z", ["3000", "4", "5", "6"]),
        ]

    run_virtual(main())


def instant(meter_value: dict[str, Any]) -> tuple[str, list[str]]:
    return meter_value["timestamp"], [value["value"] for value in meter_value["sampledValue"]]


@pytest.mark.parametrize("key", ["MeterValueSampleInterval", "ClockAlignedDataInterval"])
def test_16_mv_01_16_mv_02_an_interval_of_0_is_taken(key: str) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            for value in ("900", "0"):
                change = {"key": key, "value": value}
                assert await rig.csms.ask("ChangeConfiguration", change) == {"status": "Accepted"}
                [entry] = (await rig.csms.ask("GetConfiguration", {"key": [key]}))["configurationKey"]
                assert entry["value"] == value

    run_virtual(main())
