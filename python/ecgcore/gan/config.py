"""Settings of a GAN's training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ecgcore.errors import ConfigError
from ecgcore.train.config import TrainConfig


@dataclass(frozen=True)
class GANTrainConfig(TrainConfig):
    """How a GAN is trained: :class:`ecgcore.train.TrainConfig`, with the reference's values.

    A step is one of the critic, and every ``n_critic``-th one of the generator after it.
    """

    learning_rate: float = 1e-4
    batch_size: int = 32
    n_epochs: int | None = None
    beta1: float = 0.5
    """Adam's, for both networks, as ``beta2``."""
    beta2: float = 0.9
    lmbda: float = 10.0
    """Weight of the gradient penalty."""

    n_critic: int = 5
    """Steps of the critic per step of the generator."""
    critic_counter: Literal["run", "epoch"] = "run"
    """What they are counted over. The reference counts anew in every ``"epoch"``, so that its
    ``records // batch_size`` mod ``n_critic`` last steps lead to none of the generator.
    """

    EPOCH_KEYS: ClassVar[tuple[str, ...]] = (*TrainConfig.EPOCH_KEYS, "n_epochs")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"train.{name}: expected at least 0 and below 1, got {getattr(self, name)!r}"
                )
        if self.lmbda < 0:
            raise ConfigError(f"train.lmbda: expected 0 or more, got {self.lmbda!r}")
        if self.n_critic < 1:
            raise ConfigError(f"train.n_critic: expected at least 1, got {self.n_critic!r}")
        if self.stratified_steps:
            raise ConfigError("train.stratified_steps: a GAN has no diffusion steps")
        if self.label_dropout:
            raise ConfigError("train.label_dropout: guidance is for diffusion models, not for GANs")

    def batches_per_epoch(self, records: int) -> int | None:
        """What :func:`ecgcore.gan.generator_turn` takes, for a data set of ``records`` records.

        Raises:
            ConfigError: an epoch would never lead to a step of the generator.
        """
        if self.critic_counter == "run":
            return None
        batches = records // self.batch_size
        if batches < self.n_critic:
            raise ConfigError(
                f"train.critic_counter 'epoch' needs at least n_critic = {self.n_critic} batches "
                f"per epoch, {records} records make {batches} of {self.batch_size}: the generator "
                "would never move; take 'run', or a smaller batch_size"
            )
        return batches
