"""The receipt as a page: whole, alone, accessible, and what it shows is what is sealed in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from agent.billing.errors import ReceiptError
from agent.billing.facts import Flags
from agent.billing.forms import Form, written
from agent.billing.html import render
from agent.billing.page import FILE_MAX_BYTES, find, verify_found
from agent.billing.read import Receipt, parse
from agent.billing.seal import as_json
from agent.billing.told import Told
from agent.billing.verdicts import State
from agent.ocmf.container import read_container
from agent.ocmf.public_key import PublicKey
from tests.unit.billing import making
from tests.unit.billing.making import KEY
from tests.unit.billing.strangers import HOSTILE, hostile_receipt

PUBLIC = PublicKey(der=KEY.public_der)
RECEIPT = parse(making.sealed())
PAGE = render(RECEIPT)
_VOID = {"meta"}


class _Tree(HTMLParser):
    """Refuses what a browser would have to repair."""

    def __init__(self, page: str, records: int = 1) -> None:
        self.records = records
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "pre" not in self.open:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


_TAGS = """html head
    meta title style body main header h1 h2 p dl div dt dd ul li section table caption thead tbody tfoot
    tr th td details summary pre code a"""
_ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "scope", "role", "data-name", "id", "href"}


def assert_harmless(tree: _Tree) -> None:
    """Only elements and attributes that do nothing by themselves, and nothing that loads."""
    assert {name for name, _ in tree.tags} <= set(_TAGS.split())
    assert {name for _, attributes in tree.tags for name in attributes} <= _ATTRIBUTES | {"download"}
    assert len([name for name, _ in tree.tags if name == "pre"]) == 2 + tree.records
    assert all((each["href"] or "").startswith("data:application/xml;base64,") for each in tree.all("a"))


def states(page: str, key: PublicKey | None = PUBLIC) -> dict[str, State]:
    return {each.name: each.state for each in verify_found(find(page.encode()), key)}


def test_a_page_is_true() -> None:
    assert set(states(PAGE).values()) == {State.GOOD}
    assert find(PAGE.encode()).receipt == RECEIPT


@pytest.mark.parametrize("told", [Told("12.30", True), Told("", False, 'a"b<c>&\n')])
def test_what_the_operator_told_goes_through(told: Told) -> None:
    page = render(RECEIPT, told)
    assert find(page.encode()).told == told
    assert states(page)["display"] is State.GOOD
    assert "did not sign it" in page


def test_is_well_formed_and_alone() -> None:
    tree = _Tree(PAGE)
    assert_harmless(tree)
    assert [each["href"][:29] for each in tree.all("a") if each["href"]] == ["data:application/xml;base64,P"]
    assert "url(" not in PAGE
    assert "@import" not in PAGE
    assert "//" not in re.sub(r"<pre.*?</pre>|base64,[^\"]*", "", PAGE, flags=re.DOTALL)


def test_tables_say_what_their_cells_are() -> None:
    tree = _Tree(PAGE)
    assert tree.all("html") == [{"lang": "en"}]
    assert len(tree.all("table")) == PAGE.count("<caption>") == 2
    assert {each.get("scope") for each in tree.all("th")} == {"col", "row"}
    assert len([name for name, _ in tree.tags if name == "h1"]) == 1


def test_holds_the_bytes_and_the_records_verbatim() -> None:
    holder = re.findall(r"<pre[^>]*>([^<]*)</pre>", PAGE)
    assert holder[0].replace("&quot;", '"') == RECEIPT.sealed.decode()
    assert holder[1].replace("&quot;", '"') == RECEIPT.records[0]


def test_the_download_is_what_transparency_software_opens() -> None:
    (link,) = _Tree(PAGE).all("a")
    xml = base64.b64decode((link["href"] or "").partition("base64,")[2])
    (value,) = read_container(xml)
    assert (value.signed.decode(), value.public_key) == (RECEIPT.records[0], KEY.public_hex)
    assert (value.transaction_id, value.context) == (41, "")
    assert xml == written(RECEIPT, Form.XML)


def test_begin_and_end_apart_have_their_contexts() -> None:
    of = RECEIPT.facts
    records = (making.record(of, letters="B"), making.record(of, letters="L", number="T8"), "no record")
    values = read_container(written(replace(RECEIPT, records=records), Form.XML) or b"")
    assert [value.context for value in values] == ["Transaction.Begin", "Transaction.End", ""]


def test_shows_the_commands() -> None:
    assert "evsed receipt verify FILE --key KEY" in PAGE
    assert "evsed ocmf verify RECORDS --key KEY" in PAGE


def test_has_a_look_for_paper_and_dark_rooms() -> None:
    for query in ("@media print", "prefers-color-scheme: dark", "max-width"):
        assert query in PAGE


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_strangers_stay_texts(text: str) -> None:
    page = render(hostile_receipt(text), Told(text, True, text))
    tree = _Tree(page, records=2)
    assert_harmless(tree)
    assert all(char == "\n" or char.isprintable() for each in tree.texts for char in each)
    assert states(page, None)["display"] is State.GOOD


# ------------------------------------------------------------------------------------ changed pages


def _numbers(page: str) -> Iterator[int]:
    """Where a digit is shown: outside tags, the style, and what is embedded."""
    hidden = [match.span() for match in re.finditer(r"<(style|pre|details)[^>]*>.*?</\1>|<[^>]*>", page, re.DOTALL)]
    for match in re.finditer(r"[0-9]", page):
        if not any(begin <= match.start() < end for begin, end in hidden):
            yield match.start()


def test_any_shown_digit_changed_is_found() -> None:
    places = list(_numbers(PAGE))
    assert len(places) > 300
    for at in places:
        page = PAGE[:at] + ("7" if PAGE[at] != "7" else "8") + PAGE[at + 1 :]
        found = find(page.encode())
        assert render(found.receipt, found.told).encode() != found.page
    assert states(page)["display"] is State.BAD


@pytest.mark.parametrize(
    "change",
    [
        lambda page: page.replace("</style>", ".headline { display: none }</style>"),
        lambda page: page.replace("<main>", "<main><p>Total 0.00 EUR</p>"),
        lambda page: page.replace("<main>", "<main><script>alert(1)</script>"),
        lambda page: page.replace("\n", "\r\n"),
        lambda page: page + "<p>more</p>",
        lambda page: page.replace(RECEIPT.records[0].replace('"', "&quot;"), "OCMF|{}|{}"),
    ],
)  # fmt: skip
def test_a_page_that_shows_anything_else_is_found(change: object) -> None:
    page = change(PAGE)  # type: ignore[operator]
    assert page != PAGE
    assert states(page)["display"] is State.BAD


def test_a_receipt_changed_inside_the_page_is_found() -> None:
    assert "&quot;number&quot;:17" in PAGE
    assert states(PAGE.replace("&quot;number&quot;:17", "&quot;number&quot;:18"))["signature"] is State.BAD


def test_another_receipt_inside_the_page_is_found() -> None:
    other = parse(making.sealed(number=18)).sealed.decode().replace('"', "&quot;")
    page = PAGE.replace(RECEIPT.sealed.decode().replace('"', "&quot;"), other)
    assert states(page)["signature"] is State.GOOD
    assert states(page)["display"] is State.BAD


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"<html></html>", "page"),
        (PAGE.replace("<main>", '<main><pre id="evsed-receipt">x</pre>').encode(), "page"),
        (PAGE.replace("evsed-receipt", "other").encode(), "page"),
        (b"<\xff>", "page"),
        (b"<pre id=evsed-receipt>\xc3\xbc</pre>", "page"),
        (b"<pre id=evsed-receipt>x</pre>", "frame"),
        (b'<meta name=evsed-told content="{}">' + PAGE.encode(), "page"),
        (b'<meta name=evsed-told content="[[[">' + PAGE.encode(), "page"),
        (b'<meta name=evsed-told content=\'{"cost":1,"final":true}\'>' + PAGE.encode(), "page"),
        (b"<!" + b"[" * 5_000, "page"),
        (b"<" * (FILE_MAX_BYTES + 1), "file"),
        (b"{}", "frame"),
        (b'{"payload":{},"signature":{}', "signature section"),
        (b"", "frame"),
        (b"\x00" * 100, "frame"),
    ],
)  # fmt: skip
def test_files_that_hold_no_receipt(data: bytes, place: str) -> None:
    with pytest.raises(ReceiptError) as caught:
        find(data)
    assert caught.value.place == place


# --------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("form", [Form.JSON, Form.SEALED, Form.HTML])
def test_every_form_with_the_receipt_in_it_can_be_verified(form: Form) -> None:
    data = written(RECEIPT, form) or b""
    assert {each.state for each in verify_found(find(data), PUBLIC)} == {State.GOOD}


def test_a_changed_json_form_is_found() -> None:
    changed = as_json(RECEIPT.sealed).replace(b'"local_number":41', b'"local_number":42')
    assert {each.name for each in verify_found(find(changed), PUBLIC) if each.state is State.BAD} == {"signature"}


def test_records_one_per_line() -> None:
    assert written(RECEIPT, Form.OCMF) == f"{RECEIPT.records[0]}\n".encode()


@pytest.mark.parametrize("form", [Form.OCMF, Form.XML])
def test_nothing_to_write_without_records(form: Form) -> None:
    bare: Receipt = replace(RECEIPT, records=())
    assert written(bare, form) is None
    assert "Save the meter records" not in render(bare)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("power_failure", "The power failed during this transaction. Time without power is not billed."),
        ("time_not_billable", "The station&#x27;s clock was not good enough to bill time: time costs nothing here."),
        ("substituted_reading", "The meter could not be read at the end. The last good reading counts."),
    ],
)
def test_a_page_in_the_words_of_an_earlier_release_stays_true(flag: str, said: str) -> None:
    """Some of them said what was not so, and were given away all the same."""
    usage = making.used((making.TARIFF,))
    flags = Flags(**{flag: True, "substituted_reading": True})
    receipt = parse(making.sealed(replace(making.facts(usage=usage), flags=flags), usage))
    now, before = render(receipt), render(receipt, earlier=True)
    assert said in before and said not in now
    assert states(now)["display"] is states(before)["display"] is State.GOOD
    assert states(before.replace("7.91", "7.90"))["display"] is State.BAD


@pytest.mark.parametrize(
    ("price", "total", "table"),
    [(None, "7.91 EUR", True), (0, "nothing is billed", False)],
    ids=["billed by older software", "billed at 0"],
)
def test_what_is_not_billable_shows_what_was_signed(price: int | None, total: str, table: bool) -> None:
    """Older software set the flag and billed all the same: that is the sum that the driver owes or has paid."""
    free = {"tariffId": "free", "currency": "EUR", "energy": {"prices": [{"priceKwh": price}]}}
    tariffs = (making.TARIFF if price is None else free,)
    usage = making.used(tariffs)
    flags = Flags(not_billable=True, time_not_billable=True)
    receipt = parse(making.sealed(making.facts(tariffs, usage, flags=flags), usage))
    now, before = render(receipt), render(receipt, earlier=True)
    assert f"<dt>Total</dt><dd>{total}</dd>" in now and ("What it costs" in now) is table
    assert "The meter readings of this transaction are not good enough for a bill." in now
    assert ("time costs nothing here" in now) is not table, "of a bill with time in it that is not so"
    assert f"<dt>Total</dt><dd>{'7.91' if table else '0.00'} EUR</dd>" in before
    assert states(now)["display"] is states(before)["display"] is State.GOOD
    assert states(now.replace(total, "7.90 EUR"))["display"] is State.BAD
