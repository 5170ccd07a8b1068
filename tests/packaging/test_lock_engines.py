"""How engines.lock is written: what fits a machine, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.setup.engine_lock import Engine, read_lock
from tools.lock_engines import RECIPES, Recipe, applies, missing, python_marker, wheels_for

RECIPE = RECIPES[0]
SHA = "a" * 64
ENGINES = {engine.name: engine for engine in read_lock()}
LOCKED = [pytest.param(recipe, ENGINES[recipe.name], id=recipe.name) for recipe in RECIPES]
NVIDIA = [engine for engine in ENGINES.values() if engine.accelerator == "nvidia"]


def package(name: str, *files: str, marker: str | None = None) -> dict[str, Any]:
    wheels = [{"url": f"x:/{file}", "hashes": {"sha256": SHA}} for file in files]
    described = {"name": name, "version": "1.0+cpu", "wheels": wheels}
    return described | ({"marker": marker} if marker else {})


def test_keeps_wheels_that_fit() -> None:
    """Of another system, architecture, libc or Python: left out."""
    found = package(
        "Some_Thing",
        "Some_Thing-1.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "Some_Thing-1.0%2Bcpu-cp38-abi3-manylinux2014_x86_64.whl",
        "Some_Thing-1.0%2Bcpu-cp310-cp310-manylinux_2_28_x86_64.whl",
        "Some_Thing-1.0%2Bcpu-cp311-cp311-manylinux_2_28_aarch64.whl",
        "Some_Thing-1.0%2Bcpu-cp311-cp311-musllinux_1_2_x86_64.whl",
        "Some_Thing-1.0%2Bcpu-cp311-cp311-manylinux_2_40_x86_64.whl",
        "Some_Thing-1.0%2Bcpu-cp311-cp311-win_amd64.whl",
    )

    chosen = wheels_for(RECIPE, [found], {})

    assert chosen == {
        "some-thing==1.0+cpu": [
            f"cp311-cp311-manylinux_2_28_x86_64 {SHA}",
            f"cp38-abi3-manylinux2014_x86_64 {SHA}",
        ]
    }


def test_files_not_seen_here_stay() -> None:
    """A locked file of the same version is kept; of another version it goes."""
    found = package("torch", "torch-1.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl")
    elsewhere = f"cp312-cp312-manylinux_2_28_x86_64 {'b' * 64}"
    kept = {"torch==1.0+cpu": [elsewhere], "torch==0.9+cpu": [elsewhere]}

    chosen = wheels_for(RECIPE, [found], kept)

    assert list(chosen) == ["torch==1.0+cpu"]
    assert elsewhere in chosen["torch==1.0+cpu"]


def test_leaves_out_what_is_for_others() -> None:
    """A package for another system is not locked; one for some Pythons says so."""
    windows = package("a", "a-1.0%2Bcpu-py3-none-any.whl", marker="sys_platform == 'win32'")
    newer = package("b", "b-1.0%2Bcpu-py3-none-any.whl", marker="python_version >= '3.13'")

    assert list(wheels_for(RECIPE, [windows, newer], {})) == [
        "b==1.0+cpu; python_version >= '3.13'"
    ]


def test_a_python_without_a_wheel_is_found_out() -> None:
    """An entry is not offered for a Python that one of its packages has no wheel for."""
    wheels = {
        "a==1": [f"cp311-cp311-manylinux_2_28_x86_64 {SHA}"],
        "b==1": [f"py2.py3-none-any {SHA}"],
        "c==1; python_version >= '3.13'": [f"cp313-cp313-manylinux_2_28_x86_64 {SHA}"],
    }

    assert missing(wheels, RECIPE, "3.11") == []
    assert missing(wheels, RECIPE, "3.12") == ["a==1"]
    assert missing(wheels, RECIPE, "3.14") == ["a==1", "c==1; python_version >= '3.13'"]


@pytest.mark.parametrize(
    "pythons", [("3.11",), ("3.12", "3.13"), ("3.13", "3.14"), ("3.11", "3.12", "3.13", "3.14")]
)
def test_the_marker_means_these_pythons(pythons: tuple[str, ...]) -> None:
    """What is written after a requirement is read back as the same Pythons."""
    _, _, marker = python_marker(pythons).partition("; ")

    everyone = ("3.11", "3.12", "3.13", "3.14")
    assert tuple(p for p in everyone if applies(marker or None, "x86_64", p)) == pythons


@pytest.mark.parametrize(("recipe", "engine"), LOCKED)
def test_each_python_on_offer_has_all_wheels(recipe: Recipe, engine: Engine) -> None:
    """The lock as it is: what it says to be installable is."""
    packages = {name: list(wheels) for name, wheels in engine.packages.items()}

    lacking = {python: missing(packages, recipe, python) for python in engine.pythons}
    assert not any(lacking.values()), lacking


@pytest.mark.parametrize("engine", NVIDIA, ids=lambda engine: engine.name)
def test_an_engine_for_a_gpu_loads_with_instanttensor(engine: Engine) -> None:
    """Under each of its Pythons, unconditionally: vLLM for CUDA asks for it by itself so far."""
    assert "instanttensor" in [
        requirement.partition("==")[0] for requirement in engine.packages if ";" not in requirement
    ]
