"""Real processes: what a driver pays, with prices that change, limits that end a session, and a meter that signs.

Everything here runs on real ptys, sockets and processes, in real time.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.billing import verdicts
from agent.billing.read import Receipt
from agent.billing.read import parse as parse_receipt
from agent.core.status import ConnectorState
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ocmf.public_key import parse_key
from agent.security.keys import load_or_create_key
from agent.sim.csms import SimCsms
from agent.sim.stage import TARIFF, Stage
from agent.sim.story import Story
from tests.integration.test_processes import all_told, assert_proved, is_state, on_stage, until

pytestmark = pytest.mark.wire


async def charge(stage: Stage, story: Story) -> None:
    await until(story._online)
    await stage.order(1, "plug")
    await until(lambda: is_state(stage, 1, ConnectorState.PREPARING))
    await story.swipe(1)
    await until(lambda: is_state(stage, 1, ConnectorState.CHARGING))


async def leave(stage: Stage) -> None:
    await stage.order(1, "unplug")
    await until(lambda: is_state(stage, 1, ConnectorState.AVAILABLE))
    await until(lambda: all_told(stage))


def rows_of(stage: Stage, *kinds: str) -> list[Row]:
    with LedgerReader(stage.folder / "data" / "ledger.sqlite") as reader:
        return reader.rows(0, 1_000, kinds=kinds)


def only_receipt(stage: Stage) -> Receipt:
    (row,) = rows_of(stage, "receipt")
    return parse_receipt(row.body)


def test_a_meter_that_signs_gives_the_record_and_ours_is_not_made(tmp_path: Path) -> None:
    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await charge(stage, story)
        await leave(stage)
        (signed,) = rows_of(stage, "signed")
        assert b'"MS":"BY20000001"' in signed.body
        assert b'"UH"' not in signed.body, "it is not one of ours"
        receipt = only_receipt(stage)
        assert receipt.records == (signed.body.decode(),)
        with LedgerReader(stage.folder / "data" / "ledger.sqlite") as reader:
            keys = [parse_key(key.public_der) for key in reader.signing_keys()]
        assert len(keys) == 2
        judged = {each.name: each.state for each in verdicts.verify(receipt, keys[0])}
        assert judged["records"] is verdicts.State.GOOD
        assert_proved(stage, 1)

    on_stage(tmp_path, "2.0.1", ("mcu_ac",), scene, meter_map="carlo_gavazzi_em580")


def test_a_spent_credit_ends_the_session_and_no_more_is_billed(tmp_path: Path) -> None:
    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await charge(stage, story)
        station = await stage.station()
        tx_id = (await station.status()).evses[0].tx_id
        assert tx_id is not None
        assert await station.limit_transaction(tx_id, "0.62", None, None) == "Accepted"
        await station.close()
        await until(lambda: is_state(stage, 1, ConnectorState.FINISHING))
        await leave(stage)
        receipt = only_receipt(stage)
        assert receipt.facts.stop_reason == "LocalOutOfCredit"
        assert receipt.bill is not None
        assert receipt.bill.total_incl <= 62
        (booked,) = csms.book.transactions.values()
        assert booked.reason == "LocalOutOfCredit"
        assert_proved(stage, 1)

    on_stage(tmp_path, "2.0.1", ("mcu_ac",), scene)


def test_a_new_price_holds_from_its_instant_and_changes_no_past(tmp_path: Path) -> None:
    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await charge(stage, story)
        dearer = TARIFF | {"tariffId": "demo-2", "energy": {"prices": [{"priceKwh": 4.5}]}}
        station = await stage.station()
        tx_id = (await station.status()).evses[0].tx_id
        assert tx_id is not None
        assert await station.change_tariff(tx_id, json.dumps(dearer)) == "Accepted"
        in_francs = json.dumps(dearer | {"tariffId": "demo-3", "currency": "CHF"})
        assert await station.change_tariff(tx_id, in_francs) == "NoCurrencyChange"
        broken = await station.change_tariff(tx_id, '{"tariffId": "x"}')
        assert broken.startswith("Rejected: ")
        assert "currency" in broken
        await station.close()
        await leave(stage)
        receipt = only_receipt(stage)
        assert [each.tariff_id for each in receipt.facts.tariffs] == ["demo-1", "demo-2"]
        assert receipt.usage is not None
        assert [period.tariff for period in receipt.usage.periods][:1] == [0]
        assert {period.tariff for period in receipt.usage.periods} == {0, 1}
        assert_proved(stage, 1)

    on_stage(tmp_path, "1.6", ("mcu_ac",), scene)


def test_a_damaged_ledger_is_kept_and_charging_waits_for_a_person(tmp_path: Path) -> None:
    async def main() -> None:
        csms = SimCsms("2.0.1")
        stage = Stage(tmp_path, await csms.start(), sample_s=1, boards=("mcu_ac",))
        stage.lay_out()
        stage.config_file.write_text(f'{stage.config_file.read_text()}\n[metering]\nafter_damage = "refuse"\n')
        story = Story(stage, csms, lambda _: None, pace_s=1.0)
        try:
            await stage.start()
            await charge(stage, story)
            await leave(stage)
            await stage.stop()
            _spoil(tmp_path / "data" / "ledger.sqlite")
            (stage.run_dir / "bench.sock").unlink(missing_ok=True)
            await stage.start()
            await until(story._online)
            status = await stage.status()
            assert status is not None
            assert "ledger.sqlite.damaged-1" in status.alarm
            await stage.order(1, "plug")
            await until(lambda: is_state(stage, 1, ConnectorState.UNAVAILABLE))
            assert await story.swipe(1) == "not available now"
            station = await stage.station()
            assert [part.code for part in await station.health() if part.code] == ["ledger_damaged"]
            assert await station.acknowledge_damage()
            assert [part.code for part in await station.health() if part.code] == []
            await station.close()
            await story.swipe(1)
            await until(lambda: is_state(stage, 1, ConnectorState.CHARGING))
            await leave(stage)
            assert_proved(stage, 1)
            (genesis,) = rows_of(stage, "genesis")
            assert json.loads(genesis.body)["previous"]["file"] == "ledger.sqlite.damaged-1"
        finally:
            await stage.stop()
            await csms.stop()

    asyncio.run(asyncio.wait_for(main(), 180))


def test_a_key_that_others_may_read_stops_the_start_with_words_for_a_person(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "ws://127.0.0.1:9", boards=("mcu_ac",))
    stage.lay_out()
    load_or_create_key(_made(tmp_path / "data") / "metering.key")
    (tmp_path / "data" / "metering.key").chmod(0o644)
    command = [sys.executable, "-m", "agent.cli", "station", "--config", str(stage.config_file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 78, ended.stderr
    assert "metering.key" in ended.stderr
    assert "0600" in ended.stderr
    assert "Traceback" not in ended.stderr


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _spoil(ledger: Path) -> None:
    """Change one letter of what a driver was charged."""
    data = bytearray(ledger.read_bytes())
    place = data.index(b'"total_cost":"') + len(b'"total_cost":"')
    data[place] ^= 1
    ledger.write_bytes(data)
