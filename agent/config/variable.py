"""What one setting is: its name, type, limits and mutability, and whether a text is a value of it.

Charter: the vocabulary of the OCPP 2.x device model (2.0.1 part 1 section 4, VariableCharacteristics
and VariableAttribute), for the Actual attribute only; we offer no Target, MinSet or MaxSet. Values
are kept as canonical text, since that is what goes over the wire and to disk.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation

VALUE_SIZE = 1_000  # DeviceDataCtrlr.ConfigurationValueSize: the longest value that may be set

_KEY = re.compile(
    r"(?P<component>[^.\[\]@:]+)(\[(?P<component_instance>[^\[\]]+)\])?(@(?P<evse>\d+)(:(?P<connector>\d+))?)?"
    r"\.(?P<variable>[^.\[\]@:]+)(\[(?P<instance>[^\[\]]+)\])?"
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")
_HEX = re.compile(r"([0-9a-fA-F]{2})+")


def is_hex(text: str) -> bool:
    """Whether these are the hex digits of whole bytes, and nothing else."""
    return _HEX.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Key:
    """The name of a setting. Names and instances compare case-insensitively (use ``folded``)."""

    component: str
    variable: str
    instance: str | None = None
    evse: int | None = None
    connector: int | None = None
    component_instance: str | None = None

    def __str__(self) -> str:
        """``Component[instance]@evse:connector.Variable[instance]``, absent parts left out."""
        component = (
            self.component if self.component_instance is None else f"{self.component}[{self.component_instance}]"
        )
        where = "" if self.evse is None else f"@{self.evse}"
        where += "" if self.connector is None else f":{self.connector}"
        return f"{component}{where}.{self.variable}" + ("" if self.instance is None else f"[{self.instance}]")

    @classmethod
    def parse(cls, text: str) -> Key:
        """The reverse of ``str``. Raises ``ValueError``."""
        match = _KEY.fullmatch(text)
        if match is None:
            raise ValueError(f"not a setting's name: {text!r} (wanted: Component.Variable)")
        parts = match.groupdict()
        return cls(
            component=parts["component"],
            variable=parts["variable"],
            instance=parts["instance"],
            evse=None if parts["evse"] is None else int(parts["evse"]),
            connector=None if parts["connector"] is None else int(parts["connector"]),
            component_instance=parts["component_instance"],
        )

    def folded(self) -> Key:
        """The same key in the one spelling used for comparison."""
        return Key(
            self.component.casefold(),
            self.variable.casefold(),
            None if self.instance is None else self.instance.casefold(),
            self.evse,
            self.connector,
            None if self.component_instance is None else self.component_instance.casefold(),
        )

    def of_component(self) -> Key:
        """The component alone: the same key without variable."""
        return Key(self.component, "", None, self.evse, self.connector, self.component_instance)


class DataType(enum.StrEnum):
    """OCPP 2.0.1 DataEnumType."""

    STRING = "string"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE_TIME = "dateTime"
    OPTION_LIST = "OptionList"  # one of the values
    MEMBER_LIST = "MemberList"  # any of the values, order without meaning
    SEQUENCE_LIST = "SequenceList"  # any of the values, in order of preference

    @property
    def is_list(self) -> bool:
        return self in (DataType.MEMBER_LIST, DataType.SEQUENCE_LIST)


class Mutability(enum.StrEnum):
    """OCPP 2.0.1 MutabilityEnumType."""

    READ_ONLY = "ReadOnly"
    WRITE_ONLY = "WriteOnly"
    READ_WRITE = "ReadWrite"


class BadValue(ValueError):
    """A text is no value of the variable; the message says what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableSpec:
    """``minimum`` and ``maximum`` bound the value of numbers, the length of strings and the number of
    entries of lists. ``persistent``: a set value outlives a restart. ``reboot_required``: a set value
    is stored at once and takes effect at the next start. ``hexadecimal``: a string of the digits of whole bytes."""

    type: DataType
    default: str
    mutability: Mutability = Mutability.READ_ONLY
    minimum: int | None = None
    maximum: int | None = None
    values: tuple[str, ...] = ()
    unit: str | None = None
    persistent: bool = True
    reboot_required: bool = False
    hexadecimal: bool = False

    @property
    def max_limit(self) -> int | None:
        """``maxLimit`` as reported: of lists the length of the longest CSV text."""
        if self.type.is_list or self.type is DataType.OPTION_LIST:
            longest = sorted(map(len, self.values), reverse=True)[: self.max_entries]
            return sum(longest) + len(longest) - 1
        return self.maximum

    @property
    def min_limit(self) -> int | None:
        """``minLimit`` as reported; lists have none."""
        return None if self.values else self.minimum

    @property
    def max_entries(self) -> int:
        """Of lists: how many entries fit (the ...MaxLength keys of OCPP 1.6)."""
        if self.type is DataType.OPTION_LIST:
            return 1
        return len(self.values) if self.maximum is None else self.maximum

    def canonical(self, text: str) -> str:
        """``text`` in its one canonical spelling. Raises ``BadValue``."""
        if len(text) > VALUE_SIZE:
            raise BadValue(f"at most {VALUE_SIZE} characters")
        match self.type:
            case DataType.STRING:
                return self._string(text)
            case DataType.INTEGER:
                return self._integer(text)
            case DataType.DECIMAL:
                return self._decimal(text)
            case DataType.BOOLEAN:
                if text.strip().lower() not in ("true", "false"):
                    raise BadValue("true or false")
                return text.strip().lower()
            case DataType.DATE_TIME:
                return _date_time(text)
            case DataType.OPTION_LIST:
                return self._one_of(text.strip())
            case DataType.MEMBER_LIST | DataType.SEQUENCE_LIST:
                return self._list(text)

    def _string(self, text: str) -> str:
        low, high = self.minimum or 0, VALUE_SIZE if self.maximum is None else self.maximum
        if not low <= len(text) <= high or not text.isprintable():
            raise BadValue(f"{low} to {high} printable characters")
        if self.hexadecimal and not is_hex(text):
            raise BadValue("hexadecimal digits, two for each byte")
        return text

    def _integer(self, text: str) -> str:
        if _INTEGER.fullmatch(text.strip()) is None:
            raise BadValue("a whole number")
        number = int(text)
        self._check_range(Decimal(number))
        return str(number)

    def _decimal(self, text: str) -> str:
        if _DECIMAL.fullmatch(text.strip()) is None:
            raise BadValue("a decimal number")
        try:
            number = Decimal(text.strip())
        except InvalidOperation:
            raise BadValue("a decimal number") from None
        self._check_range(number)
        return format(number, "f")

    def _check_range(self, number: Decimal) -> None:
        if self.minimum is not None and number < self.minimum:
            raise BadValue(f"at least {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise BadValue(f"at most {self.maximum}")

    def _one_of(self, text: str) -> str:
        for value in self.values:
            if value.casefold() == text.casefold():
                return value
        raise BadValue(f"one of {', '.join(self.values)}")

    def _list(self, text: str) -> str:
        entries = [self._one_of(each.strip()) for each in text.split(",")] if text.strip() else []
        if len(set(entries)) != len(entries):
            raise BadValue("no entry twice")
        if not (self.minimum or 0) <= len(entries) <= self.max_entries:
            raise BadValue(f"{self.minimum or 0} to {self.max_entries} entries")
        return ",".join(entries)


def _date_time(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadValue("a date and time (RFC 3339)") from None
    if moment.tzinfo is None:
        raise BadValue("a date and time with its offset from UTC")
    return text.strip()
