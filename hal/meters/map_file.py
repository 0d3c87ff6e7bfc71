"""Register maps as TOML files: read one, check it whole, build a ``RegisterMap``.

Charter: one file per meter family lies beside this module and ships with the package. Every mistake
in one is told with the map's name and the key, so that adding a meter needs no reading of code.

Layout of a file::

    model = "..."            source = "document or code the addresses come from"
    function = 4             type = "f32"           word_order = "big"      # defaults of each register
    max_registers = 80       energy_step_mwh = 10_000
    [quantities]             # keys: registers.Quantity; energy_import and power are required
    power = { address = 0x0034, unit = "W", min = -150_000, max = 150_000 }   # also divide, type, ...
    [serial]                 # optional; without it the configured number is used
    address = 0xFC00         function = 3           type = "u32"      # or "chars", with registers = 7

Units: ``min`` and ``max`` are in the quantity's ``unit`` (Wh, kWh, W, kW, V, A, Hz); the value is
raw / ``divide`` in that unit.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from fractions import Fraction
from importlib import resources
from typing import Any

from hal.meters.registers import FORMATS, TEXT, Quantity, Register, RegisterMap, RegisterMapError

_PROTOCOL_MAX_REGISTERS = 125  # of one read, Modbus Application Protocol V1.1b3 section 6.3
_LAST_ADDRESS = 0xFFFF
_MAX_SERIAL_REGISTERS = 32
_INHERITED = ("function", "type", "word_order")
_REQUIRED = (Quantity.ENERGY_IMPORT, Quantity.POWER)

# First word of the quantity's name -> unit -> how many port units (mWh, mW, mV, mA, mHz) it is.
_PORT_UNITS: dict[str, dict[str, int]] = {
    "energy": {"Wh": 1_000, "kWh": 1_000_000},
    "power": {"W": 1_000, "kW": 1_000_000},
    "voltage": {"V": 1_000},
    "current": {"A": 1_000},
    "frequency": {"Hz": 1_000},
}


@functools.cache  # bounded by the maps there are: of an unknown one nothing is kept
def load_map(name: str) -> RegisterMap:
    """The packaged map ``name`` (its file name without ``.toml``). Raises ``RegisterMapError``."""
    folder = resources.files("hal.meters")
    known = sorted(each.name.removesuffix(".toml") for each in folder.iterdir() if each.name.endswith(".toml"))
    if name not in known:
        raise RegisterMapError(f"no register map {name!r}; known maps: {', '.join(known)}")
    return parse_map(name, (folder / f"{name}.toml").read_text("utf-8"))


def parse_map(name: str, text: str) -> RegisterMap:
    """Check and build a map from TOML text. Raises ``RegisterMapError`` naming map and key."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, lists in lists in lists
        raise RegisterMapError(f"{name}: not valid TOML: {error}") from None
    table = _Table(f"{name}: ", data)
    inherited = table.take_present(_INHERITED)
    quantities = table.sub_table("quantities")
    serial = table.sub_table("serial", inherited) if "serial" in data else None
    result = RegisterMap(
        name=name,
        model=table.text("model"),
        source=table.text("source"),
        max_registers=table.integer("max_registers", 1, _PROTOCOL_MAX_REGISTERS),
        energy_step_mwh=table.integer("energy_step_mwh", 1, 10_000_000),
        quantities={
            quantities.as_quantity(key): _quantity(key, quantities.sub_table(key, inherited)) for key in quantities.keys
        },
        serial=None if serial is None else _serial(serial),
    )
    table.finish()
    _check_whole(result)
    return result


def _quantity(key: str, table: _Table) -> Register:
    units = _PORT_UNITS[key.partition("_")[0]]
    port_units = units[table.one_of("unit", tuple(units))]
    register = Register(
        function=table.integer("function", 3, 4),
        address=table.integer("address", 0, _LAST_ADDRESS),
        type=table.one_of("type", tuple(FORMATS)),
        word_order=table.one_of("word_order", ("big", "little")),
        port_units=port_units,
        divide=table.integer("divide", 1, 1_000_000, default=1),
        low=table.number("min") * port_units,
        high=table.number("max") * port_units,
    )
    table.finish()
    if register.low >= register.high:
        raise table.error("max", "must be greater than min")
    return register


def _serial(table: _Table) -> Register:
    kind = table.one_of("type", ("u16", "u32", "u64", TEXT))
    register = Register(
        function=table.integer("function", 3, 4),
        address=table.integer("address", 0, _LAST_ADDRESS),
        type=kind,
        word_order=table.one_of("word_order", ("big", "little")),
        text_registers=table.integer("registers", 1, _MAX_SERIAL_REGISTERS) if kind == TEXT else 0,
    )
    table.finish()
    return register


def _check_whole(meter: RegisterMap) -> None:
    """What no single key can be blamed for alone: required quantities, width, overlap."""
    for needed in _REQUIRED:
        if needed not in meter.quantities:
            raise RegisterMapError(f"{meter.name}: quantities.{needed}: missing")
    previous: tuple[str, Register] | None = None
    for key, register in sorted(meter.quantities.items(), key=lambda each: (each[1].function, each[1].address)):
        if register.width > meter.max_registers:
            raise RegisterMapError(f"{meter.name}: quantities.{key}: wider than max_registers {meter.max_registers}")
        if register.end > _LAST_ADDRESS + 1:
            raise RegisterMapError(f"{meter.name}: quantities.{key}: ends beyond the last address")
        if previous is not None and previous[1].function == register.function and previous[1].end > register.address:
            raise RegisterMapError(f"{meter.name}: quantities.{key}: overlaps quantities.{previous[0]}")
        previous = key, register


def _shown(value: object) -> str:
    """A found value, bounded in length."""
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):
        return "more than can be shown"


class _Table:
    """A TOML table being consumed: every key must be known, of the right type, and used."""

    def __init__(self, where: str, data: Mapping[str, Any]) -> None:
        self._where = where
        self._left = dict(data)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._left)

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"must be text, not {_shown(value)}")
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(key, f"must be a whole number from {low} to {high}, not {_shown(value)}")
        return value

    def number(self, key: str) -> Fraction:
        value = self._take(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.error(key, f"must be a number, not {_shown(value)}")
        try:
            return Fraction(value)
        except (ValueError, OverflowError):
            raise self.error(key, "must be finite") from None

    def one_of(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self._take(key)
        if value not in allowed:
            raise self.error(key, f"must be one of {', '.join(allowed)}, not {_shown(value)}")
        return str(value)

    def as_quantity(self, key: str) -> Quantity:
        try:
            return Quantity(key)
        except ValueError:
            raise self.error(key, f"unknown quantity; known are {', '.join(Quantity)}") from None

    def sub_table(self, key: str, defaults: Mapping[str, Any] | None = None) -> _Table:
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table, not {_shown(value)}")
        return _Table(f"{self._where}{key}.", dict(defaults or {}) | value)

    def take_present(self, keys: tuple[str, ...]) -> dict[str, Any]:
        return {key: self._left.pop(key) for key in keys if key in self._left}

    def finish(self) -> None:
        """Nothing may be left over: an unknown key is a mistake, not a comment."""
        if self._left:
            raise self.error(min(self._left), "unknown key")

    def error(self, key: str, problem: str) -> RegisterMapError:
        return RegisterMapError(f"{self._where}{key}: {problem}")

    def _take(self, key: str, default: Any = None) -> Any:
        value = self._left.pop(key, default)
        if value is None:
            raise self.error(key, "missing")
        return value
