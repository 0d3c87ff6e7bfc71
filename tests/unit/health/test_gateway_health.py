"""What the gateway tells of link, certificates and its process; the station is a notebook, the files are real."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.config.model import CsmsConfig
from agent.gateway_health import (
    CERTIFICATES_EVERY_MS,
    DOWN_FOR_LONG_MS,
    LOOK_EVERY_S,
    MEMORY_HIGH_BYTES,
    UNREGISTERED_LOOK_EVERY_S,
    GatewayHealth,
)
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.statistics import ProcessStatistics
from agent.ocpp.link import LinkPhase, LinkState
from agent.ocpp.link_failure import FailureKind, LinkFailure
from agent.ocpp.version import Version
from agent.sim.virtual_time import run_virtual
from tests.support.fake_station import FakeStation

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
UP = LinkState(LinkPhase.CONNECTED, Version.V201)
TRYING = LinkState(LinkPhase.CONNECTING)
PLAIN = CsmsConfig(url="ws://csms.example.com/ocpp")


def down(kind: FailureKind = FailureKind.UNREACHABLE) -> LinkState:
    return LinkState(LinkPhase.WAITING, failure=LinkFailure(kind, "in the failure's words"))


@dataclass
class Bench:
    """A gateway's health that reports to a notebook, in virtual time."""

    csms: CsmsConfig = PLAIN
    registration: str = "Accepted"
    process: ProcessStatistics = field(default_factory=ProcessStatistics)
    reports: list[dict[str, str]] = field(default_factory=list)  # reason or code of each part, by its name
    station: FakeStation = field(default_factory=FakeStation)

    async def report_parts(self, process: str, parts: list[PartHealth]) -> None:
        assert process == "gateway"
        await self.station.report_parts(process, parts)
        self.reports.append({row.part.value: row.code or row.condition.value for row in parts})

    async def start(self) -> GatewayHealth:
        loop = asyncio.get_running_loop()
        health = GatewayHealth(self.csms, lambda: self.process, lambda: round(loop.time() * 1_000))
        self.task = loop.create_task(health.run(self, lambda: self.registration))  # type: ignore[arg-type]
        await asyncio.sleep(0.001)
        return health

    @property
    def link(self) -> str:
        return self.reports[-1]["csms_link"]

    def row(self, part: Part) -> PartHealth:
        return next(row for row in self.station.reported["gateway"] if row.part is part)


async def say(health: GatewayHealth, *states: LinkState) -> None:
    for state in states:
        health.link(state)
        await asyncio.sleep(0.001)


def test_without_files_there_are_no_certificates_and_a_link_that_is_up_is_well() -> None:
    async def play() -> None:
        bench = Bench()
        health = await bench.start()
        assert bench.reports == [{"csms_link": "unknown", "certificates": "absent"}]
        await say(health, TRYING, UP)
        assert bench.reports[1:] == [{"csms_link": "ok", "certificates": "absent"}]

    run_virtual(play())


CODES = {
    FailureKind.UNAUTHORIZED: "csms_refused",
    FailureKind.UNKNOWN_IDENTITY: "csms_refused",
    FailureKind.TLS_CERTIFICATE: "csms_mistrusted",
    FailureKind.TLS_VERSION: "csms_mistrusted",
    FailureKind.TLS_CIPHER: "csms_mistrusted",
    FailureKind.TLS: "csms_mistrusted",
}


@pytest.mark.parametrize("kind", FailureKind)
def test_how_a_failed_attempt_is_told_at_first_and_when_it_lasts(kind: FailureKind) -> None:
    async def play() -> None:
        bench = Bench()
        health = await bench.start()
        await say(health, TRYING, down(kind), TRYING)
        assert bench.link == CODES.get(kind, "unknown")
        assert bench.row(Part.CSMS_LINK).reason == "in the failure's words", "also while it is tried again"
        await asyncio.sleep(DOWN_FOR_LONG_MS / 1_000)
        assert bench.link == CODES.get(kind, "csms_link_down")
        await say(health, UP)
        assert bench.link == "ok"

    run_virtual(play())


def test_a_link_that_was_up_may_be_down_for_a_while() -> None:
    async def play() -> None:
        bench = Bench()
        health = await bench.start()
        await say(health, UP)
        await asyncio.sleep(10 * DOWN_FOR_LONG_MS / 1_000)
        await say(health, down())
        assert bench.link == "unknown"
        await asyncio.sleep(DOWN_FOR_LONG_MS / 1_000 - 1)
        assert bench.link == "unknown"
        await asyncio.sleep(1)
        assert bench.link == "csms_link_down"

    run_virtual(play())


def test_a_rejected_boot_is_seen_soon_and_forgotten_when_accepted() -> None:
    async def play() -> None:
        bench = Bench(registration="Pending")
        health = await bench.start()
        await say(health, UP)
        assert bench.link == "ok"
        bench.registration = "Rejected"
        await asyncio.sleep(UNREGISTERED_LOOK_EVERY_S)
        assert bench.link == "csms_boot_rejected"
        bench.registration = "Accepted"
        await asyncio.sleep(UNREGISTERED_LOOK_EVERY_S)
        assert bench.link == "ok"

    run_virtual(play())


def test_nothing_new_is_not_told_again() -> None:
    async def play() -> None:
        bench = Bench()
        health = await bench.start()
        await say(health, UP, UP)
        await asyncio.sleep(10 * LOOK_EVERY_S)
        assert len(bench.reports) == 2

    run_virtual(play())


def test_memory_that_the_process_takes() -> None:
    async def play() -> None:
        bench = Bench(process=ProcessStatistics(rss_bytes=MEMORY_HIGH_BYTES - 1))
        health = await bench.start()
        await say(health, UP)
        assert "processes" not in bench.reports[-1]
        bench.process = ProcessStatistics(rss_bytes=MEMORY_HIGH_BYTES)
        await asyncio.sleep(LOOK_EVERY_S)
        assert bench.reports[-1]["processes"] == "memory_high"

    run_virtual(play())


# --------------------------------------------------------------------------------------- certificates


def pem(*days: float) -> str:
    """Certificates that end so many days after ``NOW``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1_000))
        .not_valid_after(NOW + timedelta(days=each))
        .sign(key, hashes.SHA256())
        for each in days
    )
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in made)


def certificates(csms: CsmsConfig, wall: datetime = NOW, page: Path | None = None) -> list[tuple[str, str]]:
    """Code or condition and reason of what a gateway with these files tells first."""

    async def play() -> list[tuple[str, str]]:
        station = FakeStation()
        wall_ms = int(wall.timestamp() * 1_000)
        health = GatewayHealth(csms, ProcessStatistics, lambda: 1, lambda: wall_ms, page_certificate=page)
        task = asyncio.create_task(health.run(station, lambda: "Accepted"))
        async with asyncio.timeout(30):
            while not station.reported:
                await asyncio.sleep(0)
        task.cancel()
        rows = [row for row in station.reported["gateway"] if row.part is Part.CERTIFICATES]
        return [(row.code or row.condition.value, row.reason) for row in rows]

    return asyncio.run(play())


def wss(ca: Path | None = None, client: Path | None = None) -> CsmsConfig:
    return CsmsConfig(url="wss://csms.example.com", ca_file=ca, client_certificate_file=client)


@pytest.mark.parametrize(
    ("ca_days", "client_days", "told"),
    [
        ([100], [100], [("ok", "")]),
        ([30.01], [30.01], [("ok", "")]),
        ([100], [29.99], [("certificate_expiring", "client.pem, valid until 2026-12-24")]),
        ([10], [100], [("certificate_expiring", "ca.pem, valid until 2026-12-04")]),
        ([100], [0], [("certificate_expired", "client.pem, valid until 2026-11-24")]),
        ([-5, 100], [100], [("ok", "")]),  # an old root beside the new one
        ([100], [100, 5], [("certificate_expiring", "client.pem, valid until 2026-11-29")]),  # a chain
        (
            [-1],
            [-2],
            [("certificate_expired", "ca.pem, valid until 2026-11-23; client.pem, valid until 2026-11-22")],
        ),
    ],
)
def test_when_certificates_end(
    tmp_path: Path, ca_days: list[float], client_days: list[float], told: list[tuple[str, str]]
) -> None:
    ca, client = tmp_path / "ca.pem", tmp_path / "client.pem"
    ca.write_text(pem(*ca_days))
    client.write_text(pem(*client_days))
    assert certificates(wss(ca, client)) == told


def odd_version(pem: str) -> str:
    """Version 4, of which there is none; TLS takes it all the same."""
    der = ssl.PEM_cert_to_DER_cert(pem)
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1))


@pytest.mark.parametrize("content", [None, "", "no certificate", pem(100)[:200], odd_version(pem(100))])
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    ((code, reason),) = certificates(wss(ca))
    assert code == "certificate_unusable"
    assert reason.startswith("ca.pem: ")
    assert str(tmp_path) not in reason


def test_the_certificate_of_the_page_is_looked_at_without_a_secure_link_too(tmp_path: Path) -> None:
    page = tmp_path / "web.pem"
    page.write_text(pem(5))
    told = certificates(CsmsConfig(url="ws://csms.example.com"), page=page)
    assert told == [("certificate_expiring", "web.pem, valid until 2026-11-29")]


def test_authorities_are_looked_at_before_the_csms_moves_the_station_to_a_secure_address(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(pem(5))
    told = certificates(CsmsConfig(url="ws://csms.example.com", ca_file=ca))
    assert told == [("certificate_expiring", "ca.pem, valid until 2026-11-29")]


def test_an_authority_of_the_system_is_not_looked_at() -> None:
    assert certificates(wss()) == [("absent", "")]


def test_files_are_read_again_after_an_hour_and_not_before(tmp_path: Path) -> None:
    ca, at_ms = tmp_path / "ca.pem", 0
    ca.write_text(pem(100))

    async def play() -> None:
        station = FakeStation()
        health = GatewayHealth(wss(ca), ProcessStatistics, lambda: at_ms, lambda: int(NOW.timestamp() * 1_000))
        task = asyncio.create_task(health.run(station, lambda: "Accepted"))

        async def told(link: LinkState) -> str:
            before = station.reported.get("gateway")
            health.link(link)
            async with asyncio.timeout(30):
                while station.reported.get("gateway") is before:
                    await asyncio.sleep(0)
            rows = [row for row in station.reported["gateway"] if row.part is Part.CERTIFICATES]
            return rows[0].code or rows[0].condition.value

        nonlocal at_ms
        assert await told(UP) == Condition.OK
        ca.write_text(pem(1))
        at_ms = CERTIFICATES_EVERY_MS - 1
        assert await told(down()) == Condition.OK
        at_ms = CERTIFICATES_EVERY_MS
        assert await told(UP) == "certificate_expiring"
        task.cancel()

    asyncio.run(play())
