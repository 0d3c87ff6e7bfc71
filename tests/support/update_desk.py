"""The update machine with somebody who carries out on paper what it says, and checks the rules of every step.

Charter: a script of words moves the machine (``Desk.do``); every step must keep the promises of its effects: what was
decided is saved first, one act at most, nothing is told twice, what is told is legal, new sessions are kept out
exactly while they must be. ``LEGAL`` is what a CSMS may be told, written down from firmware reference 1.4 and ADR 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agent.core.facts import FirmwareFact, SecurityFact, UpdateVia
from agent.firmware.machine import (
    LOCAL,
    Act,
    Booted,
    Effect,
    Fetch,
    Hold,
    Now,
    Save,
    Staged,
    Tell,
    Update,
    UpdateMachine,
)
from agent.firmware.phases import Phase
from agent.ipc.updates import FetchOrder, FetchReport, FetchStep, UpdateRequest

LEGAL: Final[dict[str, frozenset[str]]] = {
    before: frozenset(after.split())
    for before, after in {
        "": "DownloadScheduled Downloading",
        "DownloadScheduled": "Downloading DownloadFailed",
        "Downloading": "DownloadPaused Downloaded DownloadFailed InvalidSignature InstallVerificationFailed",
        "DownloadPaused": "Downloading DownloadFailed",
        "Downloaded": "SignatureVerified InvalidSignature InstallScheduled Installing",
        "SignatureVerified": "InstallScheduled Installing",
        "InstallScheduled": "Installing InstallationFailed",
        "Installing": "InstallRebooting Installed InstallVerificationFailed InstallationFailed",
        "InstallRebooting": "Installed InstallationFailed",
        "Installed": "",
        "DownloadFailed": "",
        "InvalidSignature": "",
        "InstallVerificationFailed": "",
        "InstallationFailed": "",
    }.items()
}
"""What may follow a status of a request. A bundle is judged while it streams, so a refusal may come during
Downloading; what was accepted may be replaced on site while it waits."""

ON_SITE: Final = frozenset({"InstallScheduled", "Installing", "Installed", "InstallationFailed"})
"""What an update that nobody downloads may begin with."""

FAILURES: Final = frozenset(status for status, after in LEGAL.items() if not after) - {"Installed"}
HELD: Final = frozenset({Phase.ACTIVATING, Phase.REBOOTING, Phase.TESTING, Phase.CONFIRMING, Phase.REVERTING})

NOW_MS: Final = 1_800_000_000_000
OLD_SLOT, NEW_SLOT = "a", "b"


def illegal_step(told: Sequence[str], via: UpdateVia = UpdateVia.SIGNED) -> str:
    """The first step of a sequence of statuses that is not legal; empty: all are."""
    for before, after in zip(("", *told), told, strict=False):
        if after not in (ON_SITE if via is UpdateVia.LOCAL and not before else LEGAL[before]):
            return f"{after} after {before or 'nothing'}"
    return ""


def order(via: UpdateVia = UpdateVia.SIGNED, request_id: int | None = 7, **settings: Any) -> UpdateRequest:
    """Now, if nothing else is said."""
    signed = {"signing_certificate": "PEM", "signature": "Base64"} if via is UpdateVia.SIGNED else {}
    settings = {"location": "https://example.com/x", "retrieve_wall_ms": NOW_MS, **signed, **settings}
    return UpdateRequest(via, request_id, **settings)


class Desk:
    """See the module. ``kept``: what would be on disk."""

    def __init__(self, request: UpdateRequest | None = None, kept: Update | None = None) -> None:
        self.request = request or order()
        self.kept = kept
        self.wall_ms, self.mono_ms = NOW_MS, 0
        self.engaged = self.allow_new = False
        self.boot, self.slot, self.on_trial = 1, OLD_SLOT, False
        self.told: list[FirmwareFact] = []
        self._asked_at = 0  # so many were told before the last request
        self.events: list[str] = []
        self.acts: list[Act] = []
        self.fetches: list[FetchOrder | None] = []
        self._start()

    def _start(self) -> None:
        """A new life of the station."""
        self.machine = UpdateMachine(self.kept)
        self.hold = False
        self.pending: Act | None = None  # what was begun and has not ended
        self.fetching: FetchOrder | None = self.machine.order()  # what the gateway is to do

    @property
    def phase(self) -> Phase:
        return self.machine.phase

    @property
    def statuses(self) -> list[str]:
        return [fact.status for fact in self.told]

    def now(self) -> Now:
        return Now(self.wall_ms, self.mono_ms, self.engaged, self.allow_new)

    # ------------------------------------------------------------------------------------------- words

    def play(self, script: str) -> Desk:
        for word in script.split():
            self.do(word)
        return self

    def do(self, word: str) -> list[Effect]:
        """Carry out one word, ``name`` or ``name:detail``."""
        name, _, detail = word.partition(":")
        effects = self._does(name, detail)
        self.take(effects)
        return effects

    def _does(self, name: str, detail: str) -> list[Effect]:
        machine, now = self.machine, self.now()
        match name:
            case "ask":
                self._asked_at = len(self.told)
                return machine.ask(self.request, now)
            case "hand":
                return machine.hand(Staged(NEW_SLOT, detail or "3.0", "ee", False), now)
            case "away":
                return machine.gateway_gone(now)
            case "back":
                return self.report(FetchStep.RESUMED)
            case "staged":
                return self.report(FetchStep.STAGED, self._staged(detail))
            case "progress" | "paused" | "resumed" | "failed":
                return self.report(FetchStep(name), why="why")
            case "lost":
                return self.report(FetchStep.LOST, why="why", retryable=detail != "for_good")
            case "refused":
                return self.report(FetchStep.REFUSED, why="why", refusal=detail)
            case "charge" | "leave":
                self.engaged = name == "charge"
                return machine.tick(self.now())
            case "wait":
                self.wall_ms += 1_000 * int(detail)
                self.mono_ms += 1_000 * int(detail)
                return machine.tick(self.now())
            case "reboot" | "restart":
                return self._boots(detail if name == "reboot" else "")
            case _:
                return self._ends(name)

    def _ends(self, name: str) -> list[Effect]:
        """How an act ended."""
        machine, now = self.machine, self.now()
        self.pending = None
        match name:
            case "activated":
                return machine.activated(f"boot {self.boot}", ("meter 2",), now)
            case "unreadable" | "stuck":
                return machine.activation_failed("why", now, content=name == "unreadable")
            case "passed" | "faulty":
                return machine.tested("no answer" if name == "faulty" else "", now)
            case "confirmed" | "unconfirmed":
                return machine.confirmed("why not" if name == "unconfirmed" else "", now)
            case "stays":
                return machine.stays("no good image", now)
        raise AssertionError(name)

    def _boots(self, detail: str) -> list[Effect]:
        """``new``: on trial, ``good``: new and marked good, ``old``, or nothing: only the station restarts."""
        if detail:
            self.boot += 1
            self.mono_ms = 0
            self.slot, self.on_trial = (OLD_SLOT if detail.startswith("old") else NEW_SLOT), detail.endswith("new")
        self._start()
        return self.machine.booted(self.booted(), self.now())

    def booted(self) -> Booted:
        return Booted(self.slot, self.on_trial, f"boot {self.boot}", "9.9")

    @staticmethod
    def _staged(detail: str) -> Staged | None:
        return None if detail == "nothing" else Staged(NEW_SLOT, "2.0", "dd", file_signed=detail != "unsigned")

    def report(self, step: FetchStep, staged: Staged | None = None, **details: Any) -> list[Effect]:
        """Of the download that the gateway is at."""
        ticket = details.pop("ticket", self.fetching.ticket if self.fetching else 0)
        return self.machine.report(FetchReport(ticket, step, 10, 20, **details), staged, self.now())

    # ------------------------------------------------------------------------------------------- rules

    def take(self, effects: Sequence[Effect]) -> None:
        """Carry out a step on paper."""
        saves = [effect for effect in effects if isinstance(effect, Save)]
        assert len(saves) <= 1
        assert not saves or effects[0] is saves[0], "saved after something else"
        if saves:
            self.kept = saves[0].update
        assert self.kept == self.machine.update, "decided, and not saved"
        for effect in effects:
            match effect:
                case Tell(FirmwareFact() as fact):
                    self._tell(fact)
                case Tell(SecurityFact() as event):
                    self.events.append(event.event_type)
                case Hold(on):
                    assert on is not self.hold
                    self.hold = on
                case Fetch(wanted):
                    self.fetching = wanted
                    self.fetches.append(wanted)
        acts = [effect for effect in effects if isinstance(effect, Act)]
        assert len(acts) <= 1
        assert not acts or self.pending is None, f"{acts} while {self.pending} is under way"
        if acts:
            self.pending = acts[0]
            self.acts += acts
        assert self.hold == (self.phase in HELD or (self.phase is Phase.WAITING and not self.allow_new)) or not effects
        assert (self.machine.order() is not None) == (self.phase in (Phase.DOWNLOADING, Phase.PAUSED))

    def _tell(self, fact: FirmwareFact) -> None:
        """What is told of one update is legal, up to here."""
        self.told.append(fact)
        ours: list[str] = []
        for each in self.told[self._asked_at :]:
            if (each.via, each.request_id) == (fact.via, fact.request_id):
                ours = [each.status] if ours and not LEGAL[ours[-1]] else [*ours, each.status]
        assert not illegal_step(ours, fact.via), f"{illegal_step(ours, fact.via)} in {ours}"
        if fact.status == "Installed":
            assert self.kept is not None
            assert self.kept.slot == self.slot, "installed, and the other slot runs"
        asker = LOCAL if fact.via is UpdateVia.LOCAL else self.request
        assert (fact.via, fact.request_id) == (asker.via, asker.request_id)
