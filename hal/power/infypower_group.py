"""Infypower modules that feed one EVSE: the controller's side of protocol V1.13, without I/O or clock.

Charter: frames and time in, frames and port events out. Timers and the bus are ``infypower``'s.

Rules
* Every module is polled each round (03, 04, 0C), far within the 10 s after which it would switch itself
  off; the set-point is repeated each round. A set-point never goes to the broadcast address.
* A module that (re)appears gets OFF, and nothing else until it says that its DC side is off; then V/I,
  and ON if that is wanted. OFF is repeated, faster than the polls, until it is confirmed the same way.
* A module silent for ``output_timeout_ms`` is only ever told OFF. If it still hears us it obeys; if not,
  its own time-out works. Polling it with set-points could keep alive a module that is merely mute. After
  ``off_timeout_ms`` it is surely off and is dropped, and only then is its current given to the others.
* Current is split in proportion to each module's rating over all modules that may still be delivering.
* ``Lost`` means: no output measurement from any module for ``output_timeout_ms``. The kind says what came
  instead: nothing (SILENT), nonsense (GARBAGE) or error replies (REFUSED; starting up is one of them).
* A set-point above the modules' capability is lowered to it. A voltage below their minimum is not raised:
  then the output stays off, and the reported output says so. Both are logged.

``PowerOutput`` sums the modules that answered in the round; a module that fell silent is missing from the
sum while it may still deliver, but ``on`` stays true until it is dropped. The voltage is the highest of
all, also of those behind the output diodes: what is on the bus, whoever put it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from hal.bus_counters import BusCounters
from hal.ports import (
    Back,
    BadReply,
    LossKind,
    Lost,
    ModuleFault,
    ModuleFaults,
    PowerEvent,
    PowerLimits,
    PowerOutput,
)
from hal.power.can_frame import CanFrame
from hal.power.infypower_codec import (
    DEVICE_GROUP,
    DEVICE_MODULE,
    LAST_MODULE,
    Accepted,
    Capability,
    Command,
    ErrorCode,
    External,
    Header,
    Message,
    ModuleCount,
    Output,
    Refused,
    State,
    parse_reply,
    read,
    set_group_output,
    set_module_output,
    switch,
)
from hal.power.infypower_config import InfypowerConfig, Mode
from hal.power.infypower_module import ROUND, Module, Phase

_ASK_AGAIN_MS = 10_000  # a module that goes on refusing switches no session on and off more often

_log = structlog.get_logger(__name__)


class FrameSink(Protocol):
    """Where frames go; see ``can_bus.CanLine``."""

    def send(self, frame: CanFrame) -> None: ...

    def send_first(self, frames: Iterable[CanFrame]) -> None: ...


class InfypowerGroup:
    """All modules of one EVSE. Times are monotonic milliseconds. ``counters`` are those of the bus: a module that
    said nothing for a round is one failure."""

    def __init__(
        self, config: InfypowerConfig, sink: FrameSink, emit: Callable[[PowerEvent], None], counters: BusCounters
    ) -> None:
        self._config = config
        self._counters = counters
        self._sink = sink
        self._emit = emit
        self._modules = {address: Module(address) for address in config.addresses}
        self._wanted_on = False
        self._setpoint: tuple[int, int] | None = None  # mV, mA
        self._adjusted: tuple[str, int, int] | None = None  # the last adjustment that was logged
        self._group_refused = False
        self._asked_again_ms = 0
        self._link_up = False
        self._present: bool | None = None  # what was last told: Back, Lost, or nothing yet
        self._trouble = LossKind.SILENT  # what came since the last measurement
        self._measured_ms = 0
        self._asking_since_ms = 0
        self._polled_ms: int | None = None
        self._output_reported = True
        self._told_limits: PowerLimits | None = None
        self._told_faults: frozenset[ModuleFault] | None = None

    # --------------------------------------------------------------------- what the station wants

    def set_output(self, voltage_mv: int, current_ma: int, now_ms: int) -> None:
        """Wanted output of all modules together. Raises ``ValueError`` for a negative value."""
        if voltage_mv < 0 or current_ma < 0:
            raise ValueError(f"set-point {voltage_mv} mV, {current_ma} mA is negative")
        self._setpoint = (voltage_mv, current_ma)
        self._drive(now_ms)

    def switch(self, on: bool, now_ms: int) -> None:
        """On as soon as each module allows it; off at once, ahead of anything that is queued."""
        was_on, self._wanted_on = self._wanted_on, on
        if on:
            self._drive(now_ms)
            return
        for module in self._modules.values():
            if was_on or not module.off:  # an ON may be under way to one that said "off" a moment ago
                module.phase = Phase.CLOSING
        self._send_off_to_all()

    @property
    def all_off(self) -> bool:
        """No module that may deliver is left without having confirmed that it is off."""
        return all(module.off for module in self._members())

    def temperatures(self) -> dict[str, int]:
        """Of each module that tells one now, 0.001 degrees Celsius."""
        told = {module.address: module.temperature_c for module in self._modules.values()}
        return {f"module {address}": each * 1_000 for address, each in told.items() if each is not None}

    # -------------------------------------------------------------------------- what the bus says

    def accepts(self, frame: CanFrame) -> bool:
        """Whether a frame on the shared bus is an answer of ours."""
        header = Header.decode(frame.id)
        if not frame.extended or header.destination != self._config.controller:
            return False
        if header.device == DEVICE_GROUP:
            return self._config.mode is Mode.GROUP and header.source == self._config.group
        return header.device == DEVICE_MODULE and header.source in self._modules

    def link(self, up: bool, detail: str, now_ms: int) -> None:
        """The bus came or went."""
        self._link_up = up
        for module in self._modules.values():
            module.silent()
        if up:
            self._asking_since_ms = now_ms
            self._send_off_to_all()
            self._poll(now_ms)
        else:
            self._lose(LossKind.GONE, detail)

    def receive(self, frame: CanFrame, now_ms: int) -> None:
        """A frame that ``accepts`` took."""
        try:
            reply = parse_reply(frame)
        except BadReply as error:
            self._take_garbage(error.detail)
            return
        if reply.device == DEVICE_GROUP:
            self._take_group_reply(reply.command, reply.message)
            return
        module = self._modules[reply.source]
        returns = not module.heard_within(now_ms, self._config.output_timeout_ms)
        module.heard_ms = now_ms
        if returns:
            module.silent()
            self._ask(module, now_ms)
        if isinstance(reply.message, Refused):
            self._counters.failed(LossKind.REFUSED)
        elif reply.command in ROUND - module.answered and self._polled_ms is not None:
            self._counters.answered((now_ms - self._polled_ms) * 1_000)
        module.answered.add(reply.command)
        self._take_reply(module, reply.command, reply.message, now_ms)
        if all(each.all_answered for each in self._responding(now_ms)):
            self._report_output()
        self._publish(now_ms)

    def tick(self, now_ms: int) -> None:
        """Call several times per poll interval: polls when due, and repeats OFF in between."""
        if self._polled_ms is None or now_ms - self._polled_ms >= self._config.poll_interval_ms:
            self._poll(now_ms)
            return
        for module in self._responding(now_ms):
            if module.phase is Phase.CLOSING:
                self._send_off(module)
                self._read(Command.READ_STATE, module)

    # ------------------------------------------------------------------------------------ polling

    def _poll(self, now_ms: int) -> None:
        self._report_output()
        self._check_silence(now_ms)
        if self._link_up and self._polled_ms is not None:
            silent = sum(1 for module in self._modules.values() if (module.heard_ms or -1) < self._polled_ms)
            self._counters.failed(LossKind.SILENT, silent)
        self._polled_ms = now_ms
        self._output_reported = False
        if self._config.mode is Mode.GROUP:
            self._sink.send(read(Command.MODULE_COUNT, self._config.group, self._config.controller, DEVICE_GROUP))
        for module in self._modules.values():
            module.begin_round()
            self._ask(module, now_ms)
        self._drive(now_ms)
        self._publish(now_ms)

    def _ask(self, module: Module, now_ms: int) -> None:
        if module.phase is Phase.CLOSING:
            self._send_off(module)
        if not module.heard_within(now_ms, self._config.output_timeout_ms):
            self._read(Command.READ_STATE, module)
            return
        if module.capability is None:
            self._read(Command.READ_CAPABILITY, module)
        for command in (Command.READ_OUTPUT, Command.READ_STATE, Command.READ_EXTERNAL):
            self._read(command, module)

    def _check_silence(self, now_ms: int) -> None:
        timeout_ms = self._config.output_timeout_ms
        if self._polled_ms is None or now_ms - self._polled_ms > timeout_ms:
            # We did not ask in time (start, or the process was held up): silence counts from now.
            self._asking_since_ms = now_ms
        for module in self._modules.values():
            if not module.heard_within(now_ms, timeout_ms):
                module.silent()
            if module.capability is not None and not module.heard_within(now_ms, self._config.off_timeout_ms):
                _log.warning("power module dropped", device=self._config.name, module=module.address)
                module.drop()
        if now_ms - max(self._measured_ms, self._asking_since_ms) > timeout_ms:
            self._lose(self._trouble, f"no output measurement for {timeout_ms} ms")

    # ------------------------------------------------------------------------------------ replies

    def _take_reply(self, module: Module, command: Command, message: Message, now_ms: int) -> None:
        match message:
            case Output():
                module.output = message
                module.output_at_ms = now_ms
                self._take_measurement(module, now_ms)
            case State():
                was_closing = module.phase is Phase.CLOSING
                module.take_state(message)
                if was_closing and module.phase is Phase.READY:
                    self._drive(now_ms)
                elif not module.off and self._target() is None:
                    module.phase = Phase.CLOSING  # it came on by itself
                    self._send_off(module)
            case External():
                module.external = message
            case Capability():
                module.capability = message
            case Accepted():
                module.refused.discard(command)
            case Refused(code=code):
                self._take_refusal(module, command, code)
            case ModuleCount():
                # Asked of the group only; a module that says it for itself tells us nothing.
                self._take_garbage(f"module {module.address} sent a module count")

    def _take_group_reply(self, command: Command, message: Message) -> None:
        if isinstance(message, ModuleCount):
            for address in range(min(message.count, LAST_MODULE + 1)):
                if address not in self._modules:
                    self._modules[address] = Module(address)
        elif command is Command.SET_GROUP_OUTPUT:
            self._group_refused = isinstance(message, Refused) and message.code != ErrorCode.STARTING_UP

    def _take_refusal(self, module: Module, command: Command, code: int) -> None:
        self._trouble = LossKind.REFUSED
        is_set = command in (Command.SWITCH, Command.SET_MODULE_OUTPUT)
        if is_set and code != ErrorCode.STARTING_UP and command not in module.refused:
            _log.warning("power module refused", device=self._config.name, module=module.address, command=command.name)
            module.refused.add(command)

    def _take_measurement(self, module: Module, now_ms: int) -> None:
        self._measured_ms = now_ms
        self._trouble = LossKind.SILENT
        if self._present is not True:
            self._present = True
            self._told_limits = None
            self._told_faults = None
            self._emit(Back(f"Infypower V1.13, module {module.address} answers"))

    def _take_garbage(self, detail: str) -> None:
        self._trouble = LossKind.GARBAGE
        self._counters.failed(LossKind.GARBAGE)
        _log.debug("power module sent garbage", device=self._config.name, detail=detail)

    # ----------------------------------------------------------------------------------- commands

    def _drive(self, now_ms: int) -> None:
        """Bring every module that is free to be driven to what is wanted now."""
        ready = [m for m in self._responding(now_ms) if m.phase is Phase.READY and m.capability is not None]
        target = self._target()
        if target is None:
            for module in ready:
                if not module.off:
                    module.phase = Phase.CLOSING
                    self._send_off(module)
            self._ask_again([module for module in ready if module.off], now_ms)
            return
        voltage_mv, current_ma = target
        if self._config.mode is Mode.MODULES:
            # Every set-point before any ON: the others give up their part before a new module takes it.
            for module, share_ma in self._shares(current_ma):
                if module in ready:
                    frame = set_module_output(voltage_mv, share_ma, module.address, self._config.controller)
                    self._sink.send(frame)
        elif ready:
            self._sink.send(set_group_output(voltage_mv, current_ma, self._config.group, self._config.controller))
        for module in ready:
            if module.may_start:
                self._sink.send(switch(True, module.address, self._config.controller))

    def _ask_again(self, off: list[Module], now_ms: int) -> None:
        """A refusal stands until its command is taken, and while its fault stands nothing is wanted of the modules.
        Those that are off take no harm of the same command without current."""
        if self._setpoint is None or now_ms - self._asked_again_ms < _ASK_AGAIN_MS:
            return
        self._asked_again_ms = now_ms
        voltage_mv, controller = self._setpoint[0], self._config.controller
        for module in off:
            if Command.SET_MODULE_OUTPUT in module.refused:
                self._sink.send(set_module_output(voltage_mv, 0, module.address, controller))
            if Command.SWITCH in module.refused:
                self._sink.send(switch(False, module.address, controller))
        if self._group_refused and len(off) == len(self._modules):
            self._sink.send(set_group_output(voltage_mv, 0, self._config.group, controller))

    def _target(self) -> tuple[int, int] | None:
        """The set-point the modules can follow (mV, mA); None: they are to be off."""
        limits = self._limits()
        if not self._wanted_on or self._setpoint is None or limits.modules == 0:
            return None
        voltage_mv, current_ma = self._setpoint
        if voltage_mv < limits.min_voltage_mv:
            self._log_adjusted("voltage below the modules' minimum: output off", voltage_mv, current_ma)
            return None
        target = min(voltage_mv, limits.max_voltage_mv), min(current_ma, limits.max_current_ma)
        if target != self._setpoint:
            self._log_adjusted("set-point lowered to capability", *target)
        return target

    def _log_adjusted(self, what: str, voltage_mv: int, current_ma: int) -> None:
        if self._adjusted != (what, voltage_mv, current_ma):
            self._adjusted = (what, voltage_mv, current_ma)
            _log.warning(what, device=self._config.name, voltage_mv=voltage_mv, current_ma=current_ma)

    def _shares(self, current_ma: int) -> list[tuple[Module, int]]:
        """Each member's part; never more than ``current_ma`` together. Silent members keep theirs."""
        ratings = [(module, module.capability.max_current_ma) for module in self._members() if module.capability]
        total_ma = sum(rating_ma for _, rating_ma in ratings)
        return [(module, current_ma * rating_ma // total_ma) for module, rating_ma in ratings]

    def _send_off_to_all(self) -> None:
        frames = [switch(False, address, self._config.controller) for address in self._modules]
        if self._config.mode is Mode.GROUP:
            # Reaches modules that the count has not shown us. A "no" to it changes nothing.
            frames.append(switch(False, self._config.group, self._config.controller, DEVICE_GROUP))
        self._sink.send_first(frames)
        for module in self._modules.values():
            self._read(Command.READ_STATE, module)

    def _send_off(self, module: Module) -> None:
        self._sink.send(switch(False, module.address, self._config.controller))

    def _read(self, command: Command, module: Module) -> None:
        self._sink.send(read(command, module.address, self._config.controller))

    # ------------------------------------------------------------------------------------ telling

    def _members(self) -> list[Module]:
        """Modules that may deliver: known, and not yet surely off by their own time-out."""
        return [module for module in self._modules.values() if module.capability is not None]

    def _responding(self, now_ms: int) -> list[Module]:
        return [m for m in self._modules.values() if m.heard_within(now_ms, self._config.output_timeout_ms)]

    def _limits(self) -> PowerLimits:
        known = [module.capability for module in self._members() if module.capability is not None]
        return PowerLimits(
            min_voltage_mv=max((each.min_voltage_mv for each in known), default=0),
            max_voltage_mv=min((each.max_voltage_mv for each in known), default=0),
            max_current_ma=sum(each.max_current_ma for each in known),
            max_power_w=sum(each.max_power_w for each in known),
            modules=len(known),
        )

    def _report_output(self) -> None:
        """Tell the round's output, once per round, if anything was measured."""
        measured = [(m.output, m.external, m.output_at_ms) for m in self._modules.values() if m.output is not None]
        if self._output_reported or not measured or self._present is not True:
            return
        self._output_reported = True
        voltages_mv = [output.voltage_mv for output, _, _ in measured]
        voltages_mv += [external.voltage_mv for _, external, _ in measured if external is not None]
        self._emit(
            PowerOutput(
                at_ms=min(at_ms for _, _, at_ms in measured),
                voltage_mv=max(voltages_mv),
                current_ma=sum(output.current_ma for output, _, _ in measured),
                on=not self.all_off,
            )
        )

    def _publish(self, now_ms: int) -> None:
        """Tell limits and faults where they changed."""
        if self._present is not True:
            return
        limits = self._limits()
        if limits != self._told_limits and (limits.modules or self._told_limits is not None):
            self._told_limits = limits
            self._emit(limits)
        faults: frozenset[ModuleFault] = frozenset().union(*(m.faults for m in self._modules.values()))
        if self._group_refused:
            faults |= {ModuleFault.FAULT}
        all_known = all(module.status is not None for module in self._responding(now_ms))
        if faults != self._told_faults and (faults or all_known):
            self._told_faults = faults
            self._emit(ModuleFaults(faults))

    def _lose(self, kind: LossKind, detail: str) -> None:
        if self._present is not False:
            self._present = False
            self._emit(Lost(kind, detail))
