"""How an outcome is written down: the same JSON at every door, once and for all."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from appliance.errors import ApplianceError
from appliance.machine.serving import Served


class Timing(Struct, frozen=True, kw_only=True):
    """Seconds. `queued_s`: acceptance to start; `ttft_s` and `total_s` count from acceptance."""

    queued_s: float
    wake_s: float
    ttft_s: float | None
    total_s: float


class EnergyShare(Struct, frozen=True, kw_only=True):
    """Joules, as far as is known when the answer leaves. None: not measured, or not yet.

    marginal_j  what it has drawn above the idle floor
    wake_j      its part of the wake that began this awake period, if nobody else comes
    """

    marginal_j: float | None
    wake_j: float | None
    source: str | None
    final: bool = False


def answer(
    id: str, model: str, form: str, served: Served, energy: EnergyShare, timing: Timing
) -> bytes:
    """The JSON of a request that was answered."""
    told: dict[str, Any] = {"id": id}
    if form == "text":
        told["text"] = served.message["content"]
    else:
        told["message"] = served.message
    told["finish_reason"] = served.finish_reason
    told["usage"] = served.usage
    if served.logprobs is not None:
        told["logprobs"] = served.logprobs
    shares = {name: getattr(energy, name) for name in ("marginal_j", "wake_j", "source", "final")}
    rounded = {key: _rounded(value) for key, value in shares.items()}
    times = {name: _rounded(getattr(timing, name)) for name in Timing.__struct_fields__}
    return msgspec.json.encode(told | {"model": model, "energy": rounded, "timing": times})


def failure(id: str | None, error: ApplianceError) -> bytes:
    """The JSON of a request that was not."""
    return msgspec.json.encode({"id": id, "error": error.as_dict()})


def _rounded(value: Any) -> Any:  # a float loses the digits that no meter has
    return round(value, 4) if isinstance(value, float) else value
