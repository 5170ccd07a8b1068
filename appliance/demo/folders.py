"""The folders that the demo is given, looked at before anything starts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import ConfigError, ModelUnusable
from appliance.setup.models import check_kind


@contextlib.contextmanager
def folders(keep: Path | None) -> Iterator[tuple[Path, Path]]:
    """Where everything goes, and where sockets go: their paths must be short, unix(7).

    Raises ConfigError if `keep` cannot be made, or is not empty.
    """
    with tempfile.TemporaryDirectory(prefix="wattnap-demo-") as temporary:
        if keep is not None:
            _take(keep)
        yield keep or Path(temporary), Path(temporary) / "run"


def _take(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = next(folder.iterdir(), None)
    except OSError as error:
        raise ConfigError(f"--keep {folder}: {error.strerror}") from error
    if found is not None:
        raise ConfigError(
            f"--keep {folder}: it is not empty, {found.name} is in it; name a new folder"
        )


def check_model(folder: Path) -> None:
    """Raises ConfigError if vLLM could not serve it."""
    try:
        check_kind(folder)
    except ModelUnusable as error:
        raise ConfigError(f"--model {error}") from error
    except OSError as error:
        raise ConfigError(f"--model {folder}: {error.strerror}") from error
