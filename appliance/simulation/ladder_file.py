"""Price lists of ladders, in TOML: those that come with wattnap, and anybody's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.errors import DataUnusable
from appliance.refusal import of_toml
from policies.ladder import Depth, Ladder, Rung

SHIPPED = Path(__file__).with_name("ladders")

Amount = Annotated[float, Meta(ge=0, le=1e9)]


class _Rung(Struct, frozen=True, forbid_unknown_fields=True):
    depth: Literal["awake", "light", "parked", "stopped", "off"]
    power_w: Amount
    enter_s: Amount = 0.0
    enter_j: Amount = 0.0
    wake_s: Amount = 0.0
    wake_j: Amount = 0.0


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    rung: Annotated[tuple[_Rung, ...], Meta(min_length=1)]
    title: str = ""
    as_shipped_w: Amount | None = None


class PriceList(Struct, frozen=True):
    """as_shipped_w  awake and idle as vLLM ships, if that is more than the awake rung's power"""

    name: str
    title: str
    ladder: Ladder
    as_shipped_w: float | None = None


def read(name: str) -> PriceList:
    """A file, or one of those that come with wattnap, by its name.

    Raises DataUnusable, naming the file and what is wrong with it.
    """
    path = SHIPPED / f"{name}.toml" if name in shipped() else Path(name)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataUnusable(
            f"{path}: {os.strerror(error.errno or 0)}; a file, or one of {', '.join(shipped())}"
        ) from error
    try:
        found = msgspec.toml.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataUnusable(f"{path}: {of_toml(error, raw, _File).message}") from error
    depths = [Depth[rung.depth.upper()] for rung in found.rung]
    if depths[0] is not Depth.AWAKE or depths != sorted(set(depths)):
        raise DataUnusable(f"{path}: rungs go from awake down, each depth once at most")
    awake = found.rung[0]
    if awake.enter_s or awake.enter_j or awake.wake_s or awake.wake_j:
        raise DataUnusable(f"{path}: nothing leads to the awake rung but the others' wakes")
    if found.as_shipped_w is not None and found.as_shipped_w < awake.power_w:
        raise DataUnusable(f"{path}: as_shipped_w is less than what the awake rung draws")
    ladder = tuple(
        Rung(
            depth=depth,
            power_w=rung.power_w,
            enter_s=rung.enter_s,
            enter_j=rung.enter_j,
            wake_s=rung.wake_s,
            wake_j=rung.wake_j,
            source=found.title or name,
        )
        for depth, rung in zip(depths, found.rung, strict=True)
    )
    return PriceList(name, found.title or name, ladder, found.as_shipped_w)


def shipped() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))
