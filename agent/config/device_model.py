"""The one store of settings, shaped like the OCPP 2.x device model.

Charter: names, validation, statuses and reports; OCPP 1.6 configuration keys are a view on it, made
elsewhere. No I/O: the station writes ``persistent()`` to disk (and does so before it confirms a
change: ``check`` tells the outcome without any effect), the gateway keeps a read copy made by
``from_snapshot``. Values are canonical text; the typed getters are for the program's own use and
raise ``KeyError`` for a setting that does not exist, which is an error of the program.

Secrets are the WriteOnly variables: in no report, and in ``snapshot`` only where asked for by name.
Sources: OCPP 2.0.1 B05-B08 (checklist 2.2), SetVariableStatusEnumType, GetVariableStatusEnumType.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from agent.config.variable import BadValue, DataType, Key, Mutability, VariableSpec

Provider = Callable[[], str]


class SetStatus(enum.StrEnum):
    """OCPP 2.0.1 SetVariableStatusEnumType."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    UNKNOWN_COMPONENT = "UnknownComponent"
    UNKNOWN_VARIABLE = "UnknownVariable"
    NOT_SUPPORTED_ATTRIBUTE_TYPE = "NotSupportedAttributeType"
    REBOOT_REQUIRED = "RebootRequired"

    @property
    def stored(self) -> bool:
        return self in (SetStatus.ACCEPTED, SetStatus.REBOOT_REQUIRED)


class GetStatus(enum.StrEnum):
    """OCPP 2.0.1 GetVariableStatusEnumType."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    UNKNOWN_COMPONENT = "UnknownComponent"
    UNKNOWN_VARIABLE = "UnknownVariable"
    NOT_SUPPORTED_ATTRIBUTE_TYPE = "NotSupportedAttributeType"


class ReportBase(enum.StrEnum):
    """OCPP 2.0.1 ReportBaseEnumType."""

    CONFIGURATION = "ConfigurationInventory"  # everything an operator can set
    FULL = "FullInventory"
    SUMMARY = "SummaryInventory"  # availability and present problems


@dataclass(frozen=True, slots=True)
class SetResult:
    """``key`` (our spelling) and ``value`` (canonical) stand where the status says "stored";
    ``reason`` says in plain words why not, without repeating the value."""

    status: SetStatus
    key: Key | None = None
    value: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GetResult:
    status: GetStatus
    value: str | None = None


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """One variable in a report. ``value`` is None for WriteOnly ones."""

    key: Key
    spec: VariableSpec
    value: str | None


class DeviceModel:
    """All settings of a station.

    ``specs`` in the order of reports; ``stored`` as ``persistent`` gave it before the restart, by key
    text; ``providers`` compute ReadOnly values on demand. A stored value that is no longer valid (the
    software changed) is left aside and named in ``discarded``: a station starts with any store."""

    def __init__(
        self,
        specs: Mapping[Key, VariableSpec],
        stored: Mapping[str, str] | None = None,
        providers: Mapping[Key, Provider] | None = None,
    ) -> None:
        self._specs = dict(specs)
        self._by_folded = {key.folded(): key for key in self._specs}
        self._components = {key.folded().of_component() for key in self._specs}
        self._providers = dict(providers or {})
        self._values: dict[Key, str] = {}
        self.discarded: tuple[str, ...] = ()
        assert len(self._by_folded) == len(self._specs), "two settings differ in case only"
        assert all(key in self._specs for key in self._providers), "a provider for an unknown setting"
        for key, spec in self._specs.items():
            assert spec.mutability is Mutability.WRITE_ONLY or spec.canonical(spec.default) == spec.default, key
        self.discarded = tuple(text for text, value in (stored or {}).items() if not self._restore(text, value))

    @classmethod
    def from_snapshot(cls, specs: Mapping[Key, VariableSpec], snapshot: Mapping[str, str]) -> DeviceModel:
        """A read copy: the values of ``snapshot`` instead of providers, ReadOnly ones included."""
        copy = cls(specs)
        copy.apply(snapshot)
        return copy

    def apply(self, values: Mapping[str, str]) -> None:
        """Take over values of another model of the same station, by key text; unknown keys are left."""
        for text, value in values.items():
            key = self.find(Key.parse(text))
            if key is not None:
                self._values[key] = value

    # ------------------------------------------------------------------------------ names

    def find(self, key: Key) -> Key | None:
        """The key in our spelling, or None."""
        return self._by_folded.get(key.folded())

    def spec(self, key: Key) -> VariableSpec:
        return self._specs[self._own(key)]

    def keys(self) -> Iterator[Key]:
        return iter(self._specs)

    # ------------------------------------------------------------------------ from outside

    def check(self, key: Key, value: str, attribute: str = "Actual") -> SetResult:
        """What ``set`` would answer; changes nothing (B05)."""
        own = self.find(key)
        if own is None:
            return SetResult(self._unknown(key), reason=f"no setting {key}")
        if attribute != "Actual":
            return SetResult(SetStatus.NOT_SUPPORTED_ATTRIBUTE_TYPE, reason="only the attribute Actual exists")
        spec = self._specs[own]
        if spec.mutability is Mutability.READ_ONLY:
            return SetResult(SetStatus.REJECTED, reason="read-only")
        try:
            canonical = spec.canonical(value)
        except BadValue as error:
            return SetResult(SetStatus.REJECTED, reason=f"expected {error}")
        status = SetStatus.REBOOT_REQUIRED if spec.reboot_required else SetStatus.ACCEPTED
        return SetResult(status, own, canonical)

    def set(self, key: Key, value: str, attribute: str = "Actual") -> SetResult:
        """Set a value as the CSMS or a technician does."""
        result = self.check(key, value, attribute)
        if result.key is not None and result.value is not None:
            self._values[result.key] = result.value
        return result

    def get(self, key: Key, attribute: str = "Actual") -> GetResult:
        """Read a value as the CSMS or a technician does (B06): WriteOnly is Rejected."""
        own = self.find(key)
        if own is None:
            return GetResult(GetStatus(self._unknown(key).value))
        if attribute != "Actual":
            return GetResult(GetStatus.NOT_SUPPORTED_ATTRIBUTE_TYPE)
        if self._specs[own].mutability is Mutability.WRITE_ONLY:
            return GetResult(GetStatus.REJECTED)
        return GetResult(GetStatus.ACCEPTED, self.text(own))

    def report(self, base: ReportBase) -> list[ReportEntry]:
        """The entries of a base report (B07), in the catalogue's order."""
        return [entry for entry in self._entries() if _belongs(entry, base)]

    # ------------------------------------------------------------------------ for ourselves

    def put(self, key: Key, value: str) -> bool:
        """Set a value as the station itself, whatever its mutability; True if it changed.

        Raises ``BadValue`` for a text that is no value of the variable."""
        own = self._own(key)
        canonical = self._specs[own].canonical(value)
        changed = self.text(own) != canonical
        self._values[own] = canonical
        return changed

    def provide(self, key: Key, provider: Provider) -> None:
        """Compute the value of ``key`` from now on; it takes the place of any stored value."""
        self._providers[self._own(key)] = provider

    def text(self, key: Key) -> str:
        """The present value, secrets included."""
        own = self._own(key)
        provider = self._providers.get(own)
        if provider is not None:
            return provider()
        return self._values.get(own, self._specs[own].default)

    def integer(self, key: Key) -> int:
        assert self.spec(key).type is DataType.INTEGER, key
        return int(self.text(key))

    def decimal(self, key: Key) -> Decimal:
        assert self.spec(key).type in (DataType.DECIMAL, DataType.INTEGER), key
        return Decimal(self.text(key))

    def boolean(self, key: Key) -> bool:
        assert self.spec(key).type is DataType.BOOLEAN, key
        return self.text(key) == "true"

    def members(self, key: Key) -> tuple[str, ...]:
        """The entries of a list, in order."""
        assert self.spec(key).type.is_list, key
        text = self.text(key)
        return tuple(text.split(",")) if text else ()

    # ------------------------------------------------------------------------ disk and IPC

    def persistent(self) -> dict[str, str]:
        """What must outlive a restart, by key text: every value that was set, secrets included."""
        return {str(key): value for key, value in self._values.items() if self._specs[key].persistent}

    def snapshot(self, *, secrets: bool = False) -> dict[str, str]:
        """All present values by key text, computed ones included. With ``secrets`` for the gateway
        alone, which needs the password; never for logs or diagnostics."""
        return {
            str(key): self.text(key)
            for key, spec in self._specs.items()
            if secrets or spec.mutability is not Mutability.WRITE_ONLY
        }

    # ------------------------------------------------------------------------------ inside

    def _own(self, key: Key) -> Key:
        own = self.find(key)
        if own is None:
            raise KeyError(str(key))
        return own

    def _unknown(self, key: Key) -> SetStatus:
        known = key.folded().of_component() in self._components
        return SetStatus.UNKNOWN_VARIABLE if known else SetStatus.UNKNOWN_COMPONENT

    def _restore(self, text: str, value: str) -> bool:
        """Take one stored value; False if the setting is gone or no longer takes it."""
        try:
            own = self.find(Key.parse(text))
            if own is None or not self._specs[own].persistent:
                return False
            self._values[own] = self._specs[own].canonical(value)
        except ValueError:  # BadValue, or a name no version of ours wrote
            return False
        return True

    def _entries(self) -> Iterator[ReportEntry]:
        for key, spec in self._specs.items():
            yield ReportEntry(key, spec, None if spec.mutability is Mutability.WRITE_ONLY else self.text(key))


def _belongs(entry: ReportEntry, base: ReportBase) -> bool:
    match base:
        case ReportBase.FULL:
            return True
        case ReportBase.CONFIGURATION:
            return entry.spec.mutability is not Mutability.READ_ONLY
        case ReportBase.SUMMARY:
            if entry.key.variable == "AvailabilityState":
                return True
            return entry.key.variable in ("Problem", "Tripped", "Operated") and entry.value == "true"


def with_defaults(specs: Mapping[Key, VariableSpec], defaults: Mapping[str, str]) -> dict[Key, VariableSpec]:
    """``specs`` with other factory defaults, by key text. Raises ``BadValue`` naming the setting.

    ReadOnly and WriteOnly variables keep theirs: a declared property is no choice, and a secret has
    no place in a configuration file."""
    changed = dict(specs)
    by_folded = {key.folded(): key for key in specs}
    for text, value in defaults.items():
        try:
            key = by_folded.get(Key.parse(text).folded())
        except ValueError:
            raise BadValue(f"{text}: expected a name as Component.Variable") from None
        if key is None:
            raise BadValue(f"{text}: expected the name of a setting of this station")
        if changed[key].mutability is not Mutability.READ_WRITE:
            raise BadValue(f"{text}: expected a ReadWrite setting, not a {changed[key].mutability} one")
        try:
            changed[key] = replace(changed[key], default=changed[key].canonical(value))
        except BadValue as error:
            raise BadValue(f"{text}: expected {error}") from None
    return changed
