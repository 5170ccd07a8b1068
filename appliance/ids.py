"""Ids of our own making: UUIDs of version 7, which sort by time (RFC 9562 §5.7)."""

from __future__ import annotations

import os
import uuid

from appliance.clock import Clock


def new_id(clock: Clock) -> str:
    """48 bits of Unix milliseconds, then version, variant and 74 random bits."""
    milliseconds = int(clock.utc().timestamp() * 1000) & (1 << 48) - 1
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
