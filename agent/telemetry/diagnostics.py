"""The diagnostics archive: all that somebody far away needs to understand what is wrong with this charger.

Charter: which parts there are, where each comes from, and in which order they matter. Everything of the station comes
over its socket: the archive is the same whether the gateway makes it (GetLog, GetDiagnostics, the local page) or a
technician at the command line, and the ledger's file is never opened. A part that cannot be had is named in the
manifest, with the reason; the others are there all the same.

Never inside: passwords, keys, the user part of URLs, whole tokens, signed records and receipts. Of configured files
only the paths are told.

Units: bytes, UTC milliseconds since 1970.
"""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Any, BinaryIO, Final

from agent.config.model import Config
from agent.core.facts import EventFact, Fact, LogFact, ReceiptFact, SignedFact
from agent.ipc.codec import to_plain
from agent.ipc.port import Record, StationPort
from agent.telemetry import device_facts
from agent.telemetry.archive import LIMIT_BYTES, ArchiveWriter, Manifest, Missing, Part
from agent.telemetry.device_facts import NotToBeHad
from agent.telemetry.logs import log_file
from agent.telemetry.masking import MASK, SECRET, TOKENS, mask_token, masked
from agent.telemetry.ring_file import RingReader

PART_MAX_S: Final = 20.0
LEDGER_ROWS: Final = 500
LOG_LINES_MAX: Final = 100_000  # more than two files hold

_TOKENS: Final = TOKENS | {"token", "group", "authctrlr.masterpassgroupid"}
_GROUP_VARIABLE: Final = "masterpassgroupid"

Get = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which log lines are wanted, by their time (bounds included). ``limit_bytes``: of the archive, compressed."""

    oldest_wall_ms: int = 0
    latest_wall_ms: int = 2**62
    limit_bytes: int = LIMIT_BYTES


async def collect(
    file: BinaryIO, config: Config, station: StationPort | None, wall_ms: int, wanted: Wanted | None = None
) -> Manifest:
    """Write the archive to ``file``. ``station`` None: it does not answer. Raises ``OSError`` of ``file`` alone."""
    wanted = wanted or Wanted()
    about = {
        "station": config.station.identity,
        "model": f"{config.station.vendor} {config.station.model}",
        "software": version("evsed"),
        "made": _rfc3339(wall_ms),
        "log_lines_from": _rfc3339(wanted.oldest_wall_ms) if wanted.oldest_wall_ms else None,
        "log_lines_to": _rfc3339(wanted.latest_wall_ms) if wanted.latest_wall_ms < 2**62 else None,
    }
    writer = ArchiveWriter(file, about, wall_ms, wanted.limit_bytes)
    for name, lines, get in _parts(config, station, wanted):
        part = await _got(name, lines, get)
        await asyncio.to_thread(writer.add, part)
    return await asyncio.to_thread(writer.close)


async def _got(name: str, lines: bool, get: Get) -> Part | Missing:
    try:
        async with asyncio.timeout(PART_MAX_S):
            return Part(name, await get(), lines)
    except TimeoutError:
        return Missing(name, f"not there within {PART_MAX_S:.0f} s")
    except NotToBeHad as error:
        return Missing(name, str(error))
    except Exception as error:  # whatever is wrong with this device is why the archive is wanted
        return Missing(name, f"{type(error).__name__}: {error}"[:300])


def _parts(config: Config, station: StationPort | None, wanted: Wanted) -> list[tuple[str, bool, Get]]:
    """(name, whether it is made of lines, how to get it), the most telling first."""
    told = [(name, name.endswith("l"), _of_station(station, ask)) for name, ask in _ASKED.items()]
    logs = [(f"logs/{process}.jsonl", True, _log(config, process, process, wanted)) for process in _PROCESSES]
    trace = ("logs/trace.jsonl", True, _log(config, "gateway", "trace", wanted))
    here = [(name, name.startswith("system/j") or name.endswith("dmesg.txt"), get) for name, get in _device(config)]
    own: list[tuple[str, bool, Get]] = [
        ("configuration.json", False, _later(lambda: _json(plain_configuration(config)))),
        ("installer.json", False, _later(lambda: _installer(config))),
    ]
    return [*told, *own, *logs, trace, *here]


# ------------------------------------------------------------------------------------- of the station


async def _status(station: StationPort) -> bytes:
    return _json(masked(to_plain(await station.status()), _TOKENS))


async def _health(station: StationPort) -> bytes:
    return _json(to_plain(await station.health()))


async def _statistics(station: StationPort) -> bytes:
    return _json(to_plain(await station.statistics()))


async def _progress(station: StationPort) -> bytes:
    return _json(to_plain(await station.progress()))


async def _settings(station: StationPort) -> bytes:
    report = await station.report("FullInventory")
    if report is None:
        raise NotToBeHad("the station makes no such report")
    return _json([_setting(each) for each in report])


def _setting(entry: dict[str, Any]) -> dict[str, Any]:
    """A ReportDataType; the value of a secret, or of a token's group, is not in it."""
    hidden = _is_hidden(str(entry.get("variable", {}).get("name", "")))
    return entry | {"variableAttribute": MASK} if hidden else entry


def _is_hidden(setting: str) -> bool:
    """Whether the value of this variable, with or without its component, must not be told."""
    name = setting.lower()
    return SECRET.search(name) is not None or _GROUP_VARIABLE in name


async def _ledger_rows(station: StationPort) -> bytes:
    head_seq = (await station.status()).head_seq
    records: list[Record] = []
    after_seq = max(0, head_seq - LEDGER_ROWS)
    while len(records) < LEDGER_ROWS and (page := await station.records(after_seq, LEDGER_ROWS - len(records))):
        records, after_seq = records + page, page[-1].seq
    return b"".join(json.dumps(plain_record(each), ensure_ascii=False).encode() + b"\n" for each in records)


def plain_record(record: Record) -> dict[str, Any]:
    """A ledger row for people who shall not know who charged: of signed documents only the length."""
    fact = record.fact
    if isinstance(fact, SignedFact | ReceiptFact):
        text = fact.record if isinstance(fact, SignedFact) else fact.document
        plain: Any = {"tx_id": fact.tx_id, "evse": fact.evse, "chars": len(text)}
    else:
        plain = masked(to_plain(_without_hidden(fact)), _TOKENS)
    return {"seq": record.seq, "time": _rfc3339(record.wall_ms), "kind": record.kind, "fact": plain}


def _without_hidden(fact: Fact) -> Fact:
    """A fact that says the value of a variable which must not be told, without it."""
    if isinstance(fact, LogFact) and _is_hidden(dict(fact.details).get("setting", "")):
        shown = ((name, MASK if name in ("before", "after") else text) for name, text in fact.details)
        return replace(fact, details=tuple(shown))
    if isinstance(fact, EventFact) and _is_hidden(fact.name.variable):
        return replace(fact, value=MASK)
    return fact


_ASKED: Final[Mapping[str, Callable[[StationPort], Awaitable[bytes]]]] = {
    "status.json": _status,
    "health.json": _health,
    "statistics.json": _statistics,
    "ledger/progress.json": _progress,
    "ledger/rows.jsonl": _ledger_rows,
    "settings.json": _settings,
}


def _of_station(station: StationPort | None, ask: Callable[[StationPort], Awaitable[bytes]]) -> Get:
    async def get() -> bytes:
        if station is None:
            raise NotToBeHad("the station does not answer")
        return await ask(station)

    return get


# ----------------------------------------------------------------------------------------- of others

_PROCESSES: Final = ("station", "gateway", "installer")


def _log(config: Config, process: str, name: str, wanted: Wanted) -> Get:
    path = log_file(config.station.log_folder(process), name)

    def read() -> bytes:
        reader = RingReader(path)
        try:
            lines = reader.last(LOG_LINES_MAX)
        finally:
            reader.close()
        kept = [line for line in lines if _is_wanted(line, wanted)]
        if not kept:
            raise NotToBeHad(f"no lines of that time in {path}")
        return "".join(f"{line}\n" for line in kept).encode()

    return _later(read)


def _is_wanted(line: str, wanted: Wanted) -> bool:
    """By the time it says; a line that does not say any is kept."""
    try:
        at = datetime.fromisoformat(json.loads(line)["timestamp"])
        return wanted.oldest_wall_ms <= at.timestamp() * 1_000 <= wanted.latest_wall_ms
    except (ValueError, TypeError, LookupError, RecursionError):
        return True


def _installer(config: Config) -> bytes:
    if config.update is None:
        raise NotToBeHad("this station is configured without updates")
    from agent.firmware.client import InstallerClient  # most stations are never asked for this

    with InstallerClient(config.station.installer_socket) as client:
        return _json(to_plain(client.status()))


def _device(config: Config) -> Sequence[tuple[str, Get]]:
    folders = (config.station.data_dir, config.station.run_dir)
    return [
        ("system/versions.json", _later(device_facts.versions)),
        ("system/disks.json", _later(lambda: device_facts.disks(folders))),
        ("system/units.txt", _later(device_facts.units)),
        *((f"system/{name}.txt", _later(device_facts.file(f"/proc/{name}"))) for name in _PROC_FILES),
        ("system/journal.txt", _later(device_facts.journal)),
        ("system/dmesg.txt", _later(device_facts.kernel_log)),
    ]


_PROC_FILES: Final = ("meminfo", "loadavg", "uptime", "mounts")


def plain_configuration(config: Config) -> Any:
    """The configuration as it holds, without secrets and whole tokens."""
    plain = masked(_plain(config), _TOKENS)
    for token in plain["token"]:
        token["id"] = mask_token(token["id"])
    return plain


def _plain(value: Any) -> Any:
    """Dataclasses to JSON-able values; whatever JSON does not know, as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _later(work: Callable[[], bytes]) -> Get:
    async def get() -> bytes:
        return await asyncio.to_thread(work)

    return get


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _rfc3339(wall_ms: int) -> str:
    text = datetime.fromtimestamp(wall_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
