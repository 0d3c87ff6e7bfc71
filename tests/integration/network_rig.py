"""A whole station in real processes, a CSMS, and the fault proxy between them.

Charter: one charge under network faults. ``on_networks`` plays scenes in both dialects; ``Network`` has verbs, and
judges at the end what the CSMS was told. What the gateway found out is read from its log.

Settings are short: a ping every second, a back-off of one to two seconds.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.core.status import ConnectorState
from agent.ocpp.link_failure import FailureKind
from agent.sim.csms import SimCsms
from agent.sim.fault_proxy import FaultProxy
from agent.sim.proxy_faults import Ending
from agent.sim.stage import Stage
from agent.sim.story import Story, ledger_energy
from tests.integration.test_processes import all_told, is_state, until
from tests.unit.firmware.bundle.pki import Authority, certify, make_root

PING_S: Final = 1
ANSWER_S: Final = 30  # OCPPCommCtrlr.MessageTimeout, which cannot be set; also how long a handshake may take
BACKOFF_MIN_S: Final = 1
BACKOFF_MAX_S: Final = 2
SLACK_S: Final = 5.0  # for a machine that has other things to do
SILENCE_S: Final = 2 * PING_S  # until a dead link is noticed: field fault 7
PASSWORD: Final = "a-password-of-the-factory"
IDENTITY: Final = "DEMO-0001"
DAY_MS: Final = 86_400_000

_SETTINGS: Final = f"""\
[settings]
"OCPPCommCtrlr.WebSocketPingInterval" = {PING_S}
"""


class GuardedCsms(SimCsms):
    """A CSMS that wants one of ``passwords``, if there are any. Keeps the calls of the station, and the order of all
    frames: ("<" or ">", frame)."""

    def __init__(self, version: str) -> None:
        super().__init__(version, self._keep)
        self.passwords: set[str] = set()
        self.frames: list[tuple[str, list[Any]]] = []

    def _keep(self, way: str, text: str) -> None:
        self.frames.append((way, json.loads(text)))

    def _admit(self, connection: Any, request: Any) -> Any:
        shown = request.headers.get("Authorization", "")
        good = {base64.b64encode(f"{IDENTITY}:{each}".encode()).decode() for each in self.passwords}
        if self.passwords and shown.removeprefix("Basic ") not in good:
            return connection.respond(401, "who are you?\n")
        return super()._admit(connection, request)

    def calls(self, *actions: str) -> list[tuple[str, str, dict[str, Any]]]:
        """(message id, action, payload) of the station's calls, repeats included."""
        calls = [frame for way, frame in self.frames if way == "<" and frame[0] == 2]
        return [(call[1], call[2], call[3]) for call in calls if not actions or call[2] in actions]


@dataclass(slots=True)
class Network:
    """The rig of one dialect. ``ca_file`` is what the station trusts."""

    stage: Stage
    csms: GuardedCsms
    proxy: FaultProxy
    ca_file: Path
    story: Story

    # -------------------------------------------------------------------------------------- verbs

    async def online(self, within_s: float = 30.0) -> None:
        await until(self.story._online, within_s)

    async def begin_charge(self) -> None:
        await self.stage.order(1, "plug")
        await until(lambda: is_state(self.stage, 1, ConnectorState.PREPARING))
        await self.story.swipe(1)
        await until(self._draws)

    async def _draws(self) -> bool:
        return bool((await self.stage.order(1, "status"))["current_ma"] > 10_000)

    @asynccontextmanager
    async def charging_untouched(self) -> AsyncIterator[None]:
        """The car draws its current all the time, whatever happens inside."""
        views: list[dict[str, Any]] = []

        async def watch() -> None:
            while True:
                views.append(await self.stage.order(1, "status"))
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        assert watching.cancelled(), watching.exception()
        assert [view for view in views if not view["relay_closed"] or view["current_ma"] < 10_000] == []
        taken_mwh = [view["taken_mwh"] for view in views]
        assert len(taken_mwh) > 2 and taken_mwh == sorted(taken_mwh) and taken_mwh[0] < taken_mwh[-1]

    async def unplug(self) -> None:
        await self.stage.order(1, "unplug")
        await until(lambda: is_state(self.stage, 1, ConnectorState.AVAILABLE))

    # ------------------------------------------------------------------------------------ looking

    def log(self, event: str) -> list[dict[str, Any]]:
        """The lines of this event in the log of station and gateway, in order."""
        found = []
        for line in (self.stage.folder / "run.log").read_text().splitlines():
            if f'"{event}"' in line:
                entry = json.loads(line)
                if entry["event"] == event:
                    found.append(entry)
        return found

    def failures(self) -> list[FailureKind]:
        """Why there was no link, attempt by attempt."""
        return [FailureKind(entry["kind"]) for entry in self.log("link_down")]

    async def failed(self, kind: FailureKind, after: int, within_s: float) -> None:
        """Wait for a failure of this kind behind the first ``after``. The error says what there was instead."""

        async def there() -> bool:
            return kind in self.failures()[after:]

        try:
            await until(there, within_s)
        except TimeoutError:
            raise AssertionError(f"no {kind} within {within_s} s, but {self.failures()[after:]}") from None

    def security_events(self, event_type: str) -> int:
        """How many of this type the CSMS heard of, repeats left out."""
        calls = self.csms.calls("SecurityEventNotification")
        return len({message_id for message_id, _, payload in calls if payload["type"] == event_type})

    async def books_agree(self) -> None:
        """One transaction: start, values, end, in order and once each, and the energy of the ledger."""
        await until(lambda: all_told(self.stage))
        book = self.csms.book
        assert book.violations == [] and book.open == [] and len(book.transactions) == 1
        assert_told_once(self.csms)
        ledger_mwh, count = ledger_energy(self.stage)[1]
        assert count == 1 and ledger_mwh > 0
        # OCPP 1.6 tells whole Wh, so it may be off by less than one.
        assert abs(book.wh * 1_000 - ledger_mwh) <= (1_000 if self.csms.version == "1.6" else 1)


def assert_told_once(csms: GuardedCsms) -> None:
    """What was sent again has the id and the words it had before; without repeats it is one transaction in order."""
    told: dict[str, tuple[str, dict[str, Any]]] = {}
    for message_id, action, payload in csms.calls(*_OF_TRANSACTIONS):
        assert told.setdefault(message_id, (action, payload)) == (action, payload), "one id for two messages"
    assert len({json.dumps(each) for each in told.values()}) == len(told), "one message under two ids"
    steps = [payload.get("eventType", action) for action, payload in told.values()]
    first, value, last = _OF_TRANSACTIONS[:3] if csms.version == "1.6" else ("Started", "Updated", "Ended")
    assert len(steps) > 2 and steps == [first, *[value] * (len(steps) - 2), last], steps
    if csms.version != "1.6":
        assert [payload["seqNo"] for _, payload in told.values()] == list(range(len(told)))


_OF_TRANSACTIONS: Final = ("StartTransaction", "MeterValues", "StopTransaction", "TransactionEvent")

Scene = Callable[[Network], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Play:
    """A scene and its network: over TLS with a password, or without both; ``at_first``: before the station starts."""

    name: str
    scene: Scene
    tls: bool = False
    at_first: Callable[[FaultProxy], None] = lambda _proxy: None


def on_networks(folder: Path, *plays: Play) -> None:
    """Play them all in both dialects, all at the same time, each with a station of its own. One that fails does not
    disturb the others."""

    async def main() -> None:
        both = [_play(folder / play.name / version, version, play) for play in plays for version in ("1.6", "2.0.1")]
        async with asyncio.timeout(240):
            ended = await asyncio.gather(*both, return_exceptions=True)
        errors = [error for error in ended if isinstance(error, Exception)]
        if errors:
            raise ExceptionGroup("the network was too bad", errors)

    asyncio.run(main())


async def _play(folder: Path, version: str, play: Play) -> None:
    folder.mkdir(parents=True)
    csms = GuardedCsms(version)
    csms_port = int((await csms.start()).rsplit(":", 1)[1].split("/")[0])
    proxy = FaultProxy("127.0.0.1", csms_port)
    port = await proxy.start()
    play.at_first(proxy)
    ca_file, password_file = folder / "ca.pem", folder / "password"
    stage = Stage(folder, f"{'wss' if play.tls else 'ws'}://127.0.0.1:{port}/ocpp", sample_s=1, boards=("mcu_ac",))
    stage.lay_out()
    text = stage.config_file.read_text()
    text = text.replace("[settings]\n", _SETTINGS).replace('BackOffRepeatTimes" = 1', 'BackOffRepeatTimes" = 0')
    if play.tls:
        files = f'ca_file = "{ca_file}"\npassword_file = "{password_file}"\nsecurity_profile = 2\n'
        text = text.replace("[csms]\n", f"[csms]\n{files}")
        password_file.write_text(PASSWORD)
        csms.passwords = {PASSWORD}
        root = make_root("Root of the CSMS", **validity(-DAY_MS, DAY_MS))
        ca_file.write_text(root.certificate_pem)
        proxy.tls = served(root, folder)
    stage.config_file.write_text(text)
    try:
        await stage.start()
        await play.scene(Network(stage, csms, proxy, ca_file, Story(stage, csms, lambda _: None, pace_s=1.0)))
    finally:
        await stage.stop()
        await proxy.stop()
        await csms.stop()


# ------------------------------------------------------------------------------------------- faults


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, what the gateway must find (None: the link holds), how soon, and how soon it is back after the end."""

    name: str
    strike: Callable[[FaultProxy], None]
    finds: FailureKind | None
    found_s: float
    back_s: float


async def suffer(network: Network, row: Row) -> None:
    """Play one row; ends with the link up."""
    before = len(network.failures())
    row.strike(network.proxy)
    if row.finds is None:
        await asyncio.sleep(row.found_s)
        assert network.failures()[before:] == [], row.name
    else:
        await network.failed(row.finds, before, row.found_s + SLACK_S)
    network.proxy.switch_off()
    await network.online(row.back_s + SLACK_S)


def cut_into(proxy: FaultProxy, name: str, **parameters: Any) -> None:
    """A fault that bites at the next connection: the present one is reset."""
    proxy.switch_on(name, **parameters)
    proxy.cut(Ending.RESET)


# ------------------------------------------------------------------------------------- certificates


def validity(from_ms: int, to_ms: int) -> dict[str, Any]:
    """Of a certificate, relative to now."""
    now_ms = time.time_ns() // 1_000_000
    return {"valid_from_ms": now_ms + from_ms, "valid_to_ms": now_ms + to_ms}


def served(root: Authority, folder: Path, *, host: str = "127.0.0.1", **flaws: Any) -> ssl.SSLContext:
    """A server's context with a certificate for ``host`` under ``root``; ``flaws`` as for ``certify``."""
    name = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
    how: dict[str, Any] = {
        "purposes": (ExtendedKeyUsageOID.SERVER_AUTH,),
        "extra": ((x509.SubjectAlternativeName([name]), False),),
        **validity(-DAY_MS, DAY_MS),
    }
    leaf = root.issue_leaf(host, **how | flaws)
    file = folder / "served.pem"
    file.write_bytes(leaf.chain_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def renewed(root: Authority) -> str:
    """The same name and key with another certificate, as the operator of a root that expired gives it out (PEM)."""
    certificate = certify(
        "Root of old", root.key, None, ca=True, purposes=None, usage="issue", **validity(-DAY_MS, DAY_MS)
    )
    return Authority(root.key, certificate, is_root=True).certificate_pem
