"""From a config to a finished run: build or load the model, read the records, train, keep files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ecgcore import checkpoint, compat, diffusion, models, sampling
from ecgcore.diffusion.train import fit as fit_diffusion
from ecgcore.errors import ConfigError
from ecgcore.gan.config import GANTrainConfig
from ecgcore.gan.train import fit as fit_gan
from ecgcore.models.card import ModelCard
from ecgcore.models.gan import CRITIC
from ecgcore.train.config import DataConfig, TrainConfig, read_section, write_section
from ecgcore.train.distributed import World
from ecgcore.train.keeper import Progress
from ecgcore.train.records import Dataset, Records, load_records, open_dataset
from ecgcore.train.run import RunFolder


@dataclass(frozen=True)
class Plan:
    """A config file, read and checked, before anything is built."""

    model: dict[str, Any]
    """``model_name`` and the model's sections, as ``models.from_config`` takes them."""
    train: TrainConfig
    data: DataConfig

    @classmethod
    def read(cls, config: str | Path | Mapping[str, Any]) -> Plan:
        """Read a config file or mapping.

        Raises:
            FileNotFoundError: where there is no such file.
            ConfigError: for a section that is missing, an unknown key, an unusable value.
        """
        values = models.read_config(config)
        name = values["model_name"]
        if name == "P2PGenerator":
            raise ConfigError("P2PGenerator has no critic here to be trained against")
        is_gan = name in models.GANS
        needed = ("model", "train") if is_gan else ("model", "diffusion", "train")
        for section in needed:
            if section not in values:
                kind = "GAN" if is_gan else "diffusion model"
                raise ConfigError(
                    f"the config has no section {section!r}; a {kind} needs "
                    f"{', '.join(needed[:-1])} and {needed[-1]}"
                )
        data = read_section(DataConfig, values.get("dataset", {}), "dataset")
        sections = {section: values[section] for section in compat.NETWORKS if section in values}
        if is_gan:
            length = {"length": data.segment_length}
            sections["discriminator"] = length | sections.get("discriminator", {})
        else:
            sections["diffusion"] = compat.DIFFUSION | values["diffusion"]
        return cls(
            model={"model_name": name, **sections},
            train=read_section(GANTrainConfig if is_gan else TrainConfig, values["train"], "train"),
            data=data,
        )

    def replace(self, *, data: Mapping[str, Any] | None = None, **train: Any) -> Plan:
        """A copy with other settings; those given as None stay as they are."""
        return Plan(
            self.model,
            dataclasses.replace(self.train, **{k: v for k, v in train.items() if v is not None}),
            dataclasses.replace(self.data, **(data or {})),
        )

    def to_dict(self) -> dict[str, Any]:
        return self.model | {
            "train": write_section(self.train),
            "dataset": write_section(self.data),
        }


def build_model(plan: Plan, *, init: bool = True) -> nn.Module:
    """A new model with weights drawn from the run's seed, or those of the file ``train.init``."""
    with torch.random.fork_rng([]):
        torch.manual_seed(plan.train.seed)
        model = models.from_config(plan.model)
    if init and plan.train.init is not None:
        source = checkpoint.load(plan.train.init)
        theirs, ours = source.state_dict(), model.state_dict()
        if isinstance(source, models.Generator) and source.discriminator is None:
            # Weights of a generator alone: the critic keeps its new ones.
            ours = {key: value for key, value in ours.items() if not key.startswith(CRITIC)}
        wrong = [k for k in ours.keys() | theirs.keys() if _shape(ours, k) != _shape(theirs, k)]
        if wrong:
            key = min(wrong)
            raise ConfigError(
                f"{plan.train.init}: {len(wrong)} of its weights do not fit the config's model, "
                f"such as {key}: "
                f"{_shape(theirs, key)} there, {_shape(ours, key)} by the config"
            )
        model.load_state_dict(theirs)
    return model


def read_records(
    plan: Plan,
    model: nn.Module,
    dataset: Dataset | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    limit: int | None = None,
) -> Records:
    """The records of ``dataset`` (default: the plan's own) as ``model`` wants them."""
    sizes: Any = model
    return load_records(
        open_dataset(plan.data) if dataset is None else dataset,
        plan.data,
        channels=sizes.out_channels,
        classes=sizes.num_classes,
        limit=limit,
        progress=progress,
    )


def _shape(state: Mapping[str, torch.Tensor], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None


def train(
    config: str | Path | Mapping[str, Any] | Plan,
    out: str | Path,
    *,
    data: str | Path | Dataset | Records | None = None,
    resume: bool = True,
    world: World | None = None,
    callback: Callable[[Progress], None] | None = None,
    reading: Callable[[int, int], None] | None = None,
) -> tuple[nn.Module, Progress]:
    """Train the model that ``config`` describes, in the run folder ``out``.

    Args:
        data: a folder (PTB-XL, or ``train_data.npy`` and its labels), a data set, or records
            already read; default: the config's ``dataset.data_directory``, else simulated records.
        resume: continue the run in ``out``, if there is one.
        callback: called with the Progress after every step.
        reading: called with (records read, records in all) while the data is read.

    Returns:
        the model, with its card and ``sample``, with the averaged weights if ``train.ema`` is set,
        and where the run ended.
    """
    plan = config if isinstance(config, Plan) else Plan.read(config)
    if isinstance(data, str | Path):
        plan = plan.replace(data={"source": None, "data_directory": str(data)})
        data = None
    run = RunFolder(out)
    model = build_model(plan, init=not (resume and run.state_path.exists()))
    records = data if isinstance(data, Records) else read_records(plan, model, data, reading)
    schedule = plan.model.get("diffusion")
    moments = None
    if schedule is not None:
        found = diffusion.class_moments(records.x, records.y)
        moments = {"mean": found.mean.tolist(), "std": found.std.tolist()}
    model.card = ModelCard(  # type: ignore[assignment]
        class_names=records.class_names if records.y.shape[1] else (),
        lead_names=records.lead_names,
        fs=records.fs,
        length=records.length,
        scale=records.scale,
        diffusion=schedule,
        moments=moments,
        label_dropout=plan.train.label_dropout,
    )
    sampling.bind(model)
    keeping: dict[str, Any] = {
        "run": run,
        "run_config": plan.to_dict(),
        "resume": resume,
        "world": world,
        "callback": callback,
    }
    if isinstance(model, models.Generator):
        assert isinstance(plan.train, GANTrainConfig)
        return model, fit_gan(model, records, plan.train, **keeping)
    steps = diffusion.NoiseSchedule.linear(**plan.model["diffusion"])
    return model, fit_diffusion(model, records, steps, plan.train, **keeping)
