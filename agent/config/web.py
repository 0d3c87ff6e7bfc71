"""The table ``[web]`` of the configuration: the local page, its address, its TLS and who may log in.

Charter: plain data with a rule at each field, as ``agent.config.model``. Without the table there is no page, and
nothing of it is loaded. The secret's file is written by ``evsed web-secret`` and read at every login, so it need not
be there when the process starts.
"""

# ruff: noqa: RUF009 - ``ruled`` makes a dataclass field; it is not a default value.
from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from agent.config.fields import Rule, Unfit, file_rule, flag_rule, integer_rule, path_rule, ruled, show

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_NAMES_MAX = 8


def _address_rule() -> Rule:
    expected = "an IP address of this machine (0.0.0.0 or :: for all of them)"

    def convert(value: object, _base: Path) -> object:
        try:
            return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
        except ValueError:
            raise Unfit(expected, show(value), '"127.0.0.1"') from None

    return Rule(expected, '"127.0.0.1"', convert)


def _names_rule() -> Rule:
    expected = f"a list of at most {_NAMES_MAX} host names in small letters"

    def convert(value: object, _base: Path) -> object:
        names = value if isinstance(value, list) else [None]
        if len(names) > _NAMES_MAX or not all(isinstance(each, str) and _NAME.fullmatch(each) for each in names):
            raise Unfit(expected, show(value), '["charger.example.lan"]')
        return tuple(names)

    return Rule(expected, '["charger.example.lan"]', convert)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """``[web]``. ``names``: the host names under which browsers reach the page, where it is not an IP address or
    localhost: others are refused, so that no strange site can borrow a visitor's browser (DNS rebinding).

    Without ``technician_secret_file`` nobody can log in; the driver's view is there all the same."""

    address: str = ruled(_address_rule(), "127.0.0.1")
    port: int = ruled(integer_rule(1, 65_535, 8_080), 8_080)
    names: tuple[str, ...] = ruled(_names_rule(), ())
    certificate_file: Path | None = ruled(file_rule("/etc/evsed/web.pem"), None)
    key_file: Path | None = ruled(file_rule("/etc/evsed/web.key"), None)
    technician_secret_file: Path | None = ruled(path_rule("/etc/evsed/web.secret"), None)
    metrics: bool = ruled(flag_rule(True), True)

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.address).is_loopback
