"""Calls to the RAUC service over D-Bus, each with a time limit, and its signals.

Charter: one connection for one piece of work (``RaucBus.session``), so nothing outlives a restart of bus or service and
no connection is shared by threads. Knows the wire, not what an update is. The wire's failures (no bus, no service, no
answer, service gone) are ``SlotFailed`` with a remedy; what RAUC itself answers instead of a result is ``RaucSaid``.
Signals count only from the very process that answered first, so that nobody else on the bus can end an installation.
Imports jeepney: import this module only where RAUC is configured. Times are seconds.
Sources: D-Bus specification (message bus messages, standard errors); de.pengutronix.rauc.Installer.xml of RAUC 1.8.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from jeepney import (  # type: ignore[import-untyped]
    DBusAddress,
    HeaderFields,
    MatchRule,
    Message,
    MessageType,
    Properties,
    message_bus,
    new_method_call,
)
from jeepney.bus import get_bus  # type: ignore[import-untyped]
from jeepney.io.blocking import DBusConnection, prep_socket  # type: ignore[import-untyped]

from agent.firmware.engines.rauc_words import LOOK, clip
from agent.firmware.errors import SlotFailed

SERVICE: Final = "de.pengutronix.rauc"
INTERFACE: Final = "de.pengutronix.rauc.Installer"
PATH: Final = "/"

_BUS: Final = "org.freedesktop.DBus"
_ERROR: Final = "org.freedesktop.DBus.Error."
_MAX_WAITING_SIGNALS: Final = 64

_NOT_INSTALLED: Final = "install RAUC's service (Debian: rauc-service) and start it: systemctl start rauc"
_REMEDIES: Final = {
    _ERROR + "ServiceUnknown": _NOT_INSTALLED,
    _ERROR + "NameHasNoOwner": _NOT_INSTALLED,
    _ERROR + "AccessDenied": f"let the update service's user send to {SERVICE} (D-Bus policy)",
    _ERROR + "NoReply": f"the service died; {LOOK}",
    _ERROR + "UnknownMethod": "this RAUC is older than 1.8 or not RAUC; update it",
}


class RaucSaid(Exception):
    """RAUC answered a call with an error of its own; ``words`` is its sentence."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


@dataclass(frozen=True, slots=True)
class Completed:
    """An installation ended. ``code`` 0: well."""

    code: int


@dataclass(frozen=True, slots=True)
class Percent:
    """As RAUC says it; also 100 when it failed."""

    value: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The service left the bus."""


@dataclass(frozen=True, slots=True)
class OtherNews:
    """A sign of life."""


Event = Completed | Percent | Gone | OtherNews


class RaucBus:
    """Where the RAUC service is. ``address``: a D-Bus address, or ``SYSTEM``. ``call_limit_s``: for every answer;
    also long enough for the service to be started by the first call."""

    def __init__(self, address: str = "SYSTEM", *, call_limit_s: float = 30.0) -> None:
        self._address = address
        self._limit_s = call_limit_s

    @contextlib.contextmanager
    def session(self) -> Iterator[RaucSession]:
        """A connection to a service that runs. Raises ``SlotFailed``."""
        connection = self._connect()
        try:
            yield RaucSession(connection, self._limit_s)
        finally:
            connection.close()

    def _connect(self) -> _Connection:
        try:
            socket = prep_socket(get_bus(self._address), timeout=self._limit_s)
        except (OSError, ValueError, RuntimeError) as error:
            raise SlotFailed(f"D-Bus {self._address}", str(error), "is the message bus running?") from error
        socket.settimeout(self._limit_s)  # of every send
        try:
            return _Connection(socket, self._limit_s)
        except Exception as error:
            socket.close()
            raise SlotFailed(
                f"D-Bus {self._address}", str(error) or "no greeting", "restart the message bus"
            ) from error


class _Connection(DBusConnection):  # type: ignore[misc]
    """jeepney greets the bus without a time limit; here nothing waits for ever."""

    def __init__(self, socket: Any, limit_s: float) -> None:
        self._limit_s = limit_s
        super().__init__(socket)

    def receive(self, *, timeout: float | None = None) -> Any:
        return super().receive(timeout=self._limit_s if timeout is None else timeout)


class RaucSession:
    """The service's methods, one after the other. All raise ``SlotFailed`` and ``RaucSaid``."""

    def __init__(self, connection: _Connection, limit_s: float) -> None:
        self._connection = connection
        self._limit_s = limit_s
        self._news: deque[Any] = deque(maxlen=_MAX_WAITING_SIGNALS)
        self._owner = self._find()
        self._rauc = DBusAddress(PATH, bus_name=self._owner, interface=INTERFACE)

    def _find(self) -> str:
        """The unique name of the service; the bus starts it where it can and must."""
        (running,) = self._ask(message_bus.NameHasOwner(SERVICE), "b")
        if not running:
            self._ask(message_bus.StartServiceByName(SERVICE), "u")
        (owner,) = self._ask(message_bus.GetNameOwner(SERVICE), "s")
        return str(owner)

    # -------------------------------------------------------------------------------------- methods

    def install_bundle(self, bundle: str) -> None:
        """Begins; ``Completed`` tells the end."""
        self._call("InstallBundle", "", "sa{sv}", bundle, {})

    def info(self, bundle: str, limit_s: float) -> tuple[str, str]:
        """(compatible, version) of a bundle whose signature holds."""
        compatible, version = self._call("Info", "ss", "s", bundle, limit_s=limit_s)
        return compatible, version

    def mark(self, state: str, slot: str) -> str:
        """``state``: good, bad, active. ``slot``: RAUC's name, or booted. The name of the slot that was marked."""
        name, _message = self._call("Mark", "ss", "ss", state, slot)
        return str(name)

    def slot_status(self) -> dict[str, dict[str, object]]:
        """By RAUC's slot name: what RAUC knows of it."""
        (slots,) = self._call("GetSlotStatus", "a(sa{sv})")
        return {name: {key: value for key, (_type, value) in status.items()} for name, status in slots}

    def primary(self) -> str:
        """RAUC's name of the slot that the boot loader takes next."""
        (name,) = self._call("GetPrimary", "s")
        return str(name)

    def last_error(self) -> str:
        """Of the last installation; empty where there was none."""
        ((_type, words),) = self._ask(Properties(self._rauc).get("LastError"), "v")
        return str(words)

    def _call(
        self, method: str, answer: str, signature: str | None = None, *values: object, limit_s: float | None = None
    ) -> tuple[Any, ...]:
        return self._ask(new_method_call(self._rauc, method, signature, values), answer, limit_s)

    # -------------------------------------------------------------------------------------- signals

    def listen(self) -> None:
        """From now on signals are kept for ``next_event``."""
        for rule in (
            MatchRule(type="signal", sender=self._owner, interface=INTERFACE, member="Completed", path=PATH),
            MatchRule(type="signal", sender=self._owner, interface=f"{_BUS}.Properties", path=PATH),
            self._departure(),
        ):
            self._connection.filter(rule, queue=self._news)
            self._ask(message_bus.AddMatch(rule), "")

    def _departure(self) -> Any:
        rule = MatchRule(
            type="signal", sender=_BUS, interface=_BUS, member="NameOwnerChanged", path="/org/freedesktop/DBus"
        )
        rule.add_arg_condition(0, SERVICE)
        return rule

    def forget_events(self) -> None:
        """What came until now belongs to somebody else's installation."""
        self._news.clear()

    def next_event(self, timeout_s: float) -> Event | None:
        """The next signal; None when nothing came in time."""
        try:
            message = self._connection.recv_until_filtered(self._news, timeout=timeout_s)
        except TimeoutError:
            return None
        except OSError as error:
            raise SlotFailed("D-Bus", f"the connection broke: {error}", "is the message bus running?") from error
        return _event(message)

    # -------------------------------------------------------------------------------------- the wire

    def _ask(self, message: Message, answer: str, limit_s: float | None = None) -> tuple[Any, ...]:
        """The body of the answer, which has the signature ``answer``."""
        limit_s = self._limit_s if limit_s is None else limit_s
        member = message.header.fields[HeaderFields.member]
        try:
            reply = self._connection.send_and_get_reply(message, timeout=limit_s)
        except TimeoutError as error:
            why = f"no answer to {member} within {limit_s:g} s"
            raise SlotFailed("RAUC", why, f"{LOOK}; systemctl restart rauc") from error
        except OSError as error:
            raise SlotFailed("D-Bus", f"the connection broke: {error}", "is the message bus running?") from error
        if reply.header.message_type is MessageType.error:
            raise _error_of(reply)
        found = reply.header.fields.get(HeaderFields.signature, "")
        if found != answer:
            raise SlotFailed("RAUC", f"{member} answered {found!r}, {answer!r} expected", "is this RAUC 1.8 or newer?")
        body: tuple[Any, ...] = reply.body
        return body


def _error_of(reply: Message) -> SlotFailed | RaucSaid:
    name = str(reply.header.fields.get(HeaderFields.error_name, ""))
    words = clip(str(reply.body[0])) if reply.body else ""
    if not name.startswith("org.freedesktop."):
        return RaucSaid(words)
    return SlotFailed("RAUC", words or name, _REMEDIES.get(name, LOOK))


def _event(message: Message) -> Event:
    member = message.header.fields[HeaderFields.member]
    body = message.body
    if member == "NameOwnerChanged":
        return Gone()
    if member == "Completed" and message.header.fields.get(HeaderFields.signature) == "i":
        return Completed(body[0])
    if member == "PropertiesChanged" and "Progress" in body[1]:
        signature, progress = body[1]["Progress"]
        if signature == "(isi)":
            return Percent(progress[0])
    return OtherNews()
