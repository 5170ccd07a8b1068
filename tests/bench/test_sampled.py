"""What bench.sampled makes of the lines that a process has left."""

from __future__ import annotations

from bench.sampled import summed

LINES = """\
10.00 m.py:work;m.py:step;m.py:main
10.10 m.py:work;m.py:step;m.py:main
10.20 m.py:work;m.py:step;m.py:main
10.30 importlib._bootstrap:_call;n.py:<module>;importlib._bootstrap:_find;m.py:late;m.py:main
19.00 m.py:work;m.py:step;m.py:main
19.05 m.py:work;m.py:work;m.py:step;m.py:main
19.06 m.py:wo"""  # as it was written when the process ended


def test_seconds_below_each_function() -> None:
    """Who calls itself counts once; who only calls another is left out; what was not seen is."""
    told = summed(LINES)

    assert told["s"] == 0.36  # 8.7 s of it nobody looked
    assert told["below"]["m.py:main"] == 0.35
    assert told["below"]["m.py:work"] == 0.25
    assert "m.py:step" not in told["below"]


def test_who_imports() -> None:
    """The place that asked first, not the modules in between."""
    assert summed(LINES)["importing"] == {"m.py:late": 0.1}


def test_a_process_that_was_hardly_there() -> None:
    assert summed("10.0 m.py:main\n") == {"s": 0.0, "below": {}, "importing": {}}
