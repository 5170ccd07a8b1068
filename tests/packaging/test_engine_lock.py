"""Which engine fits which machine, and what the lock promises about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.setup.engine_lock import (
    LOCK,
    Engine,
    Machine,
    NoEngine,
    choose,
    facts,
    main,
    named,
    probe,
    read_lock,
    requirements,
)

PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (root@)\n"
    "GCC version:  gcc version 12.3.0"
)


@pytest.fixture(scope="module")
def engines() -> tuple[Engine, ...]:
    return read_lock()


def machine(accelerator: str = "cpu", **differences: str) -> Machine:
    usual = {"architecture": "x86_64", "driver": "", "python": "3.11"}
    return Machine(accelerator=accelerator, **{**usual, **differences})


def with_files(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def with_nvidia(root: Path, version: str) -> Path:
    path = root / "proc/driver/nvidia/version"
    path.parent.mkdir(parents=True)
    path.write_text(version)
    return root


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (machine(), "cpu-x86_64"),
        (machine(architecture="aarch64"), "cpu-aarch64"),
        (machine("nvidia", driver="580.82.07"), "nvidia-x86_64"),
        (machine("nvidia", driver="590.1", architecture="aarch64"), "nvidia-aarch64"),
    ],
)
def test_fits_the_machine(engines: tuple[Engine, ...], here: Machine, expected: str) -> None:
    """Architecture and accelerator choose the entry."""
    engine = choose(engines, here)

    assert engine.name == expected


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (machine("nvidia", driver="550.54.14"), "driver 580.65 or newer.* has 550.54.14; install"),
        (machine("nvidia", driver="580.9"), "driver 580.65 or newer"),
        (machine("jetson", architecture="aarch64"), "give its Python as engine_python"),
        (machine(architecture="riscv64"), "no engine is locked for cpu on riscv64"),
        (machine(python="3.10"), "Python 3.11, .*, not for 3.10"),
    ],
)
def test_refuses_with_the_remedy(engines: tuple[Engine, ...], here: Machine, expected: str) -> None:
    """A machine that no entry fits is told what would have to change."""
    with pytest.raises(NoEngine, match=expected):
        choose(engines, here)


def test_an_entry_can_be_asked_for(engines: tuple[Engine, ...]) -> None:
    """By name, a box with a GPU gets the engine for CPUs."""
    engine = named(engines, "cpu-x86_64", machine("nvidia", driver="470.1"))

    assert engine.accelerator == "cpu"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cuda", "no engine is called 'cuda'; there are cpu-x86_64, "),
        ("jetson-aarch64", "no engine is called"),
        ("cpu-aarch64", "is for aarch64, this is x86_64"),
    ],
)
def test_asking_for_the_impossible(engines: tuple[Engine, ...], name: str, expected: str) -> None:
    """An entry that cannot be installed here is refused, with those that exist."""
    with pytest.raises(NoEngine, match=expected):
        named(engines, name, machine())


@pytest.mark.parametrize(("said", "expected"), [(PROPRIETARY, "550.54.14"), (OPEN, "580.82.07")])
def test_sees_an_nvidia_gpu(tmp_path: Path, said: str, expected: str) -> None:
    """The kernel module's version is read from its file, without waking the GPU."""
    root = with_nvidia(tmp_path, said)
    (root / "dev").mkdir()
    (root / "dev/nvidia0").touch()

    here = probe(root, (3, 12))

    assert (here.accelerator, here.driver, here.python) == ("nvidia", expected, "3.12")


def test_a_container_without_its_hosts_gpu(tmp_path: Path) -> None:
    """A driver without a device is a machine without a GPU."""
    root = with_nvidia(tmp_path, OPEN)
    (root / "dev").mkdir()
    (root / "dev/nvidiactl").touch()

    here = probe(root)

    assert (here.accelerator, here.driver) == ("cpu", "")


def test_sees_a_jetson(tmp_path: Path) -> None:
    """A Tegra board is one, whatever its driver says."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3")

    here = probe(tmp_path)

    assert here.accelerator == "jetson"


def test_every_file_is_pinned(engines: tuple[Engine, ...]) -> None:
    """pip is given one version and only SHA-256 digests, and told no address."""
    for engine in engines:
        for requirement, wheels in engine.packages.items():
            assert re.fullmatch(r"[a-z0-9-]+==[^ ;]+(; python_version .*)?", requirement)
            assert wheels
            assert all(re.fullmatch(r"\S+-\S+-\S+ [0-9a-f]{64}", wheel) for wheel in wheels)

    assert "://" not in LOCK.read_text()


def test_the_engine_itself_is_locked(engines: tuple[Engine, ...]) -> None:
    """What an entry is called after is among its packages."""
    for engine in engines:
        assert not engine.pythons or engine.engine in engine.packages


def test_requirements_are_pips(engines: tuple[Engine, ...]) -> None:
    """A requirement, then its digests, continued over lines."""
    torch = requirements(named(engines, "cpu-x86_64", machine())).split("\n\n")[0].splitlines()

    assert torch[0] == "torch==2.13.0+cpu \\"
    assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64} \\", torch[1])


def test_facts_are_lines_that_a_shell_can_count(engines: tuple[Engine, ...]) -> None:
    """As many lines for each entry, the last one not empty."""
    told = [facts(engine) for engine in engines]

    assert {lines.count("\n") for lines in told} == {6}
    assert told[0].splitlines()[-1] == "cpu-x86_64"


def test_the_command_line_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal goes to stderr, with the status of something unavailable."""
    status = main(["--entry", "cuda"])

    assert status == 69
    assert "no engine is called 'cuda'" in capsys.readouterr().err
