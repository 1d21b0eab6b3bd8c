"""The folder of a run: config, log, weights to sample from, and everything that resuming needs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ecgcore import checkpoint
from ecgcore._files import replacing
from ecgcore.errors import CheckpointError, ConfigError

STATE_FORMAT = 1

# Settings that may differ between the parts of one run: they decide when it ends and what it
# writes, not its steps.
_FREE = {
    "train": {"n_iters", "n_epochs", "epochs", "max_steps", "max_minutes", "log_interval",
              "ckpt_iter", "ckpt_interval", "ckpt_minutes", "classifier_path"},
    "dataset": {"data_directory"},
}  # fmt: skip


class RunFolder:
    """``config.json``, ``log.jsonl``, ``checkpoint.safetensors`` and ``train_state.pt`` in one
    folder.

    Files are replaced atomically, so that a run killed at any moment leaves the last complete state
    behind.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def state_path(self) -> Path:
        return self.path / "train_state.pt"

    def saved_state(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last saved state, or None if there is none; nothing is written.

        Raises:
            ConfigError: the folder holds a run whose steps another config made.
            CheckpointError: the state cannot be read.
        """
        if not self.state_path.exists():
            return None
        try:
            state = torch.load(self.state_path, map_location="cpu", weights_only=True)
            known = state["format"]
        except (
            OSError,
            RuntimeError,
            KeyError,
            TypeError,
            EOFError,
            pickle.UnpicklingError,
        ) as error:
            raise CheckpointError(
                f"{self.state_path}: not a readable training state ({_first_line(error)}); "
                "use --no-resume to start anew"
            ) from error
        if known != STATE_FORMAT:
            raise CheckpointError(
                f"{self.state_path}: format {known}, this version reads {STATE_FORMAT}"
            )
        before, now = _binding(json.loads(state["config"])), _binding(config)
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise ConfigError(
                    f"{self.path} holds a run with {key} = {before.get(key)!r}, "
                    f"not {now.get(key)!r}; choose another --out, or --no-resume to start anew"
                )
        return dict(state)

    def begin(self, config: Mapping[str, Any], step: int) -> None:
        """Note the config, and drop what was logged after ``step``: those steps are made again."""
        self.path.mkdir(parents=True, exist_ok=True)
        if step == 0:
            self.state_path.unlink(missing_ok=True)
        with replacing(self.path / "config.json") as path:
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        lines = [line for line in read_log(self.path) if line["step"] <= step]
        with replacing(self.path / "log.jsonl") as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def save(self, state: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Write the state to resume from."""
        with replacing(self.state_path) as path:
            torch.save({"format": STATE_FORMAT, "config": json.dumps(config), **state}, path)

    def save_weights(self, model: nn.Module) -> None:
        """Write the weights to sample from, with config and card, as ``checkpoint.safetensors``."""
        checkpoint.save(model, self.path / "checkpoint.safetensors")

    def log(self, **values: Any) -> None:
        """Append one line to ``log.jsonl``."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's ``log.jsonl``; a last line cut short by a kill is left out."""
    path = Path(run) / "log.jsonl"
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _binding(config: Mapping[str, Any]) -> dict[str, Any]:
    """``section.key`` to value: the settings that a resumed run shares with its beginning."""
    flat: dict[str, Any] = {}
    sections = ("diffusion", "model", "spade_cfg", "generator", "discriminator", "train", "dataset")
    for section in ("model_name", *sections):
        values = config.get(section)
        if isinstance(values, Mapping):
            free = _FREE.get(section, set())
            flat.update({f"{section}.{k}": v for k, v in values.items() if k not in free})
        elif values is not None:
            flat[section] = values
    return flat


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
