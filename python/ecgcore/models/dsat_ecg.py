"""DSAT-ECG: a diffusion model of ECGs that mixes time with state-space augmented attention.

The architecture is that of SSSD-ECG with SPADE layers (Zuo et al., 2022) in place of S4 layers, as
in SynthECG.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from ecgcore.errors import ConfigError
from ecgcore.models.config import DSATConfig
from ecgcore.models.wavenet import Denoiser, GatedBlock, GatedGroup
from ecgcore.nn.spade import SpadeDecoderLayer
from ecgcore.nn.spade_config import spade_config


class ResidualBlock(GatedBlock):
    """A gated block with SPADE layers ``spade_1`` and ``spade_2``: see
    :class:`~.wavenet.GatedBlock`.

    Args:
        res_channels: width of the residual stream; the SPADE layers work at twice that.
        skip_channels: width of the skip output.
        diffusion_step_embed_dim_out: width of the embedded diffusion step.
        spade_cfg: of :class:`ecgcore.nn.SpadeDecoderLayer`.
        label_embed_dim: width of the embedded label, ``None`` without labels.
        **kernel_args: for the layers' :class:`ecgcore.nn.S4Module`.
    """

    def __init__(
        self,
        res_channels: int,
        skip_channels: int,
        diffusion_step_embed_dim_out: int,
        spade_cfg: Mapping[str, Any],
        label_embed_dim: int | None = None,
        **kernel_args: Any,
    ) -> None:
        make = partial(SpadeDecoderLayer, spade_cfg, **kernel_args)
        super().__init__(
            res_channels,
            skip_channels,
            diffusion_step_embed_dim_out,
            label_embed_dim,
            (("spade_1", make), ("spade_2", make)),
        )

    def mix(self, name: str, h: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(name)(h.permute(2, 0, 1))[0]
        return y.permute(1, 2, 0)


class ResidualGroup(GatedGroup):
    """The step embedding and ``num_res_layers`` blocks: see :class:`~.wavenet.GatedGroup`."""

    block = ResidualBlock


class DSATECG(Denoiser):
    """Predicts the noise in a noisy signal, given its class and diffusion step.

    See :class:`~.wavenet.Denoiser`. Beyond ``max_target_positions`` samples the S4 kernels are cut.

    Args:
        spade_cfg: settings of the SPADE layers, with the dotted names of
            :data:`ecgcore.nn.spade_config.SPADE_DEFAULTS` and its values for what is not given, but
            for ``decoder.embed_dim``: that is ``2 * res_channels``.
        **settings: the fields of :class:`~.config.DSATConfig`.

    Draws at construction in the reference's order, so that a seed gives its initial weights, apart
    from the phases of eigenvectors, on which no kernel depends.

    Raises:
        ConfigError: for values of a wrong type, NaN, out of range, or that do not go together.
    """

    def __init__(self, *, spade_cfg: Mapping[str, Any] | None = None, **settings: Any) -> None:
        c = DSATConfig.from_dict(settings)
        spade = _spade_settings(spade_cfg, 2 * c.res_channels)
        try:
            super().__init__(
                c,
                ResidualGroup,
                always_embeds=True,
                spade_cfg=spade,
                exact_nodes=c.exact_nodes,
                conjugate_pairs=c.conjugate_pairs,
            )
        except ValueError as error:  # settings that are fine alone and do not go together
            raise ConfigError(f"spade_cfg: {error}") from None
        self.config["spade_cfg"] = spade


def _spade_settings(given: Any, width: int) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"spade_cfg must be an object, got {given!r}")
    try:
        settings = spade_config({"decoder.embed_dim": width, **(given or {})})
    except ValueError as error:
        raise ConfigError(f"spade_cfg: {error}") from None
    if settings["decoder.embed_dim"] != width:
        raise ConfigError(
            f"spade_cfg: decoder.embed_dim must be 2 * res_channels = {width}, "
            f"got {settings['decoder.embed_dim']}"
        )
    return settings
