"""The recorded fixtures of the reference systems, for every test: ``from support import recorded``.

They live outside the project, in ``../shared`` or where ``ECGCORE_SHARED`` says. Without them the
tests that need them are skipped, and the summary says so; under ``CI=true`` they fail instead.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ECGCORE_SHARED") or ROOT.parent / "shared").resolve()
ON_CI = os.environ.get("CI", "").lower() in ("1", "true")
ONE_BACKEND = frozenset(
    {
        "add_layer_norm",
        "conditional_batch_norm",
        "local_attention",
        "local_attention_into",
        "packed_conv",
        "packed_linear",
        "phase_shuffle",
        "philox_normal",
        "philox_uniform",
        "residual_update",
        "s4_conv",
        "s4_conv_rows",
        "ssm_step",
        "upsample_conv1d",
        "warp_paths",
    }
)
"""Ops that ``ecgcore.backend`` does not concern."""
NO_SHARED = "no folder of recorded fixtures beside the project (set ECGCORE_SHARED)"


def need_shared(*parts: str) -> Path:
    """A path under the shared folder; skips the test if it is not there, or fails it on CI."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        reason = NO_SHARED if not SHARED.exists() else f"shared/{'/'.join(parts)} is missing"
        (pytest.fail if ON_CI else pytest.skip)(reason)
    return path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other test processes out of a folder that tests build in."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Recorded:
    """One recorded fixture: ``recorded["in/v"]`` is a tensor, ``recorded.config`` the JSON object
    that made it."""

    def __init__(self, path: Path):
        self.path = path
        with np.load(path, allow_pickle=False) as file:
            self.arrays: dict[str, np.ndarray] = {k: file[k] for k in file.files if k != "config"}
            self.config: dict[str, Any] = (
                json.loads(str(file["config"])) if "config" in file else {}
            )

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(np.array(self.arrays[key]))  # a copy: tests may write to it

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors below ``prefix`` with it taken off: ``under("state")`` is a state dict."""
        start = prefix.rstrip("/") + "/"
        return {k.removeprefix(start): self[k] for k in self.arrays if k.startswith(start)}


def recorded(name: str) -> Recorded:
    """Load ``shared/fixtures/NAME.npz``."""
    return Recorded(need_shared("fixtures", f"{name}.npz"))


def recorded_names(*patterns: str, exclude: tuple[str, ...] = ()) -> list[str]:
    """Names of the recorded fixtures that match, for ``parametrize``; the patterns themselves
    without the folder.

    A pattern is then handed to :func:`recorded` as a name, which skips or fails as it should.
    """
    folder = SHARED / "fixtures"
    if not folder.exists():
        return list(patterns)
    found = sorted(p.stem for p in folder.glob("*.npz"))
    chosen = [n for n in found if any(fnmatch(n, p) for p in patterns)]
    chosen = [n for n in chosen if not any(fnmatch(n, p) for p in exclude)]
    if not chosen:
        raise ValueError(f"no recorded fixture matches {patterns}")
    return chosen


def relative_l2(a: torch.Tensor, b: torch.Tensor) -> float:
    """``|a - b| / |b|``, which a few flipped ReLUs move little; the largest ``|a|`` where ``b`` is
    zero."""
    size = b.double().norm()
    return float((a.double() - b.double()).norm() / size if size > 0 else a.abs().max())


def published(name: str) -> dict[str, Any]:
    """Keys, shapes and counts of a model of published size."""
    path = need_shared("fixtures", "full_size_state_dict_shapes.json")
    entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))[name]
    return entry


def on_meta(entry: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Its state dict, without memory."""
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype, _) in entry["state_dict"].items()
    }
