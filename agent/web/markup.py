"""HTML from plain values: what is not marked as HTML is escaped.

Charter: one function that makes elements, one type that says "this is HTML already". Nothing else builds HTML in this
package, so a text of somebody else cannot become a tag.
"""

from __future__ import annotations

from html import escape

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


Child = str | int | None


def el(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """An element. ``_`` in names of attributes is written ``-`` (``class_`` is ``class``); None and False leave an
    attribute out, True writes its bare name. Children that are None are left out."""
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children in a row, without an element around them."""
    return Markup("".join(_child(child) for child in children))


def _child(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else escape(str(child))


def _attribute(key: str, value: str | int | bool | None) -> str:
    name = key.removesuffix("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
