"""What the daemon holds for sqlite-utils' sake."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_a_daemon_imports_no_numpy() -> None:
    """Also where there is one; whoever plots in the same process still may."""
    pytest.importorskip("numpy")
    code = "import sys, appliance.app; assert 'numpy' not in sys.modules; import numpy"
    subprocess.run([sys.executable, "-c", code], check=True)
