"""Kinds of values that several sections of the configuration have."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from appliance.section import FOR_EVER_S

Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="1 to 64 of the characters A-Z a-z 0-9 . _ -",
    ),
]
Topic = Annotated[
    str,
    Meta(
        pattern=r"^[^+#\x00]*$",
        max_length=1024,
        description="a topic without + and #, of up to 1024 characters",
    ),
]
# Sockets and vLLM count milliseconds in 32 bits, which is 24 days.
Wait = Annotated[float, Meta(gt=0, le=7 * 86400)]
Seconds = Annotated[float, Meta(ge=0, le=FOR_EVER_S)]
Count = Annotated[int, Meta(ge=1)]
Auto = Literal["auto"]
