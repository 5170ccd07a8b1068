"""Whether vLLM's way, with the GPU's boost, can be measured on this machine at all."""

from __future__ import annotations

from pathlib import Path

from appliance.config import Engine
from drivers.probe import probe
from drivers.vllm_command import BOOST_SWITCH


def no_boost(engine: Engine, root: Path = Path("/")) -> str:
    """Why `wattnap calibrate` cannot see the boost here; "": it can.

    `root`: of the machine's files. Wakes no GPU.
    """
    if not probe(root).gpus:
        return "there is no GPU here"
    if engine.device == "cpu":
        return 'engine.device is "cpu", so the GPU is not used'
    if BOOST_SWITCH in engine.env:
        return f"engine.env sets {BOOST_SWITCH}"
    return ""
