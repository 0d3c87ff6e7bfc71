"""Targets of what comes over local sockets and from files: IPC, installer, ledger bodies, configuration.

Charter: the codecs alone, and the servers and clients around them on real sockets. The peers are other users'
processes: a gateway that was taken over must not be able to crash the station or the installer.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from agent.config.board_file import load_board
from agent.config.load import load
from agent.config.problem import ConfigError
from agent.core.facts import KIND_OF, Fact, kind_of
from agent.firmware.bundle.description import DescriptionWrong, load_description
from agent.firmware.client import InstallerAway, InstallerClient
from agent.firmware.errors import SlotFailed, SourceLost, UpdateRefused
from agent.firmware.installer_state import InstallerState, StateFile
from agent.firmware.ports import Progress
from agent.firmware.server import InstallerServer, Role
from agent.firmware.storage import FileStorage
from agent.firmware.view import InstallerView, InstallOrder, Origin, StagedPhase, StagedView
from agent.firmware.wire import PeerGone, receive
from agent.ipc.client import RemoteStation
from agent.ipc.codec import CodecError, decode_fact, encode_fact, to_json, to_plain
from agent.ipc.port import Record, RowsAppended, StationLost
from agent.ipc.server import IpcServer
from agent.ipc.wire import WireError, frame, read_message
from agent.sim.virtual_time import run_virtual
from tests.fuzz.target import Target
from tests.support.fake_station import FakeStation, session_facts, signed_facts, welcome

_ROOT: Final = Path(__file__).parents[2]


# -------------------------------------------------------------------------------------------- IPC wire


def _lines(data: bytes) -> list[bytes]:
    """One message a line; what begins with ``#`` is sent as it stands, everything else inside a right frame."""
    return [each[1:] if each.startswith(b"#") else len(each).to_bytes(4, "big") + each for each in data.split(b"\n")]


def _ipc_wire(data: bytes) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(_lines(data)))
        reader.feed_eof()
        while (message := await read_message(reader)) is not None:
            frame(message)  # whatever came in could be sent on

    run_virtual(read())


class _Station(FakeStation):
    """Holds still for a gateway that does not keep to the port's own order; its ledger is as narrow as the real one."""

    async def delivered(self, seq: int, csms_tx: Any = None) -> None:
        pass

    async def records(self, after_seq: int, limit: int) -> list[Record]:
        after_seq.to_bytes(8, signed=True), limit.to_bytes(8, signed=True)  # OverflowError, as the database's
        return await super().records(after_seq, min(limit, 100))

    async def transaction(self, tx_id: str, after_seq: int = 0, *, newest: bool = False) -> list[Record]:
        tx_id.encode()  # UnicodeEncodeError, as the database's
        return await super().transaction(tx_id, after_seq, newest=newest)


class _CallFailed(AssertionError):
    """The station's process would have ended."""


def _ipc_server(data: bytes) -> None:
    """A gateway that was taken over, on a real socket."""

    async def serve() -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        station = _Station()
        await station.append(*session_facts("tx-1"))
        path = _folder() / "station.sock"
        server = IpcServer(path, station, welcome, list, frozenset({os.getuid()}), lambda: None)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(path, limit=2**24)
        for line in _lines(data):
            writer.write(line)
        await asyncio.sleep(1)  # virtual: until nothing more happens
        if writer.can_write_eof():
            writer.write_eof()
        while await read_message(reader) is not None:
            pass
        writer.close()
        await server.close()
        await asyncio.sleep(1)
        _raise_failures(failures)

    run_virtual(serve())


def _ipc_client(data: bytes) -> None:
    """A station that does not speak as ours; whatever it says, a call ends."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello, *rest = _lines(data)
        writer.write(hello)
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), 1)  # the calls come, or the client goes
        writer.writelines(rest)
        writer.close()

    async def listen() -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        path = _folder() / "client.sock"
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(speak, path)
        try:
            remote = await RemoteStation.connect(path)
            try:  # both at once: what comes before it was asked for is nobody's answer
                ended = await asyncio.gather(remote.status(), remote.records(0, 10), return_exceptions=True)
            finally:
                await remote.close()
            for failure in ended:
                if isinstance(failure, BaseException):
                    raise failure
        finally:
            server.close()
            await asyncio.sleep(1)  # virtual: until both ends are closed
            _raise_failures(failures)

    run_virtual(listen())


def _raise_failures(failures: list[dict[str, Any]]) -> None:
    """What an event loop was told."""
    for failure in failures:
        raise _CallFailed(failure["message"]) from failure.get("exception")


def _ipc_calls() -> list[bytes]:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("status", {}),
        ("records", {"after_seq": 0, "limit": 5}),
        ("command", {"command": {"_type": "TakeSample", "evse": 1}}),
        ("command", {"command": {"_type": "RemoteStop", "tx_id": "tx-1"}}),
        ("token_verdict", {"token": {"id_token": "04A2", "token_type": "ISO14443"}, "verdict": {"status": "Accepted"}}),
        ("set_settings", {"writes": [{"component": "A", "variable": "B", "value": "1"}]}),
        ("install_profile", {"evse": 1, "profile": {"id": 1}, "rules": "v16"}),
        ("composite_schedule", {"evse": 1, "duration_s": 60, "unit": None}),
        ("delivered", {"seq": 1, "csms_tx": {"tx_id": "tx-1", "csms_id": "7"}}),
        ("limit_transaction", {"tx_id": "tx-1", "max_cost": "1.5", "max_energy_wh": None, "max_time_s": 60}),
        ("update_firmware", {"request": {"via": "plain", "request_id": 1, "location": "x", "retrieve_wall_ms": 0}}),
        ("link_state", {"online": True, "dialect": "1.6"}),
        ("nothing", {}),
    ]
    texts = [to_json({"call": number, "method": name, "args": args}) for number, (name, args) in enumerate(calls, 1)]
    return [*texts, b"\n".join(texts), b"#\x00\x00\x00\x02{}", b"#\xff\xff\xff\xff"]


def _ipc_answers() -> list[bytes]:
    hello = to_json({"news": {"_type": "Welcome", **to_plain(welcome())}})
    news = to_json({"news": {"_type": "RowsAppended", **to_plain(RowsAppended(4))}})
    status = to_json({"answer": 1, "value": to_plain(asyncio.run(FakeStation().status()))})
    records = to_json({"answer": 2, "value": []})
    return [b"\n".join((hello, news, status, records)), b"\n".join((hello, to_json({"answer": 1, "error": "no"})))]


def _fact(data: bytes) -> None:
    """The row's kind, a line feed, its body."""
    kind, _, body = data.partition(b"\n")
    fact = decode_fact(kind.decode("latin-1"), body, "tx-1", 1)
    if fact is not None:
        encode_fact(fact)


def _facts() -> list[bytes]:
    facts: list[Fact] = [*signed_facts("tx-1", "OCMF|{}|{}", begin="OCMF|{}|{}"), *session_facts("tx-2")]
    bodies = [kind_of(each).encode() + b"\n" + encode_fact(each) for each in facts]
    return bodies + [kind.encode() + b"\n{}" for kind in KIND_OF.values()]


# ------------------------------------------------------------------------------------------- installer


@cache
def _folder() -> Path:
    """A place for sockets and files that this process uses again and again."""
    folder = tempfile.TemporaryDirectory(prefix="evsed-fuzz-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: Final[list[tempfile.TemporaryDirectory[str]]] = []  # removed when the process ends


class _Installer:
    """What ``InstallerServer`` asks of an ``Installer``; reads a little of what it is to install."""

    reboot_argument = None

    def status(self) -> InstallerView:
        return InstallerView("native", "file", "a", "a", False, 0, (), None)

    def install(
        self, source: Any, order: InstallOrder, on_progress: Callable[[Progress], None], end: Callable[[], None]
    ) -> StagedView:
        source.read(0, 4)
        on_progress(Progress(4, 6, 4, 4))
        source.read(4, 2)
        return StagedView("b", StagedPhase.READY, "ab", "1", 0, False)

    def activate(self, digest: str, still_wanted: Callable[[], None]) -> InstallerView:
        raise SlotFailed("slot b", f"nothing with digest {digest[:64]} is there")

    def mcu(self, target: str) -> None:
        return None

    def confirm(self) -> None:
        return None

    def revert(self) -> str:
        return "a"


def _installer_server(data: bytes) -> None:
    listener = socket.socket(socket.AF_UNIX)
    ours, theirs = socket.socketpair()
    with listener, ours, theirs:
        server = InstallerServer(listener, _Installer, {}, ("true",), idle_s=None)  # type: ignore[arg-type]
        ours.sendall(b"".join(_lines(data)))
        ours.shutdown(socket.SHUT_WR)
        while True:
            server._answer(theirs, Role.STATION, receive(theirs))


def _installer_calls() -> list[bytes]:
    order = to_plain(InstallOrder(Origin.OCPP, "-----BEGIN", "c2ln"))
    install = to_json({"call": "install", "args": {"size": 6, "order": order}})
    data = b'{"data":4}\n#abcd\n{"data":2}\n#ef'
    lost = b'{"lost":{"why":"gone","retryable":true}}'
    calls = [("status", {}), ("activate", {"digest": "ab" * 32}), ("mcu", {"target": "pilot"}), ("reboot", {})]
    plain = [to_json({"call": name, "args": args}) for name, args in calls]
    return [*plain, b"\n".join(plain), install + b"\n" + data, install + b"\n" + lost]


def _installer_client(data: bytes) -> None:
    """An installer that does not speak as ours."""
    path = _folder() / "installer.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        with InstallerClient(path) as client:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"".join(_lines(data)))
                peer.shutdown(socket.SHUT_WR)
                client.status()
                client.mcu("pilot")
                client.install(_Source(), InstallOrder(Origin.LOCAL), lambda _progress: None)
                client.revert()


@dataclass
class _Source:
    size: int = 100

    def read(self, offset: int, length: int) -> bytes:
        if not 0 <= offset <= offset + length <= self.size:
            raise SourceLost("no such range", retryable=False)
        return bytes(length)


def _installer_answers() -> list[bytes]:
    status = to_json({"value": to_plain(_Installer().status())})
    image = to_json({"value": {"version": "1.0", "sha256": "00" * 32, "data": 3}}) + b"\n#abc"
    staged = to_json({"value": to_plain(StagedView("b", StagedPhase.READY, "ab", "1", 0, False))})
    install = b"\n".join((b'{"read":[0,4]}', to_json({"progress": to_plain(Progress(1, 2, 1, 1))}), staged))
    refused = {"kind": "refused", "refusal": "malformed", "where": "manifest", "why": "no", "remedy": ""}
    return [
        b"\n".join((status, image, install, b'{"value":"a"}')),
        to_json({"error": refused}),
        status + b'\n{"value":null}',
    ]


def _installer_state(data: bytes) -> None:
    file = _written("state.json", data)
    to_json(to_plain(StateFile(FileStorage(), file).load()))


def _installer_states() -> list[bytes]:
    record = {"version": "1", "digest": "ab", "security_epoch": 1, "built_wall_ms": 1, "installed_wall_ms": 2}
    plain = to_plain(InstallerState()) | {"slots": {"a": record}}
    return [to_json(plain), to_json(to_plain(InstallerState()))]


# --------------------------------------------------------------------------------------- files by hand


def _written(name: str, data: bytes) -> Path:
    file = _folder() / name
    file.write_bytes(data)
    return file


def _configurations() -> list[bytes]:
    text = (_ROOT / "packaging" / "evsed.example.toml").read_text()
    whole = re.sub(r"^#(?=[a-z\[])", "", text, flags=re.MULTILINE)
    return [text.encode(), whole.encode(), whole.replace("/etc/evsed/", "").encode()]


def _boards() -> list[bytes]:
    return [file.read_bytes() for file in sorted((_ROOT / "hal" / "boards").glob("*.toml"))]


def _descriptions() -> list[bytes]:
    return [re.sub(r"^#(?=[a-z\[])", "", (_ROOT / "packaging/update/bundle.toml").read_text(), flags=re.M).encode()]


def targets() -> list[Target]:
    return [
        Target("ipc_wire", _ipc_wire, _ipc_calls, (WireError,)),
        Target("ipc_server", _ipc_server, _ipc_calls, max_bytes=8192),
        Target("ipc_client", _ipc_client, _ipc_answers, (StationLost, CodecError), 8192),
        Target("ledger_fact", _fact, _facts, (CodecError,)),
        Target("installer_server", _installer_server, _installer_calls, (PeerGone,)),
        Target(
            "installer_client",
            _installer_client,
            _installer_answers,
            (InstallerAway, UpdateRefused, SlotFailed, SourceLost),
        ),
        Target("installer_state", _installer_state, _installer_states, (SlotFailed,)),
        Target("config_toml", lambda data: load(_written("evsed.toml", data)), _configurations, (ConfigError,), 16_384),
        Target("board_toml", lambda data: load_board(_written("board.toml", data)), _boards, (ConfigError,)),
        Target(
            "bundle_description",
            lambda data: load_description(_written("bundle.toml", data), 1_795_000_000_000),
            _descriptions,
            (DescriptionWrong,),
        ),
    ]
