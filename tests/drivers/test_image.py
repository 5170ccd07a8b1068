"""The file that weights come back from: image_cases.py, run by a Python that has torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from drivers.vllm_rest import ENGINE_SIDE

pytestmark = pytest.mark.engine
CASES = Path(__file__).with_name("image_cases.py")


@pytest.fixture(scope="module")
def results(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    said = subprocess.run(
        [engine_python, CASES, tmp_path_factory.mktemp("images")],
        env=os.environ | {"PYTHONPATH": str(ENGINE_SIDE)},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    told: dict[str, str | None] = json.loads(said)
    return told


@pytest.mark.parametrize("case", re.findall(r"^def (case_\w+)", CASES.read_text(), re.MULTILINE))
def test_image(case: str, results: dict[str, str | None]) -> None:
    """Each case holds; its name says what."""
    assert results[case] is None, results[case]
