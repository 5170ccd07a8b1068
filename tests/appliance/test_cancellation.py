"""A cancellation that was swallowed, and one that never was."""

from __future__ import annotations

import asyncio

import pytest

from appliance import cancellation


@pytest.mark.parametrize("ticks", range(6))
async def test_whenever_a_wait_is_cancelled(ticks: int) -> None:
    """Before its end, after it, and in the moment in which wait_for loses it."""
    end = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await asyncio.wait_for(end, 10)
        cancellation.heed()
        await asyncio.sleep(10)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    end.set_result(None)
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task


async def test_one_that_was_swallowed() -> None:
    """By whatever."""
    waits = asyncio.Event()

    async def wait() -> None:
        waits.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancellation.heed()
        raise AssertionError("it went on")

    task = asyncio.ensure_future(wait())
    await waits.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_without_one() -> None:
    """Nothing happens."""
    cancellation.heed()
