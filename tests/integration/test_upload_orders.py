"""What the gateway does when the CSMS wants a log: the file, its tries, its end; to a real server."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.model import Config
from agent.core.facts import BootFact, SecurityFact
from agent.ipc.port import StationLost, StationStatus
from agent.ocpp.log_requests import LogKind, LogRequest, LogUploads, UploadStatus
from agent.uploader import LogUploader
from tests.support.fake_station import T0_MS, FakeStation, session_facts
from tests.support.upload_server import Server, http_server

pytestmark = pytest.mark.wire

CONFIG = """
[station]
identity = "CP-1"
vendor = "Example"
model = "Wallbox"
serial = "S-1"
data_dir = "{folder}/data"
run_dir = "{folder}/run"

[auth]
free = true

[log]
upload_schemes = ["https", "http"]
{more}

[[evse]]
id = 1
board = "mcu_ac"
max_current_ma = 16_000
connector_type = "cType2"
cable = "fixed"
pilot = {{ port = "/dev/ttyS1" }}
meter = {{ port = "/dev/ttyUSB0" }}
"""


def configured(folder: Path, more: str = "") -> Config:
    (folder / "evsed.toml").write_text(CONFIG.format(folder=folder, more=more))
    return load(folder / "evsed.toml")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


@pytest.fixture
def web() -> Iterator[Server]:
    with http_server() as server:
        yield server


def brought(config: Config, station: FakeStation, request: LogRequest) -> UploadStatus:
    return asyncio.run(LogUploader(config, station).bring(request, "f.log"))


async def eventful_station() -> FakeStation:
    station = FakeStation()
    await station.append(SecurityFact("StartupOfTheDevice", "PowerUp"), *session_facts("tx-1"))
    await station.append(BootFact("PowerUp", "0.1.0"), SecurityFact("InvalidMessages", "3: a\nb\x1b[2J"))
    await station.append(SecurityFact("SettingSystemTime", ""), clock_offset_ms=T0_MS + 60_000, trusted=False)
    return station


def test_the_security_log_is_the_ledgers_security_events(config: Config, web: Server) -> None:
    station = asyncio.run(eventful_station())
    assert brought(config, station, LogRequest(LogKind.SECURITY, 7, f"{web.url}/in/")) is UploadStatus.UPLOADED
    (asked,) = web.asked
    assert (asked.target, asked.headers["content-type"]) == ("/in/f.log", "text/plain; charset=utf-8")
    assert asked.body.decode() == (
        "2026-11-24T08:00:00.000Z StartupOfTheDevice PowerUp\n"
        "2026-11-24T08:00:00.000Z InvalidMessages 3: a b [2J\n"
        "2026-11-24T08:01:00.000Z (clock not set) SettingSystemTime\n"
    )


def test_the_security_log_is_of_the_time_that_is_wanted(config: Config, web: Server) -> None:
    station = asyncio.run(eventful_station())
    brought(config, station, LogRequest(LogKind.SECURITY, 7, web.url, T0_MS + 1, T0_MS + 60_000))
    assert web.asked[0].body.decode().splitlines() == ["2026-11-24T08:01:00.000Z (clock not set) SettingSystemTime"]


def test_a_long_security_log_keeps_the_newest(config: Config, web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.uploader.SECURITY_LINES_MAX", 250)

    async def station() -> FakeStation:
        made = FakeStation()
        await made.append(*(SecurityFact("InvalidMessages", str(number)) for number in range(1_000)))
        return made

    brought(config, asyncio.run(station()), LogRequest(LogKind.SECURITY, 7, web.url))
    lines = web.asked[0].body.decode().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == [str(number) for number in range(750, 1_000)]


def test_diagnostics_are_an_archive(config: Config, web: Server) -> None:
    station = asyncio.run(eventful_station())
    assert brought(config, station, LogRequest(LogKind.DIAGNOSTICS, None, web.url)) is UploadStatus.UPLOADED
    (asked,) = web.asked
    assert asked.headers["content-type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(asked.body), mode="r:gz") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        about = json.load(manifest)["about"]
    assert (about["station"], about["made"]) == ("CP-1", "2026-11-24T08:00:00.000Z")


class LostStation(FakeStation):
    """Went away after the order was accepted."""

    async def status(self) -> StationStatus:
        raise StationLost("station went away")


def test_diagnostics_of_a_station_that_went_away_arrive_all_the_same(config: Config, web: Server) -> None:
    assert brought(config, LostStation(), LogRequest(LogKind.DIAGNOSTICS, 7, web.url)) is UploadStatus.UPLOADED
    assert len(web.asked[0].body) > 500


@pytest.mark.parametrize(
    ("statuses", "tries", "end", "asked"),
    [
        ([503, 500], 3, UploadStatus.UPLOADED, 3),
        ([503, 503, 503], 2, UploadStatus.FAILED, 2),
        ([403], 5, UploadStatus.PERMISSION_DENIED, 1),
        ([400], 5, UploadStatus.BAD_MESSAGE, 1),
        ([405, 405], 5, UploadStatus.NOT_SUPPORTED, 2),  # PUT and POST
        ([404], 5, UploadStatus.FAILED, 1),
    ],
)
def test_a_try_is_repeated_while_another_may_succeed(
    config: Config, web: Server, statuses: list[int], tries: int, end: UploadStatus, asked: int
) -> None:
    web.statuses = statuses
    request = LogRequest(LogKind.SECURITY, 7, web.url, tries=tries, retry_interval_s=0)
    assert brought(config, FakeStation(), request) is end
    assert len(web.asked) == asked


def test_the_configuration_says_post(tmp_path: Path, web: Server) -> None:
    config = configured(tmp_path, 'upload_method = "post"')
    brought(config, FakeStation(), LogRequest(LogKind.SECURITY, 7, web.url))
    assert web.asked[0].method == "POST"


@pytest.mark.parametrize("url", ["ftp://h/", "sftp://h/", "file:///tmp/", "/tmp/x", "http://"])
def test_only_what_is_configured_is_gone_to(config: Config, url: str) -> None:
    assert LogUploader(config, FakeStation()).refusal(url)
    assert LogUploader(config, FakeStation()).refusal("https://h/") == ""


def test_one_that_gives_place_ends_at_once(config: Config, web: Server) -> None:
    """The server takes the file and then says nothing: without an end from our side this would last a minute."""
    web.silent = True

    async def main() -> None:
        uploads = LogUploads(lambda: LogUploader(config, FakeStation()))
        with http_server() as other:
            uploads.start(LogRequest(LogKind.SECURITY, 1, web.url), "f.log")
            async with asyncio.timeout(10):
                while not any(each.name.startswith("asyncio_") for each in threading.enumerate()):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                uploads.start(LogRequest(LogKind.SECURITY, 2, other.url), "f.log")
                while uploads.under_way is not None:
                    await asyncio.sleep(0.01)
            assert len(other.asked) == 1
        told = [(report.request.request_id, report.status.value) for report in uploads._untold]
        assert told == [(1, "Uploading"), (1, "AcceptedCanceled"), (2, "Uploading"), (2, "Uploaded")]

    asyncio.run(main())
