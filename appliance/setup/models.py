"""Models, versioned: each one copied once, with its digests, never changed after that.

    /opt/wattnap/models/NAME/VERSION/      its files, and SHA256SUMS of them all
    /opt/wattnap/models/current, previous  symlinks: what is served, what to go back to

VERSION is the beginning of SHA256SUMS' own digest: the same files have the same version,
wherever they came from. Root's, so that neither daemon nor engine can change them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ModelUnusable
from appliance.home_action import MODEL

FOLDER = Path("/opt/wattnap/models")
SUMS = "SHA256SUMS"
VERSION_CHARS = 12
CHUNK_BYTES = 1 << 20


def served(configured: str, folder: Path = FOLDER) -> str:
    """What the engine is to serve: as configured, else the current one, else the one in the box."""
    if configured:
        return configured
    current = folder / "current"
    return str(current if current.is_dir() else MODEL)


def in_the_box(model: str) -> bool:
    return Path(model) == MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One version of one. `mark`: "current", "previous" or ""."""

    name: str
    version: str
    size_bytes: int
    mark: str

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"


class Shelf:
    """All models of this machine."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def list(self) -> list[Model]:
        """By name, then version."""
        marks = {self._find(mark): mark for mark in ("previous", "current")}
        found = sorted(path.parent for path in self.folder.glob(f"*/*/{SUMS}"))
        return [
            Model(
                name=path.parent.name,
                version=path.name,
                size_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
                mark=marks.get(f"{path.parent.name}/{path.name}", ""),
            )
            for path in found
            if not path.name.startswith(".")
        ]

    def add(self, source: Path, name: str = "") -> str:
        """Copy a folder; its name and version. One that is here already is not copied again.

        If it brings its own SHA256SUMS, they must be true.

        Raises ModelUnusable or OSError: then nothing was added.
        """
        name = name or source.resolve().name
        check_kind(source)
        if not name.strip(".") or "@" in name or "/" in name:
            raise ModelUnusable(f"{name!r} is no name for a model; give one with --name")
        part = self.folder / name / ".part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            sums = {str(file): _copy(source / file, part / file) for file in _files(source)}
            _compare(source, sums)
            told = "".join(f"{digest}  {file}\n" for file, digest in sums.items())
            (part / SUMS).write_text(told)
            version = hashlib.sha256(told.encode()).hexdigest()[:VERSION_CHARS]
            made = self.folder / name / version
            if not made.exists():
                part.rename(made)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return f"{name}@{version}"

    def find(self, wanted: str) -> str:
        """The one version that NAME or NAME@VERSION means. Raises ModelUnusable."""
        name, _, version = wanted.partition("@")
        found = [model.id for model in self.list() if model.name == name]
        if version:
            found = [id for id in found if id.startswith(f"{name}@{version}")]
        if len(found) != 1:
            known = ", ".join(found or [model.id for model in self.list()]) or "none"
            raise ModelUnusable(
                f"{wanted!r} is not one of the models here; there are {known}"
                if not found
                else f"{wanted!r} may be {known}; name one of them"
            )
        return found[0]

    def check(self, id: str) -> None:
        """Read all of it and compare. Raises ModelUnusable if a byte differs."""
        folder = self._path(id)
        _compare(folder, {str(file): _digest(folder / file) for file in _files(folder)})

    def use(self, id: str) -> None:
        """From the next start on, serve this one. What was current is previous."""
        current = self._find("current")
        place = id.replace("@", "/")
        if current == place:
            return
        if current:
            self._point("previous", current)
        self._point("current", place)

    def current(self) -> str:
        """Its name and version; "" if none is."""
        return self._find("current").replace("/", "@")

    def previous(self) -> str:
        """Likewise."""
        return self._find("previous").replace("/", "@")

    def leave(self) -> None:
        """From the next start on, serve none of them: the one in the box."""
        (self.folder / "current").unlink(missing_ok=True)

    def remove(self, id: str) -> None:
        """Raises ModelUnusable if it is served, or could be gone back to."""
        if id in {self.current(), self.previous()}:
            raise ModelUnusable(f"{id} is in use; use another one first")
        shutil.rmtree(self._path(id))

    def _path(self, id: str) -> Path:
        return self.folder / id.replace("@", "/")

    def _find(self, mark: str) -> str:
        try:
            return str((self.folder / mark).readlink())
        except OSError:
            return ""

    def _point(self, mark: str, place: str) -> None:
        fresh = self.folder / f".{mark}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(place)
        fresh.rename(self.folder / mark)  # no moment without one


def check_kind(source: Path) -> None:
    """Raises ModelUnusable if it is no folder of a model, or OSError if one may not look."""
    if not source.is_dir():
        raise ModelUnusable(f"{source}: no such folder")
    if not (source / "config.json").is_file():
        raise ModelUnusable(f"{source}: no config.json; name the folder of a model")
    if not any(source.rglob("*.safetensors")):
        raise ModelUnusable(
            f"{source}: no weights in safetensors; other formats may hold programs, and are refused"
        )


def _files(folder: Path) -> Iterator[Path]:
    """In a fixed order, from `folder` on. Not what only a download has left."""
    for file in sorted(folder.rglob("*")):
        at = file.relative_to(folder)
        if (
            file.is_file()
            and str(at) != SUMS
            and not any(part.startswith(".") for part in at.parts)
        ):
            yield at


def _copy(source: Path, to: Path) -> str:
    """With its digest; on disk when this returns."""
    to.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as read, to.open("wb") as written:
        while chunk := read.read(CHUNK_BYTES):
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    # Wakes compare weights by their time of change, too (drivers.vllm_identity).
    os.utime(to, ns=(source.stat().st_mtime_ns,) * 2)
    return digest.hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as read:
        return hashlib.file_digest(read, "sha256").hexdigest()


def _compare(folder: Path, sums: dict[str, str]) -> None:
    """With the folder's own SHA256SUMS, if it has them. Raises ModelUnusable."""
    try:
        told = (folder / SUMS).read_text()
    except FileNotFoundError:
        return
    for line in told.splitlines():
        digest, file = line.split(maxsplit=1)
        file = file.removeprefix("*")  # so sha256sum marks what was read as binary
        if sums.get(file) != digest:
            what = "is missing" if file not in sums else "is not what its digest says"
            raise ModelUnusable(f"{folder / file} {what}; fetch the model again")
