"""What a CSMS is not told of: what the station did while it had none, or told another one.

Charter: reads the ledger at a start, and says what to keep of how far the CSMS has come. What a station writes without
``[csms]`` concerns nobody, so a start without it leaves a mark, and the first one with it goes on behind all that is
there. A transaction that is open then has a start that this CSMS never took (16-TX-07, 20-TE-06). Where an earlier CSMS
had not heard everything yet there is no mark: the rows wait for it.

A transaction that the CSMS before was told of is open there, under the number that it gave; here that number may be
somebody else's. So beside the cursor stands which CSMS has accepted the station last, by its URL, and where another one
does, what is open and told has a start that it never took, too. How the URL is written does not matter, nor whether it
is ws or wss: where a security profile is raised, the CSMS is nearly always the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import structlog

from agent.ipc.port import NO_CSMS_ID, CsmsTx
from agent.ledger.state import Delete, Namespace, Put, StateChange
from agent.station.archive import CURSOR, Archive, csms_tx_text

ALONE: Final = "alone"
ACCEPTED_BY: Final = "accepted by"
_DEFAULT_PORTS: Final = {"ws": ":80", "wss": ":443"}

log = structlog.get_logger("station")


def cursor_at_start(archive: Archive, *, has_csms: bool) -> list[StateChange]:
    """What is to be kept before this start writes any row; ``archive`` skips what is no CSMS's at once."""
    is_alone = ALONE in archive.state(Namespace.CURSOR)
    if not has_csms:
        becomes_alone = not is_alone and archive.progress().undelivered == 0
        return [Put(Namespace.CURSOR, ALONE, "yes")] if becomes_alone else []
    if not is_alone:
        return []
    archive.skipped_seq = head_seq = archive.head_seq()
    log.info("first CSMS, it is not told what was before", up_to_row=head_seq)
    changes = _never_taken(archive.open_tx_ids())
    changes += [Put(Namespace.CURSOR, CURSOR, str(head_seq)), Delete(Namespace.CURSOR, ALONE)]
    return changes


def same_csms(one: str, other: str) -> bool:
    """Whether two URLs lead to one CSMS."""
    return one == other or _place(one) == _place(other)


def accepted_by(url: str, before: str, archive: Archive, delivered_seq: int) -> list[StateChange]:
    """What is to be kept when the CSMS at ``url`` accepts the station; ``before``: the one that did last, empty where
    nobody knows. ``delivered_seq``: up to here somebody was told, be that on disk yet or not."""
    kept = Put(Namespace.CURSOR, ACCEPTED_BY, url)
    if not before:
        return [kept]
    half_told = archive.half_told(delivered_seq)
    log.warning("another CSMS than before", url=url, before=before, transactions_begun_there=half_told)
    return [*_never_taken(half_told), kept]


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    host = parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
    return f"{host}{parts.path.removesuffix('/')}?{parts.query}"


def _never_taken(tx_ids: Iterable[str]) -> list[StateChange]:
    given_up = (CsmsTx(tx_id, NO_CSMS_ID, given_up=True) for tx_id in tx_ids)
    return [Put(Namespace.CSMS_TX, tx.tx_id, csms_tx_text(tx)) for tx in given_up]
