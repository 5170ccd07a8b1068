"""The folder of one engine's life: what stands in its way, and for how long."""

from __future__ import annotations

import errno
import resource
import stat
from pathlib import Path

import pytest

from drivers.errors import NotPermitted, Refused
from drivers.vllm_home import Home
from tests.fakes.plain_user import as_plain_user


class Failing(Home):
    """One whose file system answers so."""

    def __init__(self, runtime_dir: Path, code: int) -> None:
        super().__init__(runtime_dir)
        self._code = code

    def _make(self, device: str) -> None:
        raise OSError(self._code, "it says so", str(self.path))


async def test_it_is_private_and_empty(place: Path) -> None:
    """Whatever an earlier life has left there."""
    home = Home(place / "run")
    await home.make("vllm")
    (home.tmp / "left").touch()
    await home.make("vllm")

    assert list(home.tmp.iterdir()) == []
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


async def test_a_place_that_may_not_be_written(place: Path) -> None:
    """It stays so until a person has done something."""
    (place / "closed").mkdir(mode=0o500)
    with as_plain_user(), pytest.raises(NotPermitted, match=r"cannot write .*/closed/run"):
        await Home(place / "closed" / "run").make("vllm")


async def test_no_descriptors_to_make_it_with(place: Path) -> None:
    """That passes, and nobody need do anything."""
    home = Home(place / "run")
    await home.make("vllm")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(Refused, match=r"cannot write .*/run"):
            await home.make("vllm")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EACCES, NotPermitted),
        (errno.EPERM, NotPermitted),
        (errno.EROFS, NotPermitted),
        (errno.ENOSPC, Refused),
        (errno.EDQUOT, Refused),
        (errno.EMFILE, Refused),
        (errno.EIO, Refused),
    ],
    ids=errno.errorcode.get,
)
async def test_what_lasts_is_told_from_what_passes(
    place: Path, code: int, kind: type[Exception]
) -> None:
    """A full disk may have room again in a second; a mode stays as it is."""
    with pytest.raises(kind, match=r"cannot write .*: it says so"):
        await Failing(place / "run", code).make("vllm")
