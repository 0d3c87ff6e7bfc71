"""Rules of the native engine, whatever the slots held, however often it was interrupted."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.firmware.errors import SourceLost
from agent.firmware.manifest import Compression
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.engines.native_making import CHUNK, HEAD_BYTES, BytesSource, World, bundle, image, noise

# Few kinds of chunks, so that images share them, repeat them and move them.
contents = st.tuples(st.lists(st.integers(0, 5), max_size=7), st.integers(1, CHUNK)).map(
    lambda made: b"".join(noise(kind, CHUNK) for kind in made[0]) + noise(9, made[1])
)
packings = st.sampled_from(list(Compression))


def pieces(content: bytes) -> list[bytes]:
    return [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]


@given(contents, contents, contents, packings, st.lists(st.integers(0, 8), max_size=3), st.booleans())
def test_the_image_is_there_and_every_byte_was_hashed(
    running: bytes, before: bytes, content: bytes, packing: Compression, losses: list[int], whole: bool
) -> None:
    world = World(PowerDisk(), Path("/w"))
    world.install(bundle(image(running)), "a")
    world.install(bundle(image(before)))
    made = bundle(image(content, compression=packing))
    for reads in losses:
        try:
            world.install(made, source=BytesSource(made[1], lost_after=reads))
        except SourceLost:
            assert not world.looks_whole(made) or world.content(world.slots["b"]).startswith(before)
    outcome = world.install(made, whole=whole)
    assert world.content(world.slots["b"]).startswith(content)
    assert world.content(world.slots["a"]).startswith(running)
    assert outcome.digest == (hashlib.sha256(made[1]).digest() if whole else None)
    if whole and packing is Compression.ZSTD:
        assert outcome.fetched_bytes == len(made[1])
    elif not losses:
        pairs = zip(made[0].payloads[0].chunks, pieces(content), strict=True)
        lacking = [
            chunk.stored_size
            for index, (chunk, piece) in enumerate(pairs)
            if piece not in pieces(running) and piece not in pieces(before)[index : index + 1]
        ]
        assert outcome.fetched_bytes == sum(lacking) + (HEAD_BYTES if whole else 0)
    assert outcome.told[-1].done_bytes == outcome.told[-1].total_bytes == len(content)
    world.read_back(made)
    again = world.install(made)
    assert (again.fetched_bytes, again.written_bytes) == (0, 0)
