"""Prometheus' text format, from what the desk and the ledger say (docs/http.md).

Written here and not with prometheus-client: the numbers are the ledger's, which go on
counting through restarts, and that library counts in this process alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from appliance.reports.totals import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]

UNFINISHED = ("waiting", "running", "deferred")
QUANTILES = (0.5, 0.9, 0.99)


def exposition(state: Mapping[str, Any], totals: Totals) -> str:
    """`state` is what Desk.state() says. Joules that were not measured are not there."""
    families = [
        _family(
            "wattnap_state",
            "gauge",
            "1 for the state and the depth that the engine is in",
            [({"state": str(state["state"]), "depth": str(state["depth"])}, 1)],
        ),
        _family(
            "wattnap_requests",
            "gauge",
            "Unfinished requests",
            [({"state": name}, state.get(name) or 0) for name in UNFINISHED],
        ),
        _family(
            "wattnap_requests_ended_total",
            "counter",
            "Requests that have ended, by how",
            [({"door": d, "outcome": o}, n) for (d, o), n in totals.requests.items()],
        ),
        _family(
            "wattnap_tokens_total",
            "counter",
            "Tokens read and written",
            zip(({"kind": "prompt"}, {"kind": "completion"}), totals.tokens, strict=True),
        ),
        _family(
            "wattnap_wakes_total",
            "counter",
            "Wakes, by where from and how they ended",
            [({"from": d, "outcome": o}, n) for (d, o), (n, _) in totals.wakes.items()],
        ),
        _family(
            "wattnap_wakes_seconds_total",
            "counter",
            "Seconds that wakes have taken",
            [({"from": d, "outcome": o}, s) for (d, o), (_, s) in totals.wakes.items()],
        ),
        _family(
            "wattnap_energy_joules_total",
            "counter",
            "Joules, by what they went into; those that were measured",
            [({"line": line, "depth": d}, j) for (line, d), j in totals.energy_j.items()],
        ),
        _family(
            "wattnap_ttft_seconds",
            "gauge",
            "Seconds from acceptance to the first token, of the latest requests",
            [({"quantile": f"{q:g}"}, _quantile(totals.ttft_s, q)) for q in QUANTILES]
            if totals.ttft_s
            else [],
        ),
    ]
    return "\n".join(line for family in families for line in family) + "\n"


def _family(name: str, kind: str, help: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        # No label here has a quote, a backslash or a line end in it.
        told = ",".join(f'{key}="{text}"' for key, text in labels.items())
        yield f"{name}{{{told}}} {value:.10g}"


def _quantile(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]
