"""What the demo runs with: the daemon's configuration, and the model it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from appliance.demo.mosquitto import Broker
from appliance.spelling import toml_value


class Parts(Struct, frozen=True, kw_only=True):
    """What the demo is made of.

    engine_python  has vLLM; not needed if `fake`
    mosquitto      the broker's program
    model          a directory; None: the model in the box
    cache          for the engine's caches and the last ledger
    keep           where to run and leave everything; None: a temporary folder
    """

    engine_python: Path | None
    mosquitto: Path
    model: Path | None
    cache: Path
    keep: Path | None
    fake: bool


def settings(parts: Parts, broker: Broker, folder: Path, runtime: Path) -> str:
    """The daemon's configuration file. The model that it names is there."""
    return _toml(
        {
            "name": "demo",
            "state_dir": str(folder / "state"),
            "runtime_dir": str(runtime),
            "mqtt": {
                "host": broker.host,
                "port": broker.port,
                "username": broker.username,
                "password_file": str(broker.password_file),
            },
            # The story begins with an engine that is not there.
            "power": {"policy": "fixed", "idle_timeout_s": idle_timeout_s(parts), "bake": False},
            "engine": {"kind": "fake"} if parts.fake else _engine(parts),
            # A GPU's counter says nothing about an engine that does not use it.
            "energy": {"meter": "cpu_time" if parts.fake else "auto"},
        }
    )


def idle_timeout_s(parts: Parts) -> float:
    """Short, for those who watch."""
    return 1.0 if parts.fake else 3.0


def _engine(parts: Parts) -> dict[str, Any]:  # TOML
    return {
        "kind": "vllm",
        "python": str(parts.engine_python),
        "model": str(parts.model or ""),
        "max_model_len": 512,
        "kv_cache_mib": 16,
        "max_running": 4,
        "enforce_eager": True,
        "cache_dir": str(parts.cache / "engine"),
    }


def _toml(tables: dict[str, Any]) -> str:  # TOML
    """Keys, then tables, one deep."""

    def lines(table: dict[str, Any]) -> list[str]:
        return [f"{k} = {toml_value(v)}" for k, v in table.items() if not isinstance(v, dict)]

    parts = lines(tables)
    for name, table in tables.items():
        if isinstance(table, dict):
            parts += [f"\n[{name}]", *lines(table)]
    return "\n".join(parts) + "\n"
