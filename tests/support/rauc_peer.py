"""A peer that speaks as the RAUC service does, for what the real one will not do when asked: crash, fall silent, lie.

Charter: owns RAUC's name on a private bus (``rauc_service.private_bus``) in a thread of the test. It answers the
methods that we use, keeps two slots, and plays a script for each InstallBundle. Success and refusal are recordings of
RAUC 1.8 (Debian 12), made with ``gdbus monitor``; an integration test compares them with the real service.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from jeepney import (  # type: ignore[import-untyped]
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    message_bus,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import DBusConnection, open_dbus_connection  # type: ignore[import-untyped]

SERVICE: Final = "de.pengutronix.rauc"
INTERFACE: Final = "de.pengutronix.rauc.Installer"
GLIB_ERROR: Final = "org.gtk.GDBus.UnmappedGError.Quark._g_2dio_2derror_2dquark.Code30"
BUSY: Final = "already processing a different method"

_EMITTER: Final = DBusAddress("/", interface=INTERFACE)
_PROPERTIES: Final = DBusAddress("/", interface="org.freedesktop.DBus.Properties")


@dataclass(frozen=True, slots=True)
class Tell:
    """The property Progress changes."""

    percent: int
    message: str
    depth: int


@dataclass(frozen=True, slots=True)
class Fail:
    """LastError, then Completed with 1."""

    words: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The slot is written: installed.count rises, then Completed with 0. ``activates``: as without
    ``activate-installed=false``; ``records``: as with a status file."""

    activates: bool = False
    records: bool = True


@dataclass(frozen=True, slots=True)
class Crash:
    """The service is gone from the bus."""


@dataclass(frozen=True, slots=True)
class FallMute:
    """No call is answered any more."""


@dataclass(frozen=True, slots=True)
class ForgetToComplete:
    """Idle again, without Completed."""


Step = Tell | Fail | Finish | Crash | FallMute | ForgetToComplete

RECORDED_BEGIN: Final = (
    Tell(0, "Installing", 1),
    Tell(0, "Determining slot states", 2),
    Tell(20, "Determining slot states done.", 2),
    Tell(20, "Checking bundle", 2),
    Tell(20, "Verifying signature", 3),
)
RECORDED_SUCCESS: Final = (
    *RECORDED_BEGIN,
    Tell(40, "Verifying signature done.", 3),
    Tell(40, "Checking bundle done.", 2),
    Tell(40, "Checking manifest contents", 2),
    Tell(60, "Checking manifest contents done.", 2),
    Tell(60, "Determining target install group", 2),
    Tell(80, "Determining target install group done.", 2),
    Tell(80, "Updating slots", 2),
    Tell(80, "Checking slot rootfs.1", 3),
    Tell(90, "Checking slot rootfs.1 done.", 3),
    Tell(90, "Copying image to rootfs.1", 3),
    Tell(99, "Copying image to rootfs.1 done.", 3),
    Tell(99, "Updating slots done.", 2),
    Tell(100, "Installing done.", 1),
    Finish(),
)
RECORDED_REFUSAL: Final = (
    *RECORDED_BEGIN,
    Tell(40, "Verifying signature failed.", 3),
    Tell(40, "Checking bundle failed.", 2),
    Tell(100, "Installing failed.", 1),
    Fail("signature verification failed: Verify error: self-signed certificate"),
)


def _slot(bootname: str, state: str) -> dict[str, tuple[str, Any]]:
    texts = {"class": "rootfs", "type": "raw", "bootname": bootname, "state": state, "boot-status": "good"}
    return {key: ("s", value) for key, value in texts.items()}


@dataclass(slots=True)
class RaucPeer:
    """``errors``: what a method says instead of an answer. ``obeys`` False: Mark changes nothing. ``counts`` False:
    RAUC without a status file. ``boot_next``: as with EFI, a bad slot may still be the next. ``stray``: signals before
    the answer to InstallBundle."""

    address: str
    script: Sequence[Step] = RECORDED_SUCCESS
    stray: Sequence[Step] = ()
    errors: dict[str, str] = field(default_factory=dict)
    obeys: bool = True
    counts: bool = True
    boot_next: bool = False
    busy: bool = False
    primary: str = "rootfs.0"
    slots: dict[str, dict[str, tuple[str, Any]]] = field(
        default_factory=lambda: {"rootfs.1": _slot("B", "inactive"), "rootfs.0": _slot("A", "booted")}
    )
    calls: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)
    last_error: str = ""
    _mute: bool = False
    _clock: int = 0

    def set(self, slot: str, **values: str) -> None:
        """Texts of a slot's status; ``boot_status`` is ``boot-status``."""
        self.slots[slot].update({key.replace("_", "-"): ("s", value) for key, value in values.items()})

    def boots(self, slot: str) -> None:
        """The machine has booted into ``slot``."""
        for name in self.slots:
            self.set(name, state="booted" if name == slot else "inactive")

    def marks(self) -> list[tuple[object, ...]]:
        return [values for method, values in self.calls if method == "Mark"]

    # ----------------------------------------------------------------------------------- the thread

    def serve(self, connection: DBusConnection, end: threading.Event) -> None:
        while not end.is_set():
            try:
                message = connection.receive(timeout=0.02)
            except TimeoutError:
                continue
            except OSError:  # the bus was taken away
                return
            if message.header.message_type is not MessageType.method_call or self._mute:
                continue
            if not self._answer(connection, message):
                connection.close()
                return

    def _answer(self, connection: DBusConnection, message: Message) -> bool:
        """False: the service is to crash now."""
        method = message.header.fields[HeaderFields.member]
        if method == "Get":
            words = self.last_error if message.body[1] == "LastError" else "idle"
            connection.send(new_method_return(message, "v", (("s", words),)))
            return True
        self.calls.append((method, tuple(message.body)))
        words = self.errors.get(method, BUSY if self.busy else "")
        if words:
            connection.send(new_error(message, GLIB_ERROR, "s", (words,)))
        elif method == "InstallBundle":
            self._play(connection, self.stray)
            self.busy = True
            connection.send(new_method_return(message))
            return self._play(connection, self.script)
        elif method == "Mark":
            state, name = message.body
            name = self._booted() if name == "booted" else name
            if self.obeys:
                self._mark(state, name)
            connection.send(new_method_return(message, "ss", (name, f"marked slot {name} as {state}")))
        elif method == "GetSlotStatus":
            connection.send(new_method_return(message, "a(sa{sv})", (list(self.slots.items()),)))
        elif method == "GetPrimary":
            connection.send(new_method_return(message, "s", (self.primary,)))
        else:
            connection.send(new_method_return(message, "ss", ("evsed-test", "2.0")))
        return True

    def _play(self, connection: DBusConnection, steps: Sequence[Step]) -> bool:
        for step in steps:
            match step:
                case Tell():
                    progress = {"Progress": ("(isi)", (step.percent, step.message, step.depth))}
                    self._change(connection, progress)
                case Fail(words):
                    self.last_error = words
                    self._change(connection, {"LastError": ("s", words)})
                    self._complete(connection, 1)
                case Finish():
                    self._installed(step)
                    self._complete(connection, 0)
                case ForgetToComplete():
                    self.busy = False
                case FallMute():
                    self._mute = True
                case Crash():
                    return False
        return True

    def _complete(self, connection: DBusConnection, code: int) -> None:
        self.busy = False
        connection.send(new_signal(_EMITTER, "Completed", "i", (code,)))
        self._change(connection, {"Operation": ("s", "idle")})

    def _change(self, connection: DBusConnection, changed: dict[str, tuple[str, Any]]) -> None:
        connection.send(new_signal(_PROPERTIES, "PropertiesChanged", "sa{sv}as", (INTERFACE, changed, [])))

    # ------------------------------------------------------------------------------------- its slots

    def _booted(self) -> str:
        return next(name for name, status in self.slots.items() if status["state"] == ("s", "booted"))

    def _installed(self, step: Finish) -> None:
        target = next(name for name, status in self.slots.items() if status["state"] == ("s", "inactive"))
        self.set(target, boot_status="bad")
        if step.records:
            self._count(target, "installed")
        if step.activates:
            self._mark("active", target)

    def _mark(self, state: str, name: str) -> None:
        if state == "active":
            self.primary = name
            if self.counts:
                self._count(name, "activated")
        self.set(name, boot_status="bad" if state == "bad" else "good")
        if state == "bad" and self.primary == name and not self.boot_next:
            self.primary = next(other for other in self.slots if other != name)

    def _count(self, name: str, what: str) -> None:
        self._clock += 1
        status = self.slots[name]
        _type, count = status.get(f"{what}.count", ("u", 0))
        status[f"{what}.count"] = ("u", count + 1)
        status[f"{what}.timestamp"] = ("s", f"2026-11-26T00:00:{self._clock:02d}Z")


@contextlib.contextmanager
def rauc_peer(address: str) -> Iterator[RaucPeer]:
    """A peer that owns RAUC's name on the bus at ``address``."""
    peer, end = RaucPeer(address), threading.Event()
    with open_dbus_connection(address) as connection:
        connection.send_and_get_reply(message_bus.RequestName(SERVICE), timeout=10)
        thread = threading.Thread(target=peer.serve, args=(connection, end))
        thread.start()
        try:
            yield peer
        finally:
            end.set()
            thread.join()
