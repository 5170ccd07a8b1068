"""Work on a second core: the same result, the same error, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import psutil
import pytest

from appliance.power import visits
from appliance.simulation import ladder_file, simulate
from appliance.simulation.beside import beside
from tests.golden import FIVE_RUNGS

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")


def test_it_goes_on_beside_us() -> None:
    """In a process of its own, which is gone afterwards."""
    result = beside(os.getpid)
    pid = result()

    assert pid != os.getpid()
    assert not psutil.pid_exists(pid)


def test_it_fails_as_it_would_here() -> None:
    with pytest.raises(ZeroDivisionError):
        beside(lambda: 1 / 0)()


def test_a_process_that_is_killed_is_made_good_here() -> None:
    """The out-of-memory killer costs time, and no result."""

    def slow() -> int:
        time.sleep(0.5)
        return os.getpid()

    result = beside(slow)
    (child,) = psutil.Process().children()
    child.send_signal(signal.SIGKILL)

    assert result() == os.getpid()


def test_whoever_is_killed_leaves_nothing() -> None:
    """It ends when it has something to say, and nobody listens."""
    program = (
        "import os, time\n"
        "from appliance.simulation.beside import beside\n"
        "result = beside(lambda: time.sleep(0.5))\n"
        "print(flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    gone, _ = psutil.wait_procs([child], timeout=10)

    assert gone


def test_a_long_trace_has_the_same_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As when all of it is done one after the other."""
    rng, at_s, lines = Random(3), 0.0, ["t_s,service_s"]
    for _ in range(simulate.LONG + 1):
        at_s += rng.expovariate(1 / 200.0)
        lines.append(f"{at_s:.3f},1")
    (tmp_path / "long.csv").write_text("\n".join(lines))
    trace = visits.read(tmp_path / "long.csv")
    rungs, terms = ladder_file.read(FIVE_RUNGS), simulate.Terms()
    found = simulate.simulate(trace, rungs, terms)
    monkeypatch.setattr(simulate, "LONG", 10**9)

    assert found == simulate.simulate(trace, rungs, terms)
    assert list(found.policies)[-1] == "learned"
