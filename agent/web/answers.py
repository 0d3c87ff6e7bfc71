"""Small things that handlers share: forms, redirects, who asks.

Charter: between starlette's requests and our pages; no page is known here.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

_FIELDS_MAX = 20


class Html(Response):
    media_type = "text/html"


def see(path: str) -> Response:
    """The browser goes there with GET."""
    return RedirectResponse(path, status_code=303)


def address_of(request: Request) -> str:
    """The peer's IP address; nobody in between is believed."""
    return request.client.host if request.client is not None else "unknown"


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, each once; empty for what is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if kind != "application/x-www-form-urlencoded":
        return {}
    try:
        found = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in found.items()}


def number_of(request: Request, name: str, low: int, high: int) -> int | None:
    """A whole number of the query within these limits; None for anything else."""
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        return None
    return int(text) if low <= int(text) <= high else None
