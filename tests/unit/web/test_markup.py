"""HTML: texts of others never become tags."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from agent.web.markup import Markup, el, join


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


# Without what HTML itself changes: carriage returns and characters that no document may hold.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=60)


@given(TEXTS, TEXTS)
def test_text_and_attribute_come_back_as_they_went_in(text: str, attribute: str) -> None:
    tags = Tags()
    tags.feed(el("p", text, title=attribute))
    tags.close()
    assert tags.found == [("p", [("title", attribute)])]
    assert tags.text == text


def test_attributes_may_be_bare_absent_or_dashed() -> None:
    assert el("input", required=True, hidden=False, value=None, aria_label="a", class_="b") == (
        '<input required aria-label="a" class="b">'
    )


def test_what_is_markup_is_not_escaped_again() -> None:
    assert join(el("b", "<"), None, Markup("<hr>"), 3) == "<b>&lt;</b><hr>3"
