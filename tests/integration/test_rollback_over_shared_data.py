"""An image on trial writes to the data partition, fails, and the image before comes back to what it finds there.
Real processes: station, gateway, boards, CSMS (ADR 29)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.ledger import schema
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import NewRow
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage
from agent.sim.story import Story
from tests.integration.test_processes import all_told, on_stage, until
from tests.support.newer_release import add_rows, take_next_schema

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_the_image_before_goes_on_over_what_the_newer_one_wrote(
    tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await until(lambda: all_told(stage))
        await stage.stop()
        (stage.run_dir / "bench.sock").unlink()
        ledger = tmp_path / "data" / "ledger.sqlite"
        take_next_schema(ledger, writable_from=schema.VERSION)
        with LedgerReader(ledger) as reader:
            newest_seq = reader.head().seq
        read = _row("security", event_type="StartupOfTheDevice", tech_info="", colour="red")
        add_rows(ledger, [read, _row("security", words=[]), _row("log", entry="magic", details=[])])
        logged_before = len((tmp_path / "run.log").read_text().splitlines())
        await stage.start()
        await until(lambda: all_told(stage))
        await story.play()
        assert csms.book.violations == []
        logged = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()[logged_before:]]
        assert [each["row"] for each in logged if "cannot be read" in each["event"]] == [
            newest_seq + 2,
            newest_seq + 3,
        ]
        assert not any("process ended" in each["event"] for each in logged)
        await stage.stop()
        assert main(["ledger", "verify", "--json", "--file", str(ledger)]) == 0
        assert json.loads(capsys.readouterr().out)["unread"] == 1, "it is no tampering"

    on_stage(tmp_path, version, ("mcu_ac", "openevse", "mcu_dc"), scene)


def _row(kind: str, **said: object) -> NewRow:
    body = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    return NewRow(kind, body, "boot-of-the-newer", 1_000, round(time.time() * 1_000), "I")
