"""What must hold between the values of a configuration.

Charter: one small function per subject, each returning all of its problems; single values are already
right when these run (``agent.config.fields``). Serial devices are not opened or looked for: a
configuration may be checked on another machine.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from agent.config.device_model import with_defaults
from agent.config.fields import FILE_THERE
from agent.config.model import CableKind, Config, ConnectorType, CsmsConfig, EvseConfig
from agent.config.money import Assignment
from agent.config.problem import Problem
from agent.config.station_model import bare_specs
from agent.config.tariff_files import tariff_problems
from agent.config.update import EngineKind, SelectorKind, UpdateConfig
from agent.config.variable import BadValue, Mutability
from agent.config.web import WebConfig
from hal.boards import BoardKind
from hal.meters.map_file import load_map
from hal.meters.registers import RegisterMapError

_AC_MINIMUM_MA = 6_000  # IEC 61851-1 Annex A: the pilot cannot offer less
_SOCKET_PATH_BYTES = 90  # of the 107 that a local socket's address may have; the rest is its file name
_DC_TYPES = (ConnectorType.C_CCS1, ConnectorType.C_CCS2, ConnectorType.C_GBT, ConnectorType.C_TESLA)


def contradictions(config: Config, board_files: Iterable[tuple[str, Path]] = ()) -> list[Problem]:
    """Every relation that does not hold. ``board_files``: key and path of each, since ``config`` has what they say."""
    problems = [*_station(config), *_evse_ids(config), *_buses(config), *_limits(config), *_tokens(config)]
    problems += [*_assignments(config), *tariff_problems(config.price, has_time_zone=config.station.has_time_zone)]
    for index, evse in enumerate(config.evse):
        problems += _evse(f"evse[{index}]", evse)
    if config.csms is not None:
        problems += _csms(config.csms)
    if config.update is not None:
        problems += _update(config.update)
    if config.web is not None:
        problems += _web(config.web)
    return [*problems, *_settings(config), *_out_of_sight(config, [*_files(config), *board_files])]


def _station(config: Config) -> Iterator[Problem]:
    if len(bytes(config.station.run_dir)) > _SOCKET_PATH_BYTES:
        yield Problem(
            "station.run_dir",
            f"at most {_SOCKET_PATH_BYTES} bytes, since a socket's path is short",
            str(config.station.run_dir),
            '"/run/evsed"',
        )


def _out_of_sight(config: Config, files: Iterable[tuple[str, Path]]) -> Iterator[Problem]:
    """Each process reads the whole configuration, with all files that it names; gateway and installer may not look into
    the station's own folder (mode 0700, and InaccessiblePaths= of their units)."""
    if config.csms is None and config.web is None and config.update is None:
        return  # the station is the only one
    own = config.station.data_dir
    for path, file in files:
        if Path(os.path.realpath(file)).is_relative_to(os.path.realpath(own)):
            wanted = f"a file elsewhere than in {own}, where only the station may look"
            yield Problem(path, wanted, str(file), f'"/etc/evsed/{file.name}"')


def _files(table: Any, path: str = "") -> Iterator[tuple[str, Path]]:
    """Key and path of every file that must be there."""
    for each in fields(table):
        value, rule, name = getattr(table, each.name), each.metadata.get("rule"), f"{path}{each.name}"
        if rule is not None and rule.expected == FILE_THERE and value is not None:
            yield name, value
        elif rule is None and isinstance(value, tuple):
            for index, inner in enumerate(value):
                yield from _files(inner, f"{name}[{index}].")
        elif rule is None and is_dataclass(value):
            yield from _files(value, f"{name}.")


def _update(update: UpdateConfig) -> Iterator[Problem]:
    for index, controller in enumerate(update.mcu):
        try:
            controller.settings()
        except ValueError as error:
            wanted = "page_bytes of a multiple of 256, pages of 4 MiB at most in all, and a version_offset within them"
            yield Problem(f"update.mcu[{index}]", wanted, str(error), "page_bytes = 2_048")
    if update.engine is EngineKind.RAUC:
        return
    if not update.slot:
        example = '[[update.slot]] with target = "rootfs", a = "/dev/mmcblk0p5", b = "/dev/mmcblk0p6"'
        yield Problem("update.slot", "at least one table", "nothing", example)
    places = Counter(path for each in update.slot for path in (each.a, each.b))
    for path, count in places.items():
        if count > 1:
            yield Problem("update.slot", "every device once", f"{count} times {path}")
    needed = {SelectorKind.TRYBOOT: ("tryboot", update.tryboot), SelectorKind.UBOOT: ("uboot", update.uboot)}
    name, table = needed.get(update.selector, ("", update))
    if table is None:
        yield Problem(f"update.{name}", "a table, since the selector needs it", "nothing", f"[update.{name}]")
    if update.tryboot is not None and update.tryboot.partition_a == update.tryboot.partition_b:
        yield Problem("update.tryboot", "two different partitions", f"twice {update.tryboot.partition_a}")
    uboot = update.uboot
    one_place = uboot is not None and uboot.environment_copy is None
    if uboot is not None and one_place and abs(uboot.offset_bytes - uboot.offset_copy_bytes) < uboot.size_bytes:
        where = "update.uboot.offset_copy_bytes"
        yield Problem(where, "two copies that do not overlap", str(uboot.offset_copy_bytes), "4_325_376")
    named = {"slot": [each.target for each in update.slot], "files": [each.name for each in update.files]}
    for kind, names in {**named, "mcu": [each.name for each in update.mcu]}.items():
        for each, count in Counter(names).items():
            if count > 1:
                yield Problem(f"update.{kind}", "each name once", f"twice {each!r}")


def _web(web: WebConfig) -> Iterator[Problem]:
    """A secret or a session must not go over a network in the clear."""
    secure = web.certificate_file is not None
    if not web.loopback and not secure:
        wanted = "a certificate, since the page is offered to the network"
        yield Problem("web.certificate_file", wanted, "nothing", 'certificate_file = "/etc/evsed/web.pem"')
    if secure != (web.key_file is not None):
        missing = "key_file" if secure else "certificate_file"
        yield Problem(f"web.{missing}", "a file, since the other of the two is named", "nothing")


def _evse_ids(config: Config) -> Iterator[Problem]:
    found = [each.id for each in config.evse]
    if not found:
        yield Problem("evse", "at least one table", "none", "[[evse]]")
    elif sorted(found) != list(range(1, len(found) + 1)):
        # OCPP 2.0.1 part 1 section 4.2: EVSEs are numbered from 1 without gaps.
        wanted = ", ".join(map(str, range(1, len(found) + 1)))
        yield Problem("evse", f"the ids {wanted}, each once", ", ".join(map(str, found)))


def _evse(path: str, evse: EvseConfig) -> Iterator[Problem]:
    limits = evse.board.limits
    if not limits.min_current_ma <= evse.max_current_ma <= limits.max_current_ma:
        yield Problem(
            f"{path}.max_current_ma",
            f"{limits.min_current_ma} to {limits.max_current_ma}, the limits of board {evse.board.name}",
            str(evse.max_current_ma),
            str(limits.max_current_ma),
        )
    if evse.phases > limits.phases:
        yield Problem(f"{path}.phases", f"at most {limits.phases}, as board {evse.board.name} has", str(evse.phases))
    try:
        load_map(evse.meter_map)
    except RegisterMapError as error:
        yield Problem(f"{path}.meter.map", "a register map of hal.meters", str(error), '"eastron_sdm630"')
    yield from _connector(path, evse)
    yield from _direct_current(path, evse) if evse.board.kind is BoardKind.DC else _alternating_current(path, evse)


def _connector(path: str, evse: EvseConfig) -> Iterator[Problem]:
    kind = evse.connector_type
    if kind.startswith("s") != (evse.cable is CableKind.SOCKET):
        right = CableKind.SOCKET if kind.startswith("s") else CableKind.FIXED
        yield Problem(f"{path}.cable", f'"{right}", which goes with connector_type "{kind}"', f'"{evse.cable}"')
    if (kind in _DC_TYPES) != (evse.board.kind is BoardKind.DC) and kind is not ConnectorType.C_TESLA:
        yield Problem(f"{path}.connector_type", f"a type for {evse.board.kind} (board {evse.board.name})", f'"{kind}"')
    pilot = evse.board.pilot
    if evse.cable is CableKind.SOCKET and pilot.driver.autonomous:
        # IEC 61851-1: what flows through a cable that somebody brings is bounded by its rating.
        wanted = f'"fixed", since board {evse.board.name} does not tell what a cable in a socket can carry'
        yield Problem(f"{path}.cable", wanted, '"socket"')
    elif evse.cable is CableKind.SOCKET and not pilot.lock:
        # IEC 61851-1: a Type 2 or 3 plug is locked in its socket while under load.
        yield Problem(f"{path}.cable", f'"fixed", since board {evse.board.name} has no lock', '"socket"')


def _alternating_current(path: str, evse: EvseConfig) -> Iterator[Problem]:
    for name, value in (("power", evse.power), ("fixed_output", evse.fixed_output)):
        if value is not None:
            yield Problem(f"{path}.{name}", f"no such table with the AC board {evse.board.name}", "one")


def _direct_current(path: str, evse: EvseConfig) -> Iterator[Problem]:
    if evse.power is None:
        yield Problem(f"{path}.power", f"a table with the DC board {evse.board.name}", "nothing", "[evse.power]")
    output, limits = evse.fixed_output, evse.board.limits
    if output is None:
        # Without ISO 15118 nobody tells us the vehicle's voltage: it must be written down.
        yield Problem(f"{path}.fixed_output", "a table with a DC board", "nothing", "[evse.fixed_output]")
        return
    low, high = limits.min_voltage_mv or 0, limits.max_voltage_mv or 0
    if not low <= output.voltage_mv <= high:
        yield Problem(
            f"{path}.fixed_output.voltage_mv",
            f"{low} to {high}, as board {evse.board.name} has",
            str(output.voltage_mv),
        )
    if output.current_ma > evse.max_current_ma:
        yield Problem(
            f"{path}.fixed_output.current_ma", f"at most max_current_ma {evse.max_current_ma}", str(output.current_ma)
        )
    if limits.max_power_w is not None and output.voltage_mv * output.current_ma > limits.max_power_w * 1_000_000:
        yield Problem(
            f"{path}.fixed_output",
            f"at most {limits.max_power_w} W, as board {evse.board.name} has",
            f"{output.voltage_mv * output.current_ma // 1_000_000} W",
        )


def _buses(config: Config) -> Iterator[Problem]:
    """A pilot owns its port; meters may share one if they speak alike and differ in unit id."""
    for (one, left), (two, right) in combinations(enumerate(config.evse), 2):
        if left.pilot.port == right.pilot.port:
            yield Problem(f"evse[{two}].pilot.port", f"another port than evse[{one}].pilot has", left.pilot.port)
        if left.meter.port == right.meter.port:
            yield from _shared_line(one, left, two, right)
        if left.power is None or right.power is None or left.power.channel != right.power.channel:
            continue
        both = sorted(set(left.power.modules) & set(right.power.modules))
        if both:
            yield Problem(f"evse[{two}].power.modules", f"modules that evse[{one}] does not have", str(both))
    for pilot, each in enumerate(config.evse):
        for meter, other in enumerate(config.evse):
            if each.pilot.port == other.meter.port:
                yield Problem(
                    f"evse[{meter}].meter.port", f"another port than evse[{pilot}].pilot has", each.pilot.port
                )


def _shared_line(one: int, left: EvseConfig, two: int, right: EvseConfig) -> Iterator[Problem]:
    if left.meter.unit == right.meter.unit:
        yield Problem(
            f"evse[{two}].meter.unit",
            f"another unit id than evse[{one}].meter has on {left.meter.port}",
            str(right.meter.unit),
        )
    if (left.meter_baud, left.meter_parity) != (right.meter_baud, right.meter_parity):
        yield Problem(
            f"evse[{two}].meter",
            f"{left.meter_baud} baud, parity {left.meter_parity}, as evse[{one}].meter on the same line",
            f"{right.meter_baud} baud, parity {right.meter_parity}",
        )


def _limits(config: Config) -> Iterator[Problem]:
    offline = config.limits.offline_current_ma
    if (
        offline is not None
        and 0 < offline < _AC_MINIMUM_MA
        and any(each.board.kind is BoardKind.AC for each in config.evse)
    ):
        yield Problem("limits.offline_current_ma", f"0 (pause) or at least {_AC_MINIMUM_MA}", str(offline), "6_000")


def _tokens(config: Config) -> Iterator[Problem]:
    counted = Counter(each.id.casefold() for each in config.token)
    for index, token in enumerate(config.token):
        if counted[token.id.casefold()] > 1:
            yield Problem(f"token[{index}].id", "each token once, whatever its case", token.id)
    if config.csms is None and not config.token and not config.auth.free:
        yield Problem(
            "auth.free", "true, or a [csms], or a [[token]]: else nobody can charge", "none of them", "free = true"
        )


def _assignments(config: Config) -> Iterator[Problem]:
    evses = {each.id for each in config.evse}
    for index, each in enumerate(config.price.assign):
        path = f"price.assign[{index}]"
        if each.evse is not None and each.evse not in evses:
            yield Problem(f"{path}.evse", f"one of the EVSEs {', '.join(map(str, sorted(evses)))}", str(each.evse))
        gives = (each.tariff, each.max_cost, each.max_energy_wh, each.max_time_s)
        if gives == (None, None, None, None):
            wanted = "a tariff, max_cost, max_energy_wh or max_time_s"
            yield Problem(path, wanted, "none of them", 'tariff = "flat.json"')
        if each.max_cost is not None and not _is_priced(config, each):
            wanted = "a tariff beside it, price.tariff, price.live_tariff or a [csms]: else nothing says what is spent"
            yield Problem(f"{path}.max_cost", wanted, "none of them", 'tariff = "flat.json"')


def _is_priced(config: Config, limited: Assignment) -> bool:
    """Whether anything may price a transaction that this limits: a CSMS may send tariffs."""
    price = config.price
    if price.tariff is not None or price.live_tariff is not None or config.csms is not None:
        return True
    return any(each.tariff is not None and _may_meet(each, limited) for each in price.assign)


def _may_meet(one: Assignment, other: Assignment) -> bool:
    """Whether one transaction may fit both. Which tokens are in a group, nobody knows here."""
    tokens, groups = (one.token, other.token), (one.group, other.group)
    same = all(None in pair or len({str(each).casefold() for each in pair}) == 1 for pair in (tokens, groups))
    return same and (None in (one.evse, other.evse) or one.evse == other.evse)


def _csms(csms: CsmsConfig) -> Iterator[Problem]:
    """Security profiles of checklist 16-SEC-01: 0 none, 1 password, 2 TLS and password, 3 TLS and certificate."""
    secure = csms.url.startswith("wss://")
    if csms.security_profile >= 2 and not secure:
        yield Problem("csms.url", f"wss:// with security_profile {csms.security_profile}", csms.url)
    if csms.security_profile == 1 and secure:
        yield Problem("csms.security_profile", "2 (password and TLS) with a wss:// url", "1", "2")
    if csms.security_profile in (1, 2) and csms.password_file is None:
        yield Problem(
            "csms.password_file",
            f"a file with security_profile {csms.security_profile}",
            "nothing",
            'password_file = "/etc/evsed/csms.password"',
        )
    if csms.security_profile == 0 and csms.password_file is not None:
        yield Problem("csms.security_profile", "1 or 2 where a password_file is given", "0", "2" if secure else "1")
    for name in ("client_certificate_file", "client_key_file"):
        present = getattr(csms, name) is not None
        if present != (csms.security_profile == 3):
            wanted = "a file with security_profile 3" if not present else "no file unless security_profile is 3"
            yield Problem(f"csms.{name}", wanted, "one" if present else "nothing")


def _settings(config: Config) -> Iterator[Problem]:
    """Each line by itself, so that every bad one is told."""
    if not config.evse:
        return
    specs = bare_specs(config)
    secrets = {str(key).casefold() for key, spec in specs.items() if spec.mutability is Mutability.WRITE_ONLY}
    for name, value in config.settings.items():
        try:
            with_defaults(specs, {name: value})
        except BadValue as error:
            found = "a secret" if name.casefold() in secrets else value
            yield Problem(f"settings.{name}", str(error).partition(": expected ")[2], found)
