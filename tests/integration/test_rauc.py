"""The real RAUC service (1.8 or newer), on a bus of its own with two raw slots, driven by our engine and selector."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from agent.firmware.engines.rauc import RaucBundle, RaucEngine, RaucInstalled
from agent.firmware.engines.rauc_bus import RaucBus
from agent.firmware.engines.rauc_selector import RaucSelector
from agent.firmware.engines.rauc_spool import spool
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.ports import Progress
from agent.firmware.storage import FileStorage
from tests.support.rauc_bundles import Signer, make_bundle, make_revocation_list, make_signer
from tests.support.rauc_peer import RECORDED_REFUSAL, RECORDED_SUCCESS, Fail, Tell
from tests.support.rauc_service import Held, RaucService, private_bus, rauc_service, why_not

pytestmark = [pytest.mark.wire, pytest.mark.skipif(why_not() is not None, reason=f"RAUC: {why_not()}")]

SLOT_BYTES: Final = 1 << 20
DEADLINE_S: Final = 60.0
IMAGE: Final = random.Random(18).randbytes(200_000)  # nothing that squashfs could make small


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RaucService]:
    with rauc_service(tmp_path / "rauc", SLOT_BYTES) as service:
        yield service


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs.img"
    path.write_bytes(IMAGE)
    return path


def engine(service: RaucService) -> RaucEngine:
    return RaucEngine(RaucBus(service.address))


def selector(service: RaucService) -> RaucSelector:
    return RaucSelector(RaucBus(service.address), ("a", "b"), FileStorage(), service.folder / "evsed-record.json")


def nobody(progress: Progress) -> None:
    """Does not listen."""


def slot_begins(service: RaucService, index: int, length: int = len(IMAGE)) -> bytes:
    with service.slots[index].open("rb") as slot:
        return slot.read(length)


class FileSource:
    """A bundle where it is made."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self.size = len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


# ------------------------------------------------------------------------------------------------ a whole update


def test_an_update_from_source_to_good(service: RaucService, image: Path, tmp_path: Path) -> None:
    """Spooled, installed, activated by us and not by RAUC, booted, confirmed; every start keeps what is good."""
    chooser = selector(service)
    assert chooser.repair() == []
    assert chooser.state().booted == "a"
    made, spooled, digest = service.make_bundle(image), tmp_path / "update.raucb", sha256()
    spool(FileSource(made), spooled, FileStorage(), digest, 1 << 20, nobody)
    assert digest.digest() == sha256(made.read_bytes()).digest()
    chooser.block("b")
    told: list[Progress] = []
    assert engine(service).install(spooled, told.append) == RaucInstalled("rootfs.1", "")
    assert slot_begins(service, 1) == IMAGE
    done = [each.done_bytes for each in told]
    assert done == sorted(set(done))
    assert done[-1] == spooled.stat().st_size
    state = chooser.state()
    assert (state.primary, state.of("b").bootable) == ("a", False)
    chooser.activate("b", 3)
    assert service.boot_order() == ["B", "A"]
    assert (chooser.state().primary, chooser.state().of("b").good) == ("b", False)
    service.kill()
    with rauc_service(service.folder, SLOT_BYTES, booted="B", signer=service.signer) as rebooted:
        chooser = selector(rebooted)
        assert chooser.repair() == []
        assert chooser.state().on_trial
        chooser.confirm("b")
        state = chooser.state()
        assert (state.booted, state.primary, state.on_trial) == ("b", "b", False)
        rebooted.set_boot_state("B", "bad")  # many power cuts, each of which cost a try
        assert chooser.repair() == ["slot b had no tries left and got them back"]
        assert rebooted.boot_state("B") == "good"


def test_a_trial_that_fails(service: RaucService, image: Path) -> None:
    chooser = selector(service)
    engine(service).install(service.make_bundle(image), nobody)
    chooser.activate("b", 3)
    service.set_boot_state("B", "bad")  # what a boot loader does after the last try
    state = chooser.state()
    assert (state.booted, state.primary, state.on_trial, state.of("b").bootable) == ("a", "a", False, False)


def test_going_back_from_a_trial(service: RaucService, image: Path) -> None:
    engine(service).install(service.make_bundle(image), nobody)
    selector(service).activate("b", 3)
    service.kill()
    with rauc_service(service.folder, SLOT_BYTES, booted="B", signer=service.signer) as rebooted:
        selector(rebooted).revert("a")
        assert (rebooted.boot_state("A"), rebooted.boot_state("B")) == ("good", "bad")
        assert selector(rebooted).state().primary == "a"


def test_inspecting(service: RaucService, image: Path, tmp_path: Path) -> None:
    assert engine(service).inspect(service.make_bundle(image)) == RaucBundle("evsed-test", "2.0")
    foreign = make_bundle(tmp_path / "foreign.raucb", image, make_signer(tmp_path, "stranger"))
    try:
        assert engine(service).inspect(foreign) is None  # 1.8 does not say why
    except UpdateRefused as error:
        assert error.refusal is Refusal.CERTIFICATE


def test_a_rauc_that_activates_by_itself_is_reported(tmp_path: Path, image: Path) -> None:
    with rauc_service(tmp_path / "rauc", SLOT_BYTES, system={"activate-installed": "true"}) as service:
        installed = engine(service).install(service.make_bundle(image), nobody)
        assert installed.slot == "rootfs.1"
        assert "set activate-installed=false" in installed.warning
        assert selector(service).state().primary == "b"


def test_raucs_own_command_line(service: RaucService, image: Path) -> None:
    """As the benchmark uses it."""
    service.install(service.make_bundle(image))
    assert slot_begins(service, 1) == IMAGE


# ------------------------------------------------------------------------------------------------ refused bundles


def refusal_of(service: RaucService, bundle: Path) -> UpdateRefused:
    with pytest.raises(UpdateRefused) as refused:
        engine(service).install(bundle, nobody)
    assert selector(service).state().primary == "a"
    return refused.value


def test_what_is_wrong_with_a_bundle(service: RaucService, image: Path, tmp_path: Path) -> None:
    """One service sees them all, so that none of them leaves it unable to install a good one."""
    signer, stranger = service.signer, make_signer(tmp_path, "stranger")

    def bundle(name: str, signer: Signer = signer, **changes: str) -> Path:
        return make_bundle(tmp_path / f"{name}.raucb", image, signer, **changes)

    def file(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    good = service.make_bundle(image).read_bytes()
    corrupt = bytearray(good)
    corrupt[1000] ^= 1
    for path, refusal, words in (
        (bundle("foreign", stranger), Refusal.CERTIFICATE, "self-signed certificate"),
        (bundle("other", compatible="other"), Refusal.PRODUCT, "Expected 'evsed-test'"),
        (bundle("class", slot="appfs"), Refusal.UNSUPPORTED, "appfs"),
        (file("corrupt", bytes(corrupt)), Refusal.SIGNATURE, "verification fail"),
        (file("half", good[: len(good) // 2]), Refusal.MALFORMED, "Signature size"),
        (file("noise", os.urandom(50_000)), Refusal.MALFORMED, "Signature size"),
        (file("zeros", bytes(50_000)), Refusal.MALFORMED, "Signature size is 0"),
        (file("tiny", b"x"), Refusal.MALFORMED, "Invalid bundle format"),
    ):
        error = refusal_of(service, path)
        assert (path.name, error.refusal) == (path.name, refusal)
        assert words in error.why
    engine(service).install(file("good", good), nobody)
    assert slot_begins(service, 1) == IMAGE


@pytest.mark.parametrize(
    ("begins_in_days", "words"), [(-400, "certificate has expired"), (30, "certificate is not yet valid")]
)
def test_a_certificate_out_of_its_time(tmp_path: Path, image: Path, begins_in_days: int, words: str) -> None:
    begin = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=begins_in_days)
    signer = make_signer(tmp_path, "signer", not_before=begin, days=100)
    with rauc_service(tmp_path / "rauc", SLOT_BYTES, signer=signer) as service:
        bundle = make_bundle(tmp_path / "update.raucb", image, signer)
        error = refusal_of(service, bundle)
    assert error.refusal is Refusal.CERTIFICATE
    assert words in error.why
    assert "use-bundle-signing-time" in error.remedy


def test_a_revoked_certificate(tmp_path: Path, image: Path) -> None:
    signer = make_signer(tmp_path, "signer")
    bundle = make_bundle(tmp_path / "update.raucb", image, signer)
    keyring = {"path": str(make_revocation_list(tmp_path / "keyring.pem", signer)), "check-crl": "true"}
    with rauc_service(tmp_path / "rauc", SLOT_BYTES, keyring=keyring) as service:
        assert refusal_of(service, bundle).refusal is Refusal.REVOKED


def test_a_device_without_the_revocation_list_it_asks_for(tmp_path: Path, image: Path) -> None:
    with rauc_service(tmp_path / "rauc", SLOT_BYTES, keyring={"check-crl": "true"}) as service:
        bundle = service.make_bundle(image)
        with pytest.raises(SlotFailed, match="renew the revocation list"):
            engine(service).install(bundle, nobody)


def test_a_format_that_is_not_allowed(tmp_path: Path, image: Path) -> None:
    with rauc_service(tmp_path / "rauc", SLOT_BYTES, system={"bundle-formats": "verity"}) as service:
        assert refusal_of(service, service.make_bundle(image)).refusal is Refusal.UNSUPPORTED


def test_an_image_that_does_not_fit(tmp_path: Path) -> None:
    """A slot that cannot grow: a loop device over a file."""
    backing, image = tmp_path / "slot.img", tmp_path / "big.img"
    backing.write_bytes(bytes(SLOT_BYTES))
    image.write_bytes(bytes(2 * SLOT_BYTES))
    losetup = shutil.which("losetup", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")  # not on every user's path
    if losetup is None:
        pytest.skip("no losetup (package mount)")
    found = subprocess.run([losetup, "--find", "--show", backing], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"no loop device: {found.stderr}")
    device = Path(found.stdout.strip())
    try:
        with rauc_service(tmp_path / "rauc", SLOT_BYTES, slot_b=device) as service:
            assert refusal_of(service, service.make_bundle(image)).refusal is Refusal.TOO_LARGE
    finally:
        subprocess.run([losetup, "--detach", device], check=True)


def test_a_verity_bundle_needs_the_device_mapper(service: RaucService, image: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "verity.raucb", image, service.signer, format_="verity")
    if Path("/dev/mapper/control").exists():
        engine(service).install(bundle, nobody)
        assert slot_begins(service, 1) == IMAGE
    else:
        with pytest.raises(SlotFailed, match="CONFIG_DM_VERITY"):
            engine(service).install(bundle, nobody)


def test_a_file_that_is_not_there(service: RaucService, tmp_path: Path) -> None:
    """Gone between our look and RAUC's."""
    folder = tmp_path / "update.raucb"
    folder.mkdir()
    with pytest.raises(SlotFailed):
        engine(service).install(folder, nobody)


# ---------------------------------------------------------------------------------------- in the midst of an install


class InThread(AbstractContextManager["InThread"]):
    """An installation under way; ``failure`` is what it ended with."""

    def __init__(self, service: RaucService, bundle: Path) -> None:
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._install, args=(service, bundle))

    def _install(self, service: RaucService, bundle: Path) -> None:
        try:
            RaucEngine(RaucBus(service.address), silence_s=0.05, limit_s=DEADLINE_S).install(bundle, nobody)
        except Exception as error:
            self.failure = error

    def __enter__(self) -> InThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def test_a_service_that_is_busy(tmp_path: Path, image: Path) -> None:
    with Held(tmp_path / "held", SLOT_BYTES) as held:
        bundle = held.service.make_bundle(image)
        with InThread(held.service, bundle) as first:
            held.wait_until_begun()
            with pytest.raises(UpdateRefused) as refused:
                engine(held.service).install(bundle, nobody)
            assert refused.value.refusal is Refusal.BUSY
            with pytest.raises(SlotFailed, match="already processing"):
                selector(held.service).block("b")
            held.let_go()
        assert first.failure is None
        assert slot_begins(held.service, 1) == IMAGE


def test_a_service_that_is_killed(tmp_path: Path, image: Path) -> None:
    with Held(tmp_path / "held", SLOT_BYTES) as held:
        bundle = held.service.make_bundle(image)
        with InThread(held.service, bundle) as first:
            held.wait_until_begun()
            held.service.kill()
        assert isinstance(first.failure, SlotFailed)
        assert "the service ended while it installed" in first.failure.why


# ------------------------------------------------------------------------------------------------------- the service


def test_a_service_that_the_bus_starts(service: RaucService, tmp_path: Path) -> None:
    service.kill()
    services = tmp_path / "services"
    services.mkdir()
    command = f"/usr/bin/env rauc --conf={service.folder}/system.conf --override-boot-slot=A service"
    (services / "de.pengutronix.rauc.service").write_text(
        f"[D-BUS Service]\nName=de.pengutronix.rauc\nExec={command}\n"
    )
    with private_bus(tmp_path / "bus", services) as address:
        chooser = RaucSelector(RaucBus(address), ("a", "b"), FileStorage(), tmp_path / "record")
        assert chooser.state().booted == "a"


def test_a_boot_loader_that_nobody_can_ask(tmp_path: Path) -> None:
    with (
        rauc_service(tmp_path / "rauc", SLOT_BYTES, system={"bootloader": "noop"}) as service,
        pytest.raises(SlotFailed, match="'noop' not supported"),
    ):
        selector(service).state()


def test_a_boot_script_that_fails(service: RaucService) -> None:
    """RAUC goes on telling what it knew before, but not which slot is the next."""
    (service.folder / "boot" / "boot.sh").write_text("#!/bin/sh\nexit 5\n")
    with pytest.raises(SlotFailed, match="exit code 5"):
        selector(service).state()


def test_no_slot_left(service: RaucService) -> None:
    for bootname in "AB":
        service.set_boot_state(bootname, "bad")
    assert selector(service).state().primary is None


def test_without_a_status_file_a_trial_is_one_all_the_same(tmp_path: Path, image: Path) -> None:
    """RAUC then forgets its activations when the device reboots."""
    per_slot = {"statusfile": "per-slot"}
    with rauc_service(tmp_path / "rauc", SLOT_BYTES, system=per_slot) as service:
        engine(service).install(service.make_bundle(image), nobody)
        selector(service).activate("b", 3)
    with rauc_service(tmp_path / "rauc", SLOT_BYTES, system=per_slot, booted="B", signer=service.signer) as service:
        assert selector(service).state().on_trial
        selector(service).confirm("b")
        assert not selector(service).state().on_trial


def test_the_peer_of_the_unit_tests_speaks_like_this_service(service: RaucService, image: Path, tmp_path: Path) -> None:
    """Order and depth of the steps; a newer RAUC may tell finer percentages in between."""
    if _version() != "1.8":
        pytest.skip("the recordings are of RAUC 1.8")
    foreign = make_bundle(tmp_path / "foreign.raucb", image, make_signer(tmp_path, "stranger"))
    assert _told(service, service.make_bundle(image)) == [step for step in RECORDED_SUCCESS if isinstance(step, Tell)]
    assert _told(service, foreign) == [step for step in RECORDED_REFUSAL if isinstance(step, Tell)]
    with RaucBus(service.address).session() as rauc:
        assert Fail(rauc.last_error()) in RECORDED_REFUSAL


def _version() -> str:
    return subprocess.run(["rauc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]


def _told(service: RaucService, bundle: Path) -> list[Tell]:
    """All that this installation says of its progress."""
    from collections import deque

    from jeepney import DBusAddress, MatchRule, message_bus, new_method_call  # type: ignore[import-untyped]
    from jeepney.io.blocking import open_dbus_connection  # type: ignore[import-untyped]

    told: list[Tell] = []
    with open_dbus_connection(service.address) as connection:
        rule = MatchRule(type="signal", path="/")
        connection.send_and_get_reply(message_bus.AddMatch(rule), timeout=20)
        rauc = DBusAddress("/", "de.pengutronix.rauc", "de.pengutronix.rauc.Installer")
        signals: deque[object] = deque()
        with connection.filter(rule, queue=signals):
            connection.send(new_method_call(rauc, "InstallBundle", "sa{sv}", (str(bundle), {})))
            while True:
                body = connection.recv_until_filtered(signals, timeout=20).body
                if len(body) == 1:  # Completed
                    return told
                if "Progress" in body[1]:
                    told.append(Tell(*body[1]["Progress"][1]))
