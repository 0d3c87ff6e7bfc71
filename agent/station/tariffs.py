"""Which tariff holds: the site's own, those of the CSMS, and who has one to himself.

Charter: pure. Knows tariffs by the hash of their content; their texts are in the ledger, and what is
installed where is small state beside it. Chooses the tariff of a new transaction, and says whether a
change concerns those that run. Prices nothing.

Order (metering reference 3.5): a tariff or limit that the site gives a token or group, the CSMS's default
of the EVSE, its default of all EVSEs, the site's live tariff, the site's tariff. A default of the CSMS may
lie in the future; it then replaces the older one by itself. The older one stays here, out of sight: the time that
made it old may have been wrong. No other tariff counts before its ``validFrom`` either: the one before the live
tariff goes on until then, in place of the site's the next in order counts. Where nobody knows the time and no live
tariff surely holds, the machine's clock says which does, since its file is written by that clock, too. Where no CSMS is
configured, the defaults of one that was price nothing. A running transaction keeps its tariff: only
``ChangeTransactionTariff`` reaches it, and where the site priced it, the live tariff (a price that follows a market).

Sources: OCPP 2.1 I07 to I10 (SetDefaultTariff, GetTariffs, ClearTariffs, ChangeTransactionTariff).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from agent.auth.token import fold, same_group
from agent.config.built import BUILD_TIME_MS
from agent.config.money import Assignment, PriceConfig
from agent.core.facts import TariffFact, Token
from agent.ipc.port import TariffAssignment
from agent.ledger.state import Namespace, Put
from agent.tariff.canonical import canonical, read
from agent.tariff.check import goes_by_local_time, not_yet
from agent.tariff.model import Tariff
from agent.tariff.parse import content_hash, parse_tariff
from agent.tariff.problem import Problem, TariffError

ALL_EVSES = 0
DEFAULTS_MAX = 64
PARSED_MAX = 256
AHEAD_MAX_MS: Final = 60_000  # so far the CSMS's clock may be ahead of ours before its next heartbeat puts that right
_KEY, _KNOWN, _LIVES = "defaults", "known_ms", "lives"
_SITE, _LIVE, _ASSIGNED, _CSMS = "site", "live", "assigned", "csms"  # who brought a tariff first


@dataclass(frozen=True, slots=True)
class _Default:
    """A default tariff of the CSMS; ``evse`` 0 is all. ``from_wall_ms`` 0: from its arrival on."""

    evse: int
    content_hash: str
    from_wall_ms: int


class TariffBook:
    """The tariffs of one station. ``text_of`` and ``source_of`` find the text of a content hash in the ledger, and
    who brought it first. ``has_csms`` and ``has_zone``: whether the configuration names a CSMS, and a time zone."""

    def __init__(
        self,
        config: PriceConfig,
        evses: Iterable[int],
        text_of: Callable[[str], str | None],
        source_of: Callable[[str], str | None],
        stored: dict[str, str],
        *,
        has_csms: bool,
        has_zone: bool,
    ) -> None:
        self._config = config
        self._has_csms = has_csms
        self._has_zone = has_zone
        self._evses = tuple(evses)
        self._text_of = text_of
        self._source_of = source_of
        self._parsed: dict[str, Tariff] = {}
        self._new: dict[str, TariffFact] = {}  # learned by this process; they may still be on their way to disk
        self._hash_of_id: dict[str, str] = {}
        self._defaults = [_Default(*row[:3]) for row in json.loads(stored.get(_KEY, "[]"))]  # a newer release may add
        self._known_ms = int(stored.get(_KNOWN, "0"))  # so late it is, whatever the clock says: see ``settle``
        self._site: str | None = None
        self._live: str | None = None  # as its file says; see ``live``
        self._before: str | None = None  # that held when the live tariff came
        self._told_live: str | None = None  # see ``newly_live``
        self._lives: list[str] = json.loads(stored.get(_LIVES, "[]"))[:2]  # as kept last; see ``settle``
        self._last: str | None = None  # that was learned; whoever says it twice has said nothing new
        self._assigned: list[tuple[Assignment, str | None]] = []
        for each in self._defaults:
            if (tariff := self.tariff(each.content_hash)) is not None:
                self._hash_of_id[tariff.tariff_id] = each.content_hash

    # ------------------------------------------------------------------------------------ learning

    def read_site(self, read: Callable[[str], str]) -> list[TariffFact]:
        """Read the tariffs that the configuration names; those that are new are facts.

        Raises ``TariffError`` (a checked configuration has none)."""
        facts: list[TariffFact] = []
        if self._config.tariff is not None:
            self._site = self._learned(read(str(self._config.tariff)), _SITE, facts)
        for each in self._config.assign:
            content = None if each.tariff is None else self._learned(read(str(each.tariff)), _ASSIGNED, facts)
            self._assigned.append((each, content))
        return facts

    def learn_live(self, text: str) -> tuple[str, list[TariffFact]]:
        """What the live tariff's file says now, for ``newly_live``; its content hash and what is new. Raises
        ``TariffError``."""
        facts: list[TariffFact] = []
        return self._learned(text, _LIVE, facts), facts

    def learn(self, text: str, wall_ms: int) -> tuple[str, list[TariffFact]]:
        """A tariff of the CSMS that is to hold now, by its clock. Raises ``TariffError``."""
        tariff = parse_tariff(text, allow_negative=self._config.allow_negative)
        if early := not_yet(tariff, self._at_least_ms(wall_ms) + AHEAD_MAX_MS):
            raise TariffError([Problem(each.path, "a time that has come", each.text) for each in early])
        facts: list[TariffFact] = []
        return self._learned(text, _CSMS, facts), facts

    def _learned(self, text: str, source: str, facts: list[TariffFact]) -> str:
        """A content that comes back is a fact again: a cut that is under way removes what nobody used when it began.
        The site's tariffs are read before there can be one."""
        tariff = parse_tariff(text, allow_negative=self._config.allow_negative)
        if goes_by_local_time(tariff) and not self._has_zone:
            wanted = "no times and dates: the configuration does not say of which zone they are (station.time_zone)"
            raise TariffError([Problem("$", wanted, "conditions on local time")])
        content = content_hash(text)
        stays = source in (_SITE, _ASSIGNED) or content in self.in_use()
        if not stays or self.text(content) is None:
            self._new[content] = TariffFact(content, tariff.tariff_id, source, text)
            facts.append(self._new[content])
        self._remember(content, tariff)
        self._hash_of_id[tariff.tariff_id] = self._last = content
        return content

    def _remember(self, content: str, tariff: Tariff) -> None:
        """A price that follows a market is a new tariff every quarter of an hour, for years: those that the ledger
        can give back, and that nobody will ask for soon, are forgotten."""
        self._parsed[content] = tariff
        if len(self._parsed) <= PARSED_MAX:
            return
        in_use = self.in_use() | {content}
        for old in [each for each in self._parsed if each not in in_use][: PARSED_MAX // 4]:
            if self._text_of(old) is not None:
                gone = self._parsed.pop(old)
                self._new.pop(old, None)
                if self._hash_of_id.get(gone.tariff_id) == old:
                    del self._hash_of_id[gone.tariff_id]

    def in_use(self) -> set[str]:
        """Content hashes of all that a transaction may begin with, and of what came last."""
        found = {self._site, self._live, self._before, self._last, *self._lives, *(each for _, each in self._assigned)}
        return {each for each in found if each is not None} | {each.content_hash for each in self._defaults}

    def tariff(self, content: str) -> Tariff | None:
        """A tariff by the hash of its content; None for one that this ledger never had, or that an older software
        took and this one does not."""
        if content not in self._parsed:
            text = self._text_of(content)
            if text is None:
                return None
            try:
                tariff = parse_tariff(text, allow_negative=True)  # it was in force once
            except TariffError:
                return None
            self._remember(content, tariff)
        return self._parsed[content]

    def text(self, content: str) -> str | None:
        """The canonical text of a tariff."""
        new = self._new.get(content)
        return self._text_of(content) or (None if new is None else canonical_text(new.text).decode())

    # -------------------------------------------------------------------------------------- choice

    def for_start(self, evse: int, token: Token, group: str | None, wall_ms: int, shown_ms: int = 0) -> str | None:
        """Content hash of the tariff of a transaction that starts now. ``shown_ms``: see ``live``."""
        for each, content in self._assigned:
            if content is not None and _fits(each, evse, token, group) and self._holds(content, wall_ms):
                return content
        for where in (evse, ALL_EVSES) if self._has_csms else ():
            if (default := self._default(where, wall_ms)) is not None:
                return default
        return self.live(wall_ms, shown_ms) or (self._site if self._holds(self._site, wall_ms) else None)

    def live(self, wall_ms: int, shown_ms: int = 0) -> str | None:
        """Content hash of the live tariff that holds now: the file's, or the one before it while that is of the
        future. The clock may be set back, too. ``shown_ms``: by the clock, be that known to be right or not."""
        return self._first_that_holds((self._live, self._before), wall_ms, shown_ms)

    def newly_live(self, wall_ms: int, said: str | None = None, shown_ms: int = 0) -> str | None:
        """The live tariff that holds now, where it is another than when this was asked last; ``said``: the file has
        just brought this one."""
        if said not in (None, self._live):
            self._before = self.live(wall_ms, shown_ms) or self._kept(said, wall_ms, shown_ms)
            self._live = said
        now = self.live(wall_ms, shown_ms)
        told, self._told_live = self._told_live, now
        return None if now == told else now

    def _kept(self, said: str | None, wall_ms: int, shown_ms: int) -> str | None:
        """What held before a restart, as far as is known. That of two which came first has held, whatever the clock
        says now; of the other, and of a single one, it is the clock that must say so."""
        others = [each for each in reversed(self._lives) if each != said]
        return self._first_that_holds(others, wall_ms, shown_ms) or (self._lives[0] if self._lives[1:] else None)

    def _first_that_holds(self, contents: Iterable[str | None], wall_ms: int, shown_ms: int) -> str | None:
        """Surely, or else by the clock as it is: where nothing holds, energy is given away."""
        found = (each for now_ms in (wall_ms, shown_ms) for each in contents if self._holds(each, now_ms))
        return next(found, None)

    def _holds(self, content: str | None, wall_ms: int) -> bool:
        """Whether its time has come."""
        tariff = None if content is None else self.tariff(content)
        return tariff is not None and (tariff.valid_from_ms or 0) <= self._at_least_ms(wall_ms)

    def _at_least_ms(self, wall_ms: int) -> int:
        """So late it is, whatever the clock says."""
        return max(wall_ms, self._known_ms, BUILD_TIME_MS)

    def limits_for(self, evse: int, token: Token, group: str | None) -> Assignment | None:
        """What the site lets this token use up at most."""
        for each, _ in self._assigned:
            limited = (each.max_cost, each.max_energy_wh, each.max_time_s) != (None, None, None)
            if limited and _fits(each, evse, token, group):
                return each
        return None

    def follows_live(self, content: str | None) -> bool:
        """Whether a transaction on this tariff goes on with a new live one: what the CSMS brought, or the site gave a
        token or group, holds to the end, also where it is no longer installed."""
        if content is None:
            return True
        new = self._new.get(content)
        source = self._source_of(content) or (None if new is None else new.source)
        given = {each for _, each in self._assigned} | {each.content_hash for each in self._defaults}
        return source in (_SITE, _LIVE) and content not in given

    def _default(self, evse: int, wall_ms: int) -> str | None:
        valid = [each for each in self._due(max(wall_ms, self._known_ms)) if each.evse == evse]
        return max(valid, key=_from_wall_ms).content_hash if valid else None

    def _due(self, wall_ms: int) -> list[_Default]:
        return [each for each in self._defaults if each.from_wall_ms <= wall_ms]

    def _replaced(self) -> list[_Default]:
        """Those that a later one has replaced by now; they only hold again where the clock is set back."""
        due = self._due(self._known_ms)
        last = {each.evse: each for each in sorted(due, key=_from_wall_ms)}
        return [each for each in due if each is not last[each.evse]]

    # ------------------------------------------------------------------- what the CSMS may ask for

    def set_default(self, evse: int, text: str, wall_ms: int) -> tuple[str, list[TariffFact], list[Put]]:
        """SetDefaultTariff: (status, facts, changes to keep). Raises ``TariffError``."""
        if evse != ALL_EVSES and evse not in self._evses:
            return "Rejected", [], []
        tariff = parse_tariff(text, allow_negative=self._config.allow_negative)
        if self._is_other_content(tariff, text):
            return "DuplicateTariffId", [], []
        from_wall_ms, now_ms = tariff.valid_from_ms or 0, max(wall_ms, self._known_ms)
        kept = [
            each
            for each in self._defaults
            # What becomes valid later than the new one is not touched by it.
            if each.evse != evse or each.from_wall_ms > max(from_wall_ms, now_ms) or each.from_wall_ms < from_wall_ms
        ]
        if len(kept) >= DEFAULTS_MAX:
            replaced = [each for each in self._replaced() if each in kept]
            if not replaced:
                return "Rejected", [], []
            kept.remove(min(replaced, key=_from_wall_ms))
        facts: list[TariffFact] = []
        content = self._learned(text, _CSMS, facts)
        self._defaults = [*kept, _Default(evse, content, from_wall_ms)]
        return "Accepted", facts, [self._change()]

    def settle(self, wall_ms: int, time_status: str) -> list[Put]:
        """It is so late, says the CSMS (or the machine, where there is none): what is valid by now is so from now on
        even where nobody knows the time, until they say otherwise. Changes to keep."""
        changes = []
        lives = [each for each in dict.fromkeys((self._before, self._live)) if each is not None]
        if lives and lives != self._lives:
            self._lives = lives  # the file may say another when this process has ended and the next has begun
            changes.append(Put(Namespace.TARIFF, _LIVES, json.dumps(lives)))
        sure = time_status == "S" or (time_status == "I" and not self._has_csms)
        if sure and (wall_ms < self._known_ms or any(self._known_ms < each <= wall_ms for each in self._begins_ms())):
            self._known_ms = wall_ms
            changes.append(Put(Namespace.TARIFF, _KNOWN, str(wall_ms)))
        return changes

    def _begins_ms(self) -> Iterator[int]:
        """From when on the tariffs here hold, where they say so."""
        yield from (each.from_wall_ms for each in self._defaults)
        for content in (self._site, self._live, self._before, *(each for _, each in self._assigned)):
            if content is not None and (begins_ms := self._valid_from_ms(content)) is not None:
                yield begins_ms

    def _is_other_content(self, tariff: Tariff, text: str) -> bool:
        """A tariff id never stands for two contents: old bills refer to it."""
        known = self._hash_of_id.get(tariff.tariff_id)
        return known is not None and known != content_hash(text)

    def clear(self, ids: Iterable[str], evse: int | None) -> tuple[list[tuple[str, str]], list[Put]]:
        """ClearTariffs: status by tariff id; no id means all, both mean those that fit both."""
        wanted = tuple(ids)
        replaced = self._replaced()
        gone = [
            each
            for each in self._defaults
            if (not wanted or self._id(each.content_hash) in wanted) and evse in (None, each.evse)
            if each not in replaced
        ]
        kept = [each for each in self._defaults if each not in gone]
        cleared = {each.evse for each in gone}  # what was replaced there must not come back
        self._defaults = [each for each in kept if each not in replaced or each.evse not in cleared]
        found = list(dict.fromkeys(self._id(each.content_hash) for each in gone))
        results = [(tariff_id, "Accepted") for tariff_id in found]
        results += [(tariff_id, "NoTariff") for tariff_id in wanted if tariff_id not in found]
        return results, [self._change()] if gone else []

    def assignments(self, evse: int) -> list[TariffAssignment]:
        """GetTariffs: the defaults of an EVSE, or (0) of all."""
        replaced = self._replaced()
        return [
            TariffAssignment(self._id(each.content_hash), each.evse, self._valid_from_ms(each.content_hash))
            for each in self._defaults
            if evse in (ALL_EVSES, each.evse) and each not in replaced
        ]

    def _valid_from_ms(self, content: str) -> int | None:
        tariff = self.tariff(content)
        return None if tariff is None else tariff.valid_from_ms

    def _id(self, content: str) -> str:
        tariff = self.tariff(content)
        return "" if tariff is None else tariff.tariff_id

    def _change(self) -> Put:
        rows = [[each.evse, each.content_hash, each.from_wall_ms] for each in self._defaults]
        return Put(Namespace.TARIFF, _KEY, json.dumps(rows))


def canonical_text(text: str) -> bytes:
    """The form whose SHA-256 is the content hash: what the ledger keeps of a tariff beside its row."""
    return canonical(read(text)[0]).encode("ascii")


def _from_wall_ms(each: _Default) -> int:
    return each.from_wall_ms


def _fits(each: Assignment, evse: int, token: Token, group: str | None) -> bool:
    return (
        (each.token is None or fold(each.token) == fold(token.id_token))
        and (each.group is None or same_group(each.group, group))
        and each.evse in (None, evse)
    )
