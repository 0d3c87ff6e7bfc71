"""Text in the format OpenMetrics 1.0: families of metrics, their samples, and the end mark.

Charter: the grammar, and no metric. Pure. Numbers come in as integers and go out as exact decimals: 1 mWh is 3.6 J,
not 3.5999999999999996.

Source: OpenMetrics 1.0.0 (section 4, "Data transmission & wire formats").
"""

from __future__ import annotations

from typing import Final

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Exposition:
    """A text that grows family by family; ``text`` ends it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._families: set[str] = set()
        self._name = self._kind = ""

    def family(self, name: str, kind: str, help_text: str, unit: str = "") -> None:
        """Begin a family; its samples follow. ``kind``: gauge, counter, histogram, summary or info.

        Raises ``ValueError`` for a second family of the same name, and for a name that does not end with its unit."""
        if name in self._families or not name.endswith(unit):
            raise ValueError(f"metric {name}: there is one already, or it does not end with its unit {unit!r}")
        self._families.add(name)
        self._name, self._kind = name, kind
        self._lines.append(f"# TYPE {name} {kind}")
        if unit:
            self._lines.append(f"# UNIT {name} {unit}")
        self._lines.append(f"# HELP {name} {help_text.translate(_ESCAPES)}")

    def sample(self, value: int | str, suffix: str | None = None, **labels: object) -> None:
        """One sample of the family; ``suffix`` where it has several, else it goes by the kind."""
        if suffix is None:
            suffix = {"counter": "_total", "info": "_info"}.get(self._kind, "")
        inner = ",".join(f'{name}="{str(each).translate(_ESCAPES)}"' for name, each in labels.items())
        self._lines.append(f"{self._name}{suffix}{'{' + inner + '}' if inner else ''} {value}")

    def text(self) -> str:
        return "\n".join([*self._lines, "# EOF", ""])


def decimal(value: int, digits: int) -> str:
    """``value`` / 10 ** ``digits``, exactly: ``decimal(-1_050, 3)`` is -1.05."""
    whole, rest = divmod(abs(value), 10**digits)
    fraction = f"{rest:0{digits}d}".rstrip("0") if digits else ""
    return f"{'-' if value < 0 else ''}{whole}{'.' + fraction if fraction else ''}"
