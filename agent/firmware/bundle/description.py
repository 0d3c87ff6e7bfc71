"""The maker's description of a bundle (TOML): read, with every mistake named at once.

Charter: the same fields and the same rules as the manifest's, plus where each payload's content lies. Maker's desk
only. Keys: ``version``, ``security_epoch``, ``built`` (else now), ``[product]`` with ``compatible`` and ``hardware``,
``[requires]``, and for each of ``[[payloads]]`` ``name``, ``type``, ``target``, ``source`` (relative to the
description), ``compression`` (else zstd), ``chunk_size`` (else 1 MiB), ``version`` (microcontrollers only).
Source: ``docs/bundle-format.md``, "Making a bundle".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from agent.firmware.bundle import fields
from agent.firmware.bundle.make import Description, NotMade, PayloadPlan, list_source
from agent.firmware.bundle.strict import Node, shown
from agent.firmware.errors import UpdateRefused
from agent.firmware.manifest import CHUNK_BYTES_DEFAULT, Compression, PayloadType, Requires

BYTES_MAX: Final = 1024 * 1024
_SOURCE: Final = re.compile(r"[^\0]{1,4096}", re.DOTALL)
_PAYLOAD: Final = ("name", "type", "target", "source")
_PAYLOAD_OPTIONAL: Final = ("compression", "chunk_size", "version")

_T = TypeVar("_T")


class DescriptionWrong(Exception):
    """``problems`` names every mistake that was found, at least one."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load_description(file: Path, now_ms: int) -> Description:
    """``now_ms`` is when the bundle is built, unless the description says so. Raises ``DescriptionWrong``,
    ``OSError``."""
    with file.open("rb") as stream:
        data = stream.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise DescriptionWrong([f"{file.name}: more than {BYTES_MAX} bytes"])
    try:
        plain = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise DescriptionWrong([f"{file.name}: it is not TOML ({shown(str(error))})"]) from error
    reading = _Reading(file.parent)
    description = reading.description(Node(plain, file.name), now_ms)
    if reading.problems:
        raise DescriptionWrong(reading.problems)
    return description


class _Reading:
    """Goes on after a mistake; what it returns then is of no use but to find more of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.problems: list[str] = []

    def description(self, root: Node, now_ms: int) -> Description:
        top = self._table(root, ("version", "security_epoch", "product", "payloads"), ("built", "requires"))
        product = self._table(top.get("product"), ("compatible", "hardware"), ())
        least, most = self._ask(fields.hardware, product.get("hardware"), (0, 0))
        return Description(
            compatible=self._ask(fields.compatible, product.get("compatible"), ()),
            hardware_min=least,
            hardware_max=most,
            version=self._ask(fields.plain_version, top.get("version"), ""),
            security_epoch=self._ask(fields.epoch, top.get("security_epoch"), 0),
            built_ms=self._ask(_built_ms, top.get("built"), now_ms),
            payloads=self._payloads(top.get("payloads")),
            requires=self._ask(fields.requires, top.get("requires"), Requires()),
        )

    def _payloads(self, node: Node | None) -> tuple[PayloadPlan, ...]:
        entries: list[Node] = self._ask(lambda found: found.array(1, fields.PAYLOADS_MAX), node, [])
        plans = [self._payload(each) for each in entries]
        for index, plan in enumerate(plans):
            before = plans[:index]
            if plan.name and any(plan.name == other.name for other in before):
                self.problems.append(f"{entries[index].where}.name: a second payload is named {plan.name}")
            if plan.target and any((plan.type, plan.target) == (other.type, other.target) for other in before):
                self.problems.append(f"{entries[index].where}.target: a second {plan.type} for {plan.target}")
        return tuple(plans)

    def _payload(self, node: Node) -> PayloadPlan:
        members = self._table(node, _PAYLOAD, _PAYLOAD_OPTIONAL)
        kind = self._ask(fields.payload_type, members.get("type"), PayloadType.SLOT_IMAGE)
        firmware = kind is PayloadType.MCU_FIRMWARE
        if "type" in members and firmware != ("version" in members):
            why = "it is missing" if firmware else f"it does not belong to a {kind}"
            self.problems.append(f"{node.where}.version: {why}")
        plan = PayloadPlan(
            name=self._ask(fields.word, members.get("name"), ""),
            type=kind,
            target=self._ask(fields.word, members.get("target"), ""),
            source=self._folder / self._ask(_source, members.get("source"), ""),
            chunk_size=self._ask(fields.chunk_size, members.get("chunk_size"), CHUNK_BYTES_DEFAULT),
            compression=self._ask(fields.compression, members.get("compression"), Compression.ZSTD),
            version=self._ask(fields.plain_version, members.get("version"), ""),
        )
        if isinstance(members.get("source", node).value, str):
            self._check_source(plan, f"{node.where}.source")
        return plan

    def _check_source(self, plan: PayloadPlan, where: str) -> None:
        try:
            listed = list_source(plan)
        except NotMade as error:
            self.problems.append(f"{where}: {error}")
            return
        except OSError as error:
            self.problems.append(f"{where}: {error.filename}: {error.strerror}")
            return
        for each in listed:
            if each.path:
                self._ask(fields.file_path, Node(each.path, f"{where}: {shown(each.path)}"), "")

    def _table(self, node: Node | None, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Node]:
        if node is None:
            return {}
        if not isinstance(node.value, dict):
            self.problems.append(f"{node.where}: {shown(node.value)} where a table belongs")
            return {}
        unknown = [name for name in node.value if name not in required and name not in optional]
        missing = [name for name in required if name not in node.value]
        self.problems += [f"{node.where}: unknown key {shown(name)}" for name in unknown]
        self.problems += [f"{node.where}: {name} is missing" for name in missing]
        return {name: node.below(name, value) for name, value in node.value.items() if name not in unknown}

    def _ask(self, read: Callable[[Node], _T], node: Node | None, instead: _T) -> _T:
        if node is None:  # optional, or said to be missing
            return instead
        try:
            return read(node)
        except UpdateRefused as error:
            self.problems.append(str(error))
            return instead


def _source(node: Node) -> str:
    return node.text(_SOURCE, "the path of a file or folder")


def _built_ms(node: Node) -> int:
    """TOML has times of its own; a text as in the manifest will do, too."""
    if isinstance(node.value, datetime) and node.value.tzinfo is not None:
        at = node.value.astimezone(UTC).replace(microsecond=0)
        return fields.built_ms(Node(at.strftime("%Y-%m-%dT%H:%M:%SZ"), node.document, node.path))
    return fields.built_ms(node)
