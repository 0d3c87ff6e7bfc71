"""Logs, message trace and diagnostics of real processes; the commands that show them; orders of a real CSMS."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.config.load import load
from agent.core.status import ConnectorState
from agent.sim.csms import SimCsms
from agent.sim.stage import Stage
from agent.sim.story import Story
from agent.telemetry.logs import log_file
from agent.telemetry.ring_file import RingFile, RingReader, entries
from agent.telemetry.trace import FrameTrace
from tests.integration.test_processes import is_state, on_stage, until
from tests.support.upload_server import Server, http_server

pytestmark = pytest.mark.wire

TOKEN = "04A1B2C3D4E5F6"


def laid_out(folder: Path) -> Stage:
    stage = Stage(folder, "ws://127.0.0.1:9/ocpp", boards=("mcu_ac",))
    stage.lay_out()
    return stage


def trace_of(stage: Stage) -> RingFile:
    return RingFile(log_file(load(stage.config_file).station.log_folder("gateway"), "trace"))


# ------------------------------------------------------------------------------------------ evsed trace


def test_trace_shows_the_newest_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = laid_out(tmp_path)
    frames = FrameTrace(trace_of(stage), lambda: 1_795_507_200_120)
    for number in range(5):
        frames.note("out", f'[2,"{number}","Heartbeat",{{}}]')
        frames.note("in", f'[3,"{number}",{{"currentTime":"x"}}]')
    frames.note("in", '[2,"a","Reset",{"type":"Soft"}]')
    config = ["--config", str(stage.config_file)]
    assert main(["trace", "--last", "2", *config]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        '11-24 08:00:00.120 <- Heartbeat = 4 {"currentTime": "x"}',
        '11-24 08:00:00.120 <- Reset a {"type": "Soft"}',
    ]
    assert main(["trace", "--action", "heartbeat", "--json", *config]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 10 and {each["action"] for each in found} == {"Heartbeat"}
    assert main(["trace", "--last", "0", *config]) == 0
    assert capsys.readouterr().out == ""


def test_without_a_trace_it_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = laid_out(tmp_path)
    assert main(["trace", "--config", str(stage.config_file)]) == 1
    assert "no gateway has spoken to a CSMS" in capsys.readouterr().err


def test_following_goes_on_until_it_is_ended(tmp_path: Path) -> None:
    stage = laid_out(tmp_path)
    frames = FrameTrace(trace_of(stage))
    frames.note("out", '[2,"1","Heartbeat",{}]')
    command = [sys.executable, "-m", "agent.cli", "trace", "--follow", "--json", "--config", str(stage.config_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == "1"
        frames.note("out", '[2,"2","Heartbeat",{}]')
        assert json.loads(process.stdout.readline())["id"] == "2"
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 130
        finally:
            process.kill()


# ------------------------------------------------------------------------------------ evsed diagnostics


def test_diagnostics_work_while_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = laid_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["diagnostics", "--config", str(stage.config_file)]) == 0
    out = capsys.readouterr().out
    (archive,) = tmp_path.glob("evsed-DEMO-0001-diagnostics-*.tar.gz")
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert "configuration.json" in out and "the station does not answer" in out and archive.name in out


def test_diagnostics_to_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = laid_out(tmp_path)
    assert main(["diagnostics", "--out", str(tmp_path / "none" / "x"), "--config", str(stage.config_file)]) == 1
    assert "none/x" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- real processes


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_csms_gets_logs_of_a_charger_that_charges(
    tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def play(web: Server) -> Callable[[Stage, SimCsms, Story], Awaitable[None]]:
        async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
            await until(story._online)
            await stage.order(1, "plug")
            await until(lambda: is_state(stage, 1, ConnectorState.PREPARING))
            await story.swipe(1)
            await until(lambda: is_state(stage, 1, ConnectorState.CHARGING))
            await order_logs(csms, web, version)
            assert await is_state(stage, 1, ConnectorState.CHARGING)
            assert csms.book.violations == []
            command = ["diagnostics", "--json", "--out", str(tmp_path / "d.tar.gz"), "--config", str(stage.config_file)]
            assert await asyncio.to_thread(main, command) == 0

        return scene

    with http_server() as web:
        on_stage(tmp_path, version, ("mcu_ac",), play(web))
    manifest = json.loads(capsys.readouterr().out)
    names = {each["name"] for each in manifest["members"]}
    wanted = {"status.json", "health.json", "statistics.json", "ledger/rows.jsonl", "logs/trace.jsonl", "settings.json"}
    assert wanted | {"logs/station.jsonl", "logs/gateway.jsonl"} <= names, manifest["missing"]
    uploaded = archive_of(web.asked[0].body)
    assert wanted <= uploaded.keys()
    assert TOKEN not in "".join(uploaded.values())
    (start,) = [each for each in entries(uploaded["ledger/rows.jsonl"].splitlines()) if each["kind"] == "tx_started"]
    assert start["fact"]["token"]["id_token"].startswith("***")
    actions = {each["action"] for each in entries(uploaded["logs/trace.jsonl"].splitlines())}
    assert {"BootNotification", "GetDiagnostics" if version == "1.6" else "GetLog"} <= actions
    assert "StartupOfTheDevice" in web.asked[-1].body.decode()


async def order_logs(csms: SimCsms, web: Server, version: str) -> None:
    """The archive, then the security log; both arrive and are told."""
    if version == "1.6":
        answer = await csms.call("GetDiagnostics", location=f"{web.url}/in/")
        await told(csms, ("Uploading", None), ("Uploaded", None))
        name = answer.file_name
    else:
        answer = await csms.call("GetLog", log_type="DiagnosticsLog", request_id=7, log={"remote_location": web.url})
        await told(csms, ("Uploading", 7), ("Uploaded", 7))
        name = answer.filename
    assert web.asked[0].target.endswith(name) and name.endswith(".tar.gz")
    csms.book.uploads.clear()
    await csms.call("GetLog", log_type="SecurityLog", request_id=8, log={"remote_location": web.url})
    await told(csms, ("Uploading", 8), ("Uploaded", 8))


async def told(csms: SimCsms, *uploads: tuple[str, int | None]) -> None:
    async def is_told() -> bool:
        return csms.book.uploads == list(uploads)

    await until(is_told)


def archive_of(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return {each.name: opened.read().decode() for each in tar if (opened := tar.extractfile(each)) is not None}


def test_a_killed_gateway_goes_on_with_its_log(tmp_path: Path) -> None:
    from tests.integration.test_processes import kill

    async def scene(stage: Stage, csms: SimCsms, story: Story) -> None:
        await until(story._online)
        path = log_file(load(stage.config_file).station.log_folder("gateway"), "gateway")
        before = len(RingReader(path).last(1_000))
        assert before > 0
        await kill(stage, "gateway")
        began_s = time.monotonic()
        while not any(each["event"] == "station found" for each in entries(RingReader(path).last(1_000)[before:])):
            assert time.monotonic() - began_s < 30
            await asyncio.sleep(0.05)
        assert len(RingReader(path).last(1_000)) > before

    on_stage(tmp_path, "2.0.1", ("mcu_ac",), scene)
