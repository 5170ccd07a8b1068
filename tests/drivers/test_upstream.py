from __future__ import annotations

import itertools
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import DriverError, Unresponsive
from drivers.upstream import Call, Events


class Reads:
    """What a connection delivers, read by read."""

    def __init__(self, reads: list[bytes]) -> None:
        self.reads = reads

    async def read(self) -> bytes:
        return self.reads.pop(0) if self.reads else b""

    async def broken(self, why: str) -> DriverError:
        return Unresponsive("test", why)


async def chunks_of(reads: list[bytes]) -> list[bytes]:
    return [chunk async for chunk in Events(cast("Call", Reads(reads)))]


@given(
    events=st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
async def test_events_stay_whole(events: list[bytes], cuts: list[int]) -> None:
    """However the network cuts a stream, nothing is lost, and chunks end where events end."""
    body = b"".join(b"data: " + event + b"\n\n" for event in events)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    reads = [body[a:b] for a, b in itertools.pairwise(places)]
    chunks = await chunks_of(reads)

    assert b"".join(chunks) == body
    assert all(chunk.endswith(b"\n\n") for chunk in chunks)


async def test_events_of_one_read_stay_together() -> None:
    """Many events that came together go on together, as the very same bytes."""
    read = b"data: 1\n\ndata: 2\n\n"
    (chunk,) = await chunks_of([read])

    assert chunk is read


async def test_an_end_inside_an_event() -> None:
    """A stream that ends inside an event gives its whole events, then raises."""
    with pytest.raises(Unresponsive, match="inside an event"):
        await chunks_of([b"data: 1\n\ndata: "])
