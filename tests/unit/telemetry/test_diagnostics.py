"""The diagnostics archive: what is in it, what is never in it, and that nothing can keep it from being made."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.config.load import load
from agent.config.model import Config
from agent.core.facts import (
    EventFact,
    EventTrigger,
    LogEntry,
    LogFact,
    MonitorOrigin,
    ReceiptFact,
    SecurityFact,
    SignedFact,
    Token,
    VariableName,
)
from agent.ipc.port import StationLost, StationStatus
from agent.telemetry.archive import Manifest
from agent.telemetry.diagnostics import Wanted, collect, plain_configuration
from agent.telemetry.logs import log_file
from agent.telemetry.ring_file import RingFile
from tests.support.fake_station import T0_MS, FakeStation, session_facts

PASSWORD = "hunter2-hunter2-hunter2"
SECRETS = (
    *(PASSWORD, "04A2B3C4D5E6F7", "PRICELESS-TOKEN", "a whole record", "a whole receipt", "s3cr3t"),
    *("MASTERPASS4711", "a-newer-password"),
)

CONFIG = """
[station]
identity = "CP-1"
vendor = "Example"
model = "Wallbox"
serial = "S-1"
data_dir = "{folder}/data"
run_dir = "{folder}/run"

[csms]
url = "ws://csms.example/ocpp"
security_profile = 1
password_file = "{folder}/csms.password"

[settings]
"SecurityCtrlr.OrganizationName" = "Example"
"AuthCtrlr.MasterPassGroupId" = "PRICELESS-TOKEN"

[[price.assign]]
token = "PRICELESS-TOKEN"
max_energy_wh = 100

[[evse]]
id = 1
board = "mcu_ac"
max_current_ma = 16_000
connector_type = "cType2"
cable = "fixed"
pilot = {{ port = "/dev/ttyS1" }}
meter = {{ port = "/dev/ttyUSB0" }}

[[token]]
id = "04A2B3C4D5E6F7"
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "csms.password").write_text(PASSWORD)
    (tmp_path / "evsed.toml").write_text(CONFIG.format(folder=tmp_path))
    return load(tmp_path / "evsed.toml")


Made = tuple[dict[str, bytes], Manifest]


def made(config: Config, station: FakeStation | None, wanted: Wanted | None = None) -> Made:
    file = io.BytesIO()
    manifest = asyncio.run(collect(file, config, station, T0_MS, wanted))
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:gz") as tar:
        found = {each.name: opened.read() for each in tar if (opened := tar.extractfile(each)) is not None}
    return found, manifest


def rows(found: dict[str, bytes], name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found[name].splitlines()]


async def busy_station() -> FakeStation:
    station = FakeStation()
    await station.append(
        *session_facts("tx-1"),
        changed("AuthCtrlr.MasterPassGroupId", "PRICELESS-TOKEN", "MASTERPASS4711"),
        changed("SecurityCtrlr.BasicAuthPassword", PASSWORD, "a-newer-password"),
        changed("TxCtrlr.EVConnectionTimeOut", "60", "120"),
        EventFact(
            VariableName("AuthCtrlr", "MasterPassGroupId"),
            *(EventTrigger.DELTA, 1, MonitorOrigin.CUSTOM, 5, "MASTERPASS4711"),
        ),
        SignedFact("tx-1", 1, "OCMF|a whole record"),
        ReceiptFact("tx-1", 1, "a whole receipt"),
        SecurityFact("InvalidMessages", "from wss://user:s3cr3t@csms.example/"),
    )
    station.report_rows["FullInventory"] = [
        _variable("AuthCtrlr", "MasterPassGroupId", "PRICELESS-TOKEN"),
        _variable("SecurityCtrlr", "BasicAuthPassword", PASSWORD),
        _variable("TxCtrlr", "EVConnectionTimeOut", "120"),
    ]
    return station


def changed(setting: str, before: str, after: str) -> LogFact:
    details = (("setting", setting), ("before", before), ("after", after), ("by", "local"))
    return LogFact(LogEntry.SETTING_CHANGED, details=details)


def _variable(component: str, variable: str, value: str) -> dict[str, Any]:
    return {
        "component": {"name": component},
        "variable": {"name": variable},
        "variableAttribute": [{"type": "Actual", "value": value}],
    }


def test_everything_is_there_and_no_secret_is(config: Config) -> None:
    logs = RingFile(log_file(config.station.log_folder("station"), "station"))
    logs.append('{"timestamp": "2026-11-24T08:00:00Z", "event": "meter lost"}')
    found, manifest = made(config, asyncio.run(busy_station()))
    assert {
        "status.json",
        "health.json",
        "statistics.json",
        "ledger/progress.json",
        "ledger/rows.jsonl",
        "settings.json",
        "configuration.json",
        "logs/station.jsonl",
        "system/versions.json",
        "system/disks.json",
        "system/meminfo.txt",
        "manifest.json",
    } <= found.keys()
    assert rows(found, "logs/station.jsonl")[0]["event"] == "meter lost"
    assert json.loads(found["system/versions.json"])["packages"]["structlog"]
    everything = b"\n".join(found.values()).decode()
    assert [secret for secret in SECRETS if secret in everything] == []
    missing = {each.name: each.why for each in manifest.missing}
    assert missing["installer.json"] == "this station is configured without updates"
    assert "no lines of that time" in missing["logs/gateway.jsonl"]


def test_what_is_masked_can_still_be_recognised(config: Config) -> None:
    found, _ = made(config, asyncio.run(busy_station()))
    first, *_rest, pass_group, password, timeout, event, signed, receipt, security = rows(found, "ledger/rows.jsonl")
    assert first["fact"]["token"] == {"id_token": "***E6F7", "token_type": "ISO14443"}
    hidden = [["before", "***"], ["after", "***"], ["by", "local"]]
    assert pass_group["fact"]["details"] == [["setting", "AuthCtrlr.MasterPassGroupId"], *hidden]
    assert password["fact"]["details"][1:] == hidden
    assert timeout["fact"]["details"][1:3] == [["before", "60"], ["after", "120"]]
    assert event["fact"]["value"] == "***"
    assert signed["fact"] == {"tx_id": "tx-1", "evse": 1, "chars": 19}
    assert receipt["fact"] == {"tx_id": "tx-1", "evse": 1, "chars": 15}
    assert security["fact"]["tech_info"] == "from wss://***@csms.example/"
    settings = json.loads(found["settings.json"])
    assert [each["variableAttribute"] for each in settings[:2]] == ["***", "***"]
    assert settings[2]["variableAttribute"][0]["value"] == "120"
    plain = plain_configuration(config)
    assert plain["token"][0]["id"] == "***E6F7" and plain["price"]["assign"][0]["token"] == "***OKEN"
    assert plain["settings"] == {
        "SecurityCtrlr.OrganizationName": "Example",
        "AuthCtrlr.MasterPassGroupId": "***OKEN",
    }
    assert plain["csms"]["password_file"] == "***" and plain["csms"]["url"] == "ws://csms.example/ocpp"
    assert json.loads(found["configuration.json"]) == plain


def test_a_station_that_is_away_is_said_so_part_by_part(config: Config) -> None:
    found, manifest = made(config, None)
    assert {"configuration.json", "system/versions.json"} <= found.keys()
    missing = {each.name: each.why for each in manifest.missing}
    assert missing["health.json"] == missing["ledger/rows.jsonl"] == "the station does not answer"


class Broken(FakeStation):
    """Fails in a way of its own at each question."""

    async def status(self) -> StationStatus:
        raise StationLost("station went away")

    async def progress(self) -> Any:
        raise ValueError("nobody thought of this")

    async def report(self, base: str) -> list[dict[str, Any]] | None:
        await asyncio.sleep(3600)
        return None


def test_a_part_that_fails_or_hangs_takes_no_other_with_it(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.telemetry.diagnostics.PART_MAX_S", 0.05)
    monkeypatch.setattr("agent.telemetry.device_facts.journal", lambda: 1 // 0)
    found, manifest = made(config, Broken())
    missing = {each.name: each.why for each in manifest.missing}
    assert missing["status.json"] == "StationLost: station went away"
    assert missing["ledger/progress.json"] == "ValueError: nobody thought of this"
    assert missing["settings.json"] == "not there within 0 s"
    assert missing["system/journal.txt"].startswith("ZeroDivisionError")
    assert "statistics.json" in found


def test_log_lines_are_those_of_the_time_that_is_wanted(config: Config) -> None:
    logs = RingFile(log_file(config.station.log_folder("gateway"), "trace"))
    for second in range(5):
        logs.append(json.dumps({"timestamp": f"2026-11-24T08:00:0{second}.500Z", "second": second}))
    logs.append("a line without a time")
    found, manifest = made(config, None, Wanted(T0_MS + 1_500, T0_MS + 3_500))
    lines = found["logs/trace.jsonl"].decode().splitlines()
    assert [json.loads(line)["second"] for line in lines[:-1]] == [1, 2, 3] and lines[-1] == "a line without a time"
    assert manifest.about["log_lines_from"] == "2026-11-24T08:00:01.500Z"


def test_logs_give_way_before_anything_else(config: Config) -> None:
    logs = RingFile(log_file(config.station.log_folder("station"), "station"))
    for number in range(4_000):
        logs.append(json.dumps({"number": number, "noise": f"{hash(str(number)):x}" * 4}))
    found, manifest = made(config, FakeStation(), Wanted(limit_bytes=60_000))
    (cut,) = (each for each in manifest.members if each.name == "logs/station.jsonl")
    assert cut.cut_bytes > 0
    assert rows(found, "logs/station.jsonl")[-1]["number"] == 3_999
    assert {"status.json", "configuration.json", "manifest.json"} <= found.keys()


def test_tokens_in_the_status_are_masked(config: Config) -> None:
    from tests.conformance.v201.rig import _evse_view

    class Charging(FakeStation):
        async def status(self) -> StationStatus:
            view = replace(_evse_view(1, "tx-1"), token=Token("04A2B3C4D5E6F7"))
            return replace(await super().status(), evses=(view,))

    found, _ = made(config, Charging())
    assert "***E6F7" in found["status.json"].decode() and "04A2" not in found["status.json"].decode()
