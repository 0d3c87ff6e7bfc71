"""The set of installed profiles: install, clear, look up.

Charter: an immutable value; every change gives a new set, which the caller makes durable (``records``) before
it answers Accepted. Profiles survive reboots and lost links (16-SC-10); a TxProfile lives only as long as its
transaction (``keep_transactions``, called when one ends and after every boot). Time alone never removes a
profile: a clock that jumped must not be able to delete a limit, and where a limit lapsed the offline limit holds
(``composite``). An expired profile keeps nothing out, but for the id of a TxProfile or station maximum (2.0.1). It
leaves when another takes its place, is cleared as any, and makes way where all places are taken.

Rows: 16-SC-01, -02, -07, -09, -10; OCPP 2.0.1 K01, K09, K10.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.charging.profiles import ChargingProfile, Kind, LimitSource, Purpose
from agent.charging.rules import Capabilities, Reason, Refusal, Rules, check_profile
from agent.charging.timeline import expired


@dataclass(frozen=True, slots=True)
class Installed:
    """A profile in its place: EVSE (0: whole station), who installed it, and when by the wall clock of then."""

    evse_id: int
    profile: ChargingProfile
    source: LimitSource = LimitSource.CSO
    installed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Criteria:
    """What to select; None: any. All given criteria must match. ``evse_id`` 0 is the station itself."""

    ids: frozenset[int] | None = None
    evse_id: int | None = None
    purpose: Purpose | None = None
    stack_level: int | None = None
    sources: frozenset[LimitSource] | None = None

    def match(self, entry: Installed) -> bool:
        return (
            (self.ids is None or entry.profile.id in self.ids)
            and (self.evse_id is None or entry.evse_id == self.evse_id)
            and (self.purpose is None or entry.profile.purpose is self.purpose)
            and (self.stack_level is None or entry.profile.stack_level == self.stack_level)
            and (self.sources is None or entry.source in self.sources)
        )


@dataclass(frozen=True, slots=True)
class ProfileSet:
    """All installed profiles, in order of installation. ``unread``: what a newer release stored and this one cannot
    read (ADR 29); it does not hold, takes its place, and is stored again as it was."""

    entries: tuple[Installed, ...] = ()
    unread: tuple[Any, ...] = ()

    def install(
        self,
        profile: ChargingProfile,
        evse_id: int,
        *,
        rules: Rules,
        capabilities: Capabilities,
        running: Mapping[int, str],
        wall_ms: int,
        source: LimitSource = LimitSource.CSO,
    ) -> ProfileSet | Refusal:
        """The set with the profile in it, or why not. ``running``: transaction id by EVSE."""
        refusal = check_profile(
            profile, evse_id, rules=rules, capabilities=capabilities, wall_ms=wall_ms, source=source
        )
        if refusal is None and profile.purpose is Purpose.TX:
            refusal = _check_transaction(profile, evse_id, rules, running)
        if refusal is not None:
            return refusal
        new = Installed(evse_id, _bound(profile, evse_id, running, wall_ms), source, wall_ms)
        over = [entry for entry in self.entries if expired(entry.profile, wall_ms)]
        others = [entry for entry in self.entries if not _replaces(new, entry, rules, is_over=entry in over)]
        for other in others:
            if (refusal := _conflict(new, other, rules, is_over=other in over)) is not None:
                return refusal
        while (count := len(others) + len(self.unread)) >= capabilities.max_installed:
            oldest = next((entry for entry in others if entry in over and _has_another(entry, (*others, new))), None)
            if oldest is None:
                detail = f"{count} profiles are installed, at most {capabilities.max_installed}"
                return Refusal(Reason.TOO_MANY, "16-SC-07, K01", detail)
            others.remove(oldest)
        return replace(self, entries=(*others, new))

    def bind(self, profile: ChargingProfile, evse_id: int, transaction_id: str, wall_ms: int) -> ProfileSet:
        """The set with the TxProfile that came with the start of this transaction, in place of one with its id on this
        EVSE.

        That it may be installed was said when the start was asked for; now that energy may flow, nothing keeps it
        out any more. What else has its id by now limits something else, and stays."""
        new = Installed(evse_id, replace(profile, transaction_id=transaction_id), installed_ms=wall_ms)
        others = (entry for entry in self.entries if entry.profile.id != profile.id or _stack(entry) != _stack(new))
        return replace(self, entries=(*others, new))

    def hand_on(self, transaction_id: str, to: str) -> ProfileSet:
        """The set in which the TxProfiles of a transaction are those of another, which goes on with its session."""
        entries = (
            replace(entry, profile=replace(entry.profile, transaction_id=to))
            if entry.profile.transaction_id == transaction_id
            else entry
            for entry in self.entries
        )
        return replace(self, entries=tuple(entries))

    def clear(self, criteria: Criteria, *, source: LimitSource = LimitSource.CSO) -> tuple[ProfileSet, int]:
        """The set without the matching profiles, and how many matched (0: answer Unknown).

        An id stands alone: other criteria beside it are ignored (16-SC-09). Whoever clears reaches only
        what he installed himself; so the CSMS cannot clear external constraints (K10). What cannot be read goes when
        all is cleared.
        """
        wanted = criteria if criteria.ids is None else Criteria(ids=criteria.ids)
        kept = tuple(entry for entry in self.entries if entry.source is not source or not wanted.match(entry))
        unread = () if wanted == Criteria() else self.unread
        return ProfileSet(kept, unread), len(self.entries) - len(kept)

    def select(self, criteria: Criteria) -> tuple[Installed, ...]:
        """The matching profiles (K09); an empty answer is NoProfiles."""
        return tuple(entry for entry in self.entries if criteria.match(entry))

    def keep_transactions(self, running: Collection[str]) -> ProfileSet:
        """The set without the TxProfiles of all transactions but these."""
        kept = (
            entry
            for entry in self.entries
            if entry.profile.purpose is not Purpose.TX or entry.profile.transaction_id in running
        )
        return replace(self, entries=tuple(kept))


def _check_transaction(
    profile: ChargingProfile, evse_id: int, rules: Rules, running: Mapping[int, str]
) -> Refusal | None:
    if evse_id not in running:
        return Refusal(Reason.TX_NOT_FOUND, "16-SC-01, K01.FR.09", f"no transaction on EVSE {evse_id}")
    if profile.transaction_id is None:
        if rules is Rules.OCPP16:  # means the running one
            return None
        return Refusal(Reason.MISSING_PARAM, "K01.FR.03", "a TxProfile needs transactionId")
    if profile.transaction_id != running[evse_id]:
        detail = f"transaction {profile.transaction_id} does not run on EVSE {evse_id}"
        return Refusal(Reason.TX_NOT_FOUND, "16-SC-01, K01.FR.33", detail)
    return None


def _bound(profile: ChargingProfile, evse_id: int, running: Mapping[int, str], wall_ms: int) -> ChargingProfile:
    """The profile with what 1.6 leaves open: the transaction of a TxProfile is the running one, and a limit
    that no transaction could start, because it is not about one, starts when it is installed."""
    if profile.purpose is Purpose.TX:
        return replace(profile, transaction_id=running[evse_id])
    if profile.purpose is not Purpose.TX_DEFAULT and profile.schedule.start_ms is None:
        return replace(profile, kind=Kind.ABSOLUTE, schedules=(replace(profile.schedule, start_ms=wall_ms),))
    return profile


def _replaces(new: Installed, old: Installed, rules: Rules, *, is_over: bool) -> bool:
    """Whether ``old`` leaves for ``new``.

    1.6: same id or same stack level, of one purpose and EVSE (which has one transaction at a time). 16-SC-02 has the id
    alone replace, but CSMSs use one id for all connectors: evcc, which is to work with no switch set, would lift the
    pause of connector 1 with its limit for connector 2. So both are kept, and no limit goes that nobody cleared.

    2.0.1: same id, which is unique in the station (K01.FR.05), unless the limit of another transaction or of the whole
    station would go that way (``_conflict``). Else one that is over goes, whoever's its id was, also for its place."""
    same_id = new.profile.id == old.profile.id
    if rules is Rules.OCPP16:
        return _stack(new) == _stack(old) and (same_id or _same_place(new, old))
    if same_id:
        return (is_over or old.source is new.source) and not _must_stay(old, new)
    return is_over and _same_place(new, old)


def _must_stay(old: Installed, new: Installed) -> bool:
    """Whether another purpose or EVSE must not take its id. A TxProfile that is installed has a running transaction."""
    return old.profile.purpose in (Purpose.TX, Purpose.STATION_MAX) and _stack(old) != _stack(new)


def _has_another(entry: Installed, all_of_them: Iterable[Installed]) -> bool:
    """Whether its stack is told of by another, too: with the last one its lapse would be forgotten."""
    return any(other is not entry and _stack(other) == _stack(entry) for other in all_of_them)


def _stack(entry: Installed) -> tuple[Purpose, int, LimitSource]:
    return entry.profile.purpose, entry.evse_id, entry.source


def _same_place(one: Installed, other: Installed) -> bool:
    return _stack(one) == _stack(other) and one.profile.stack_level == other.profile.stack_level


def _conflict(new: Installed, old: Installed, rules: Rules, *, is_over: bool) -> Refusal | None:
    """Why ``old``, which ``new`` does not replace, keeps it out."""
    if rules is Rules.OCPP16:
        return None
    if old.profile.id == new.profile.id:
        detail = f"id {new.profile.id} is a {old.profile.purpose} of {old.source} on EVSE {old.evse_id}"
        return Refusal(Reason.DUPLICATE, "K01.FR.05", detail)
    if is_over:
        return None
    clash = f"profile {old.profile.id} has stackLevel {old.profile.stack_level}"
    if _same_place(new, old) and _valid_together(new.profile, old.profile):
        rule = "K01.FR.39" if new.profile.purpose is Purpose.TX else "K01.FR.06"
        return Refusal(Reason.DUPLICATE, rule, f"{clash} at the same time on EVSE {old.evse_id}")
    both_default = new.profile.purpose is old.profile.purpose is Purpose.TX_DEFAULT
    if both_default and new.profile.stack_level == old.profile.stack_level and 0 in (new.evse_id, old.evse_id):
        if new.evse_id == old.evse_id:  # not valid at the same time
            return None
        rule = "K01.FR.52" if new.evse_id == 0 else "K01.FR.53"
        return Refusal(Reason.DUPLICATE, rule, f"{clash} as a TxDefaultProfile on EVSE {old.evse_id}")
    return None


def _valid_together(one: ChargingProfile, other: ChargingProfile) -> bool:
    if one.purpose is Purpose.TX:  # validity is not used with a TxProfile; its place is the transaction
        return one.transaction_id == other.transaction_id

    def begins_before_end(first: ChargingProfile, second: ChargingProfile) -> bool:
        return first.valid_from_ms is None or second.valid_to_ms is None or first.valid_from_ms < second.valid_to_ms

    return begins_before_end(one, other) and begins_before_end(other, one)
