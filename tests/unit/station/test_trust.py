"""Roots of the CSMS: M03, M04, M05 and 16-SEC-09 at the station."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.config.catalogue import CERTIFICATE_ENTRIES, key
from agent.config.load import load
from agent.config.station_model import build_device_model
from agent.config.update import UpdateConfig
from agent.core.facts import SecurityFact
from agent.ipc.certificates import CertificateUse, DeleteStatus, InstalledCertificate, InstallStatus
from agent.ipc.port import News, SettingsChanged, TrustChanged
from agent.ledger.state import Namespace, Put, StateChange
from agent.security.roots import CertificateHash, HashAlgorithm, read_root
from agent.sim.virtual_time import run_virtual
from agent.station.trust import Trust
from tests.unit.firmware.bundle.pki import ROOT, VALID_FROM_MS, VALID_TO_MS, Authority, make_root

EXAMPLE = load(Path(__file__).parents[3] / "packaging" / "evsed.example.toml")
ENTRIES = "SecurityCtrlr.CertificateEntries"
CSMS, FIRMWARE = CertificateUse.CSMS_ROOT, CertificateUse.MANUFACTURER_ROOT
DELIVERED, OTHER = make_root("Delivered"), make_root("Other")


def hash_of(authority: Authority, algorithm: HashAlgorithm = HashAlgorithm.SHA256) -> CertificateHash:
    return read_root(authority.certificate_pem).hash(algorithm)


def fingerprint(authority: Authority) -> str:
    return read_root(authority.certificate_pem).fingerprint


@dataclass
class Bench:
    """A station's trust, with files of a configuration, and what it keeps over a restart."""

    folder: Path
    wall_ms: int | None = VALID_FROM_MS + 1
    kept: dict[str, str] = field(default_factory=dict)
    facts: list[SecurityFact] = field(default_factory=list)
    news: list[News] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "csms.pem").write_text(DELIVERED.certificate_pem)
        (self.folder / "firmware.pem").write_text(ROOT.certificate_pem)
        self.start()

    def start(self) -> None:
        csms, firmware = self.folder / "csms.pem", self.folder / "firmware.pem"
        assert EXAMPLE.csms is not None
        config = replace(
            EXAMPLE,
            csms=replace(EXAMPLE.csms, ca_file=csms),
            update=UpdateConfig(state_dir=Path(), compatible="x", roots=firmware),
        )
        self.model = build_device_model(config, stored={})
        self.trust = Trust(config, self.model, dict(self.kept), self, lambda: self.wall_ms, self.facts.append)

    @property
    def entries(self) -> int:
        return self.model.integer(key(ENTRIES))

    def publish(self, news: News) -> None:
        self.news.append(news)

    async def save(self, changes: Sequence[StateChange]) -> None:
        for change in changes:
            assert not isinstance(change, type(None)) and change.namespace is Namespace.CERTIFICATE
            if isinstance(change, Put):
                self.kept[change.key] = change.value
            else:
                del self.kept[change.key]  # type: ignore[union-attr]

    async def install(self, authority: Authority, use: CertificateUse = CSMS) -> tuple[InstallStatus, str]:
        answer = await self.trust.install(use, authority.certificate_pem)
        return answer.status, answer.reason

    async def delete(self, authority: Authority, in_use: str = "") -> tuple[DeleteStatus, str]:
        answer = await self.trust.delete(hash_of(authority), in_use)
        return answer.status, answer.reason


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scene()

    run_virtual(main())


def test_what_the_configuration_trusts_is_listed(bench: Bench) -> None:
    assert bench.trust.certificates() == [
        InstalledCertificate(CSMS, hash_of(DELIVERED)),
        InstalledCertificate(FIRMWARE, hash_of(ROOT)),
    ]
    assert bench.trust.pems == ()
    assert bench.entries == 0, "what was delivered takes no room of what may be installed"


def test_a_root_is_installed_told_and_there_after_a_restart(bench: Bench) -> None:
    async def scene() -> None:
        assert await bench.install(OTHER) == (InstallStatus.ACCEPTED, "")
        assert list(bench.kept) == [fingerprint(OTHER)]
        assert bench.facts == [
            SecurityFact("ReconfigurationOfSecurityParameters", "root certificate installed: CN=Other")
        ]
        assert bench.news == [TrustChanged((OTHER.certificate_pem,)), SettingsChanged({ENTRIES: "1"})]
        bench.start()
        assert bench.trust.pems == (OTHER.certificate_pem,)
        assert bench.trust.certificates()[-1] == InstalledCertificate(CSMS, hash_of(OTHER))
        assert bench.entries == 1

    play(scene)


@pytest.mark.parametrize("known", [DELIVERED, OTHER])
def test_what_is_trusted_already_is_accepted_and_changes_nothing(bench: Bench, known: Authority) -> None:
    async def scene() -> None:
        await bench.install(OTHER)
        bench.news.clear()
        assert await bench.install(known) == (InstallStatus.ACCEPTED, "")
        assert (bench.news, len(bench.kept), bench.entries) == ([], 1, 1)

    play(scene)


@pytest.mark.parametrize("use", [each for each in CertificateUse if each is not CSMS])
def test_only_roots_of_the_csms_are_taken(bench: Bench, use: CertificateUse) -> None:
    async def scene() -> None:
        status, reason = await bench.install(OTHER, use)
        assert (status, bench.kept, bench.news) == (InstallStatus.REJECTED, {}, [])
        assert ("firmware" if use is FIRMWARE else "ISO 15118") in reason

    play(scene)


@pytest.mark.parametrize(
    ("wall_ms", "answer"),
    [
        (VALID_TO_MS, (InstallStatus.REJECTED, "it has expired")),
        (VALID_FROM_MS - 1, (InstallStatus.REJECTED, "it is not valid yet")),
        (None, (InstallStatus.ACCEPTED, "")),
    ],
)
def test_a_root_must_be_in_time_as_far_as_the_time_is_known(
    bench: Bench, wall_ms: int | None, answer: tuple[InstallStatus, str]
) -> None:
    bench.wall_ms = wall_ms

    async def scene() -> None:
        assert await bench.install(OTHER) == answer

    play(scene)


def test_what_is_no_root_is_rejected(bench: Bench) -> None:
    async def scene() -> None:
        answer = await bench.trust.install(CSMS, "rubbish")
        assert answer.status is InstallStatus.REJECTED and "no PEM certificate" in answer.reason

    play(scene)


def test_there_is_a_limit(bench: Bench) -> None:
    """A distribution's whole bundle in the configuration takes nothing of it."""

    async def scene() -> None:
        bundle = "".join(make_root(f"Bundled {number}").certificate_pem for number in range(CERTIFICATE_ENTRIES + 1))
        (bench.folder / "csms.pem").write_text(bundle)
        for number in range(CERTIFICATE_ENTRIES):
            assert (await bench.install(make_root(f"Root {number}")))[0] is InstallStatus.ACCEPTED
        status, reason = await bench.install(OTHER)
        assert (status, bench.entries) == (InstallStatus.REJECTED, CERTIFICATE_ENTRIES)
        assert str(CERTIFICATE_ENTRIES) in reason
        bench.start()
        assert bench.entries == CERTIFICATE_ENTRIES

    play(scene)


@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
def test_what_was_installed_can_be_deleted(bench: Bench, algorithm: HashAlgorithm) -> None:
    async def scene() -> None:
        await bench.install(OTHER)
        bench.news.clear()
        answer = await bench.trust.delete(hash_of(OTHER, algorithm), in_use=fingerprint(DELIVERED))
        assert answer.status is DeleteStatus.ACCEPTED
        assert bench.kept == {}
        assert bench.news == [TrustChanged(()), SettingsChanged({ENTRIES: "0"})]
        assert bench.facts[-1].tech_info == "root certificate deleted: CN=Other"
        assert await bench.delete(OTHER) == (DeleteStatus.NOT_FOUND, "")

    play(scene)


def test_nothing_that_the_station_needs_can_be_deleted(bench: Bench) -> None:
    async def scene() -> None:
        await bench.install(OTHER)
        assert await bench.delete(OTHER, in_use=fingerprint(OTHER)) == (
            DeleteStatus.FAILED,
            "the present connection rests on it",
        )
        for own in (DELIVERED, ROOT):
            assert await bench.delete(own) == (DeleteStatus.FAILED, "it belongs to the station's configuration")
        assert len(bench.trust.certificates()) == 3

    play(scene)


def test_files_that_cannot_be_read_and_kept_text_that_is_damaged_take_nothing_else_away(bench: Bench) -> None:
    async def scene() -> None:
        await bench.install(OTHER)
        (bench.folder / "csms.pem").unlink()
        (bench.folder / "firmware.pem").write_bytes(b"\xff" * 300)
        bench.kept["damaged"] = "-----BEGIN CERTIFICATE-----\nAA"
        bench.start()
        assert bench.trust.certificates() == [InstalledCertificate(CSMS, hash_of(OTHER))]
        assert (await bench.delete(OTHER))[0] is DeleteStatus.ACCEPTED

    play(scene)
