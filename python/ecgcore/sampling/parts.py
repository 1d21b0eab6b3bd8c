"""The folder of a large run while it is made: finished parts, and the settings they belong to."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ecgcore._files import replacing
from ecgcore.errors import DataError

FORMAT = 1

_PART = re.compile(r"\d{8}\.npy")


class Parts:
    """``count`` records in parts of ``size``, each a file in ``folder/parts``.

    A part appears whole or not at all, so that a run killed at any moment leaves complete parts
    behind. Beside them lie the settings that made them, the seed among them.
    """

    def __init__(self, folder: Path, count: int, size: int) -> None:
        self.path = folder / "parts"
        self.count, self.size = count, size

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def records(self, part: int) -> range:
        return range(part * self.size, min((part + 1) * self.size, self.count))

    def there(self) -> list[int]:
        """The parts that are made."""
        return sorted(int(p.stem) for p in self.path.glob("*.npy") if _PART.fullmatch(p.name))

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Start anew under ``settings``."""
        shutil.rmtree(self.path, ignore_errors=True)
        with replacing(settings_file(self.path.parent)) as path:
            text = json.dumps({"format": FORMAT, "settings": settings}, indent=2)
            path.write_text(text + "\n", encoding="utf-8")

    def save(self, part: int, x: Tensor) -> None:
        with replacing(self._file(part)) as path:
            np.save(path, x.numpy())

    def read(self, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        """The parts in order, pieces of an array of ``shape``."""
        for part in range(len(self)):
            path = self._file(part)
            wanted = (len(self.records(part)), *shape[1:])
            try:
                x = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise DataError(f"{path}: not a readable array ({error}); {_AGAIN}") from None
            if x.shape != wanted or x.dtype != np.float32:
                raise DataError(
                    f"{path}: expected float32 {wanted}, got {x.dtype} {x.shape}; {_AGAIN}"
                )
            yield x

    def remove(self) -> None:
        """Delete all of it, the settings first: without those the rest is no run any more."""
        settings_file(self.path.parent).unlink()
        shutil.rmtree(self.path)

    def _file(self, part: int) -> Path:
        return self.path / f"{part:08d}.npy"


_AGAIN = "remove it and run the same command again"


def settings_file(folder: Path) -> Path:
    """Where the settings of an unfinished run lie."""
    return folder / "parts" / "settings.json"


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the unfinished run in ``folder``; None if there is none.

    Raises:
        DataError: a file that cannot be read, or of another version.
    """
    path = settings_file(folder)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, settings = content["format"], dict(content["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the settings of a run ({error})") from None
    if version != FORMAT:
        raise DataError(f"{path}: format {version}, this version reads {FORMAT}")
    return settings


def write_npy(path: Path, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> None:
    """A float32 array as ``numpy.save`` writes it, piece by piece along its first axis."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype="<f4").data)
