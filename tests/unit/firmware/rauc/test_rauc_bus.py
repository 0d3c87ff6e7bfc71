"""No bus, no service, no answer, no life: each is an error that says what to do, within its time."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jeepney import DBusAddress, MessageType, new_error, new_method_return  # type: ignore[import-untyped]
from jeepney.io.blocking import open_dbus_connection  # type: ignore[import-untyped]

from agent.firmware.engines.rauc_bus import Completed, Gone, OtherNews, Percent, RaucBus, RaucSaid
from agent.firmware.errors import SlotFailed
from tests.support.rauc_peer import INTERFACE, Crash, Fail, FallMute, RaucPeer, Tell, rauc_peer
from tests.support.rauc_service import private_bus

pytestmark = pytest.mark.wire
needs_dbus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed")

SHORT_S = 0.5
"""For what never comes; all else must come within it."""


def test_calls_and_signals(peer: RaucPeer) -> None:
    peer.script = (Tell(20, "Checking bundle", 2), Fail("no"))
    with RaucBus(peer.address).session() as rauc:
        assert rauc.info("/x.raucb", 1.0) == ("evsed-test", "2.0")
        assert rauc.primary() == "rootfs.0"
        assert rauc.mark("bad", "rootfs.1") == "rootfs.1"
        assert rauc.slot_status()["rootfs.1"]["boot-status"] == "bad"
        rauc.listen()
        rauc.install_bundle("/x.raucb")
        assert [rauc.next_event(5.0) for _ in range(4)] == [Percent(20), OtherNews(), Completed(1), OtherNews()]
        assert rauc.last_error() == "no"
        assert rauc.next_event(0.0) is None


def test_what_rauc_says_instead_of_an_answer(peer: RaucPeer) -> None:
    peer.errors["GetPrimary"] = "Failed getting primary slot: Unable to find primary boot slot\n"
    with RaucBus(peer.address).session() as rauc, pytest.raises(RaucSaid) as said:
        rauc.primary()
    assert said.value.words == "Failed getting primary slot: Unable to find primary boot slot"


def test_no_bus(tmp_path: Path) -> None:
    with pytest.raises(SlotFailed, match="is the message bus running"), RaucBus(f"unix:path={tmp_path}/no").session():
        pass


@pytest.mark.parametrize("address", ["", "tcp:host=localhost,port=1", "nonsense"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(SlotFailed, match="D-Bus"), RaucBus(address).session():
        pass


def test_no_service_and_none_that_could_be_started(bus: str) -> None:
    with pytest.raises(SlotFailed, match="install RAUC's service"), RaucBus(bus).session():
        pass


@needs_dbus
def test_a_service_that_does_not_start(tmp_path: Path) -> None:
    services = tmp_path / "services"
    services.mkdir()
    service = "[D-BUS Service]\nName=de.pengutronix.rauc\nExec=/bin/false\n"
    (services / "de.pengutronix.rauc.service").write_text(service)
    with (
        private_bus(tmp_path / "bus", services) as address,
        pytest.raises(SlotFailed, match="journalctl -u rauc"),
        RaucBus(address).session(),
    ):
        pass


def test_silence_is_bounded(peer: RaucPeer) -> None:
    peer.script = (FallMute(),)
    with RaucBus(peer.address, call_limit_s=SHORT_S).session() as rauc:
        rauc.install_bundle("/x.raucb")
        with pytest.raises(SlotFailed, match=r"no answer to GetPrimary within 0.5 s.*restart rauc"):
            rauc.primary()


def test_a_service_that_dies(peer: RaucPeer) -> None:
    peer.script = (Crash(),)
    with RaucBus(peer.address).session() as rauc:
        rauc.listen()
        rauc.install_bundle("/x.raucb")
        assert rauc.next_event(5.0) == Gone()
        with pytest.raises(SlotFailed, match="RAUC"):
            rauc.primary()


@needs_dbus
def test_a_bus_that_goes_away(tmp_path: Path) -> None:
    with private_bus(tmp_path / "bus") as address, contextlib.ExitStack() as stack:
        stack.enter_context(rauc_peer(address))
        rauc = stack.enter_context(RaucBus(address).session())
        rauc.listen()
        rest = stack.pop_all()
    with rest:
        with pytest.raises(SlotFailed, match="D-Bus: the connection broke"):
            rauc.next_event(5.0)
        with pytest.raises(SlotFailed, match="D-Bus: the connection broke"):
            rauc.primary()


def test_signals_of_others_do_not_count(peer: RaucPeer) -> None:
    from jeepney import new_signal

    emitter = DBusAddress("/", interface=INTERFACE)
    with RaucBus(peer.address).session() as rauc, open_dbus_connection(peer.address) as stranger:
        rauc.listen()
        stranger.send(new_signal(emitter, "Completed", "i", (0,)))
        stranger.send_and_get_reply(_ping(), timeout=5)  # the bus has passed it on
        rauc.primary()
        assert rauc.next_event(0.0) is None


def _ping() -> object:
    from jeepney import message_bus

    return message_bus.ListNames()


# ----------------------------------------------------------------------------------- services that are not RAUC


@contextlib.contextmanager
def impostor(address: str, signature: str | None, body: tuple[object, ...], error: str = "") -> Iterator[None]:
    """Owns RAUC's name and gives one answer to everything."""
    from jeepney import message_bus

    end = threading.Event()
    with open_dbus_connection(address) as connection:
        connection.send_and_get_reply(message_bus.RequestName("de.pengutronix.rauc"), timeout=10)

        def serve() -> None:
            while not end.is_set():
                with contextlib.suppress(TimeoutError):
                    message = connection.receive(timeout=0.02)
                    if message.header.message_type is MessageType.method_call:
                        made = new_error(message, error, signature, body) if error else None
                        connection.send(made or new_method_return(message, signature, body))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


def test_an_answer_of_another_shape(bus: str) -> None:
    with (
        impostor(bus, "as", (["x"],)),
        RaucBus(bus).session() as rauc,
        pytest.raises(SlotFailed, match="GetPrimary answered 'as', 's' expected"),
    ):
        rauc.primary()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [("AccessDenied", "D-Bus policy"), ("UnknownMethod", "older than 1.8"), ("LimitsExceeded", "journalctl")],
)
def test_errors_of_the_bus_have_a_remedy(bus: str, error: str, remedy: str) -> None:
    with (
        impostor(bus, "s", ("no",), f"org.freedesktop.DBus.Error.{error}"),
        RaucBus(bus).session() as rauc,
        pytest.raises(SlotFailed, match=remedy),
    ):
        rauc.primary()


def test_an_error_without_words(bus: str) -> None:
    with (
        impostor(bus, None, (), "org.freedesktop.DBus.Error.Failed"),
        RaucBus(bus).session() as rauc,
        pytest.raises(SlotFailed, match=r"org\.freedesktop\.DBus\.Error\.Failed"),
    ):
        rauc.primary()


# ------------------------------------------------------------------------------------------- buses that are none


@contextlib.contextmanager
def listening(path: Path, *answers: bytes) -> Iterator[None]:
    """A socket that takes a client, and gives it these answers to its lines."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client, client.makefile("rb") as lines, contextlib.suppress(ConnectionError):
                for answer in answers:
                    lines.readline()
                    client.sendall(answer)
                lines.read()

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        pytest.param((), "Did not authenticate", id="silent"),
        pytest.param((b"OK 0123456789abcdef0123456789abcdef\r\n",), "no greeting", id="silent after letting in"),
        pytest.param((b"REJECTED ANONYMOUS\r\n",), "D-Bus", id="lets nobody in"),
    ],
)
def test_a_bus_that_does_not_greet(tmp_path: Path, answers: tuple[bytes, ...], why: str) -> None:
    path = tmp_path / "bus"
    with (
        listening(path, *answers),
        pytest.raises(SlotFailed, match=why),
        RaucBus(f"unix:path={path}", call_limit_s=SHORT_S).session(),
    ):
        pass
