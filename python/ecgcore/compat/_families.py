"""Which model a state dict belongs to, told by its keys.

A further model joins by an entry in ``FAMILIES``: what its keys look like, and a ``Layout`` with
its rules and the function that reads the sizes off its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ecgcore.compat import _dsat, _gan, _sssd
from ecgcore.compat._rules import Rule
from ecgcore.errors import CheckpointError


@dataclass(frozen=True)
class Layout:
    """How to read one family's state dict.

    Attributes:
        rules: its keys to ours.
        infer: ``(state, given, source) -> sections``: the sections of a config from the renamed
            tensors, the config that came with the checkpoint, and the tensors as they came.
        shapes: ``(state, sections) -> shapes``: shapes that are the checkpoint's own, not the
            config's.
    """

    rules: Sequence[Rule]
    infer: Callable[
        [Mapping[str, Tensor], Mapping[str, Any], Mapping[str, Tensor]], dict[str, dict[str, Any]]
    ]
    shapes: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Mapping[str, tuple[int, ...]]] = (
        lambda state, sections: {}
    )


@dataclass(frozen=True)
class Family:
    """A model as its authors save it.

    Attributes:
        model_name: our class.
        title: its name in the field.
        marks: patterns each of which some key matches as a whole.
        layout: how to read it; None for what is no model by itself.
        why_not: what is said where there is no layout.
    """

    model_name: str
    title: str
    marks: tuple[str, ...]
    layout: Layout | None = None
    why_not: str = ""

    def owns(self, keys: Iterable[str]) -> bool:
        keys = list(keys)
        return all(any(re.fullmatch(mark, key) for key in keys) for mark in self.marks)


# The first family that owns the keys is taken, so the more particular one stands first.
FAMILIES = (
    Family(
        "SSSDECG",
        "SSSD-ECG",
        (r"residual_layer\.residual_blocks\.\d+\.S4[12]\..+",),
        Layout(
            rules=_sssd.RULES,
            infer=lambda state, given, source: _sssd.infer(state, given),
            shapes=lambda state, sections: _sssd.node_shapes(
                _sssd.node_lengths(state, sections["model"].get("s4_lmax"))
            ),
        ),
    ),
    Family(
        "DSATECG",
        "DSAT-ECG",
        (r"residual_layer\.residual_blocks\.\d+\.spade_[12]\..+",),
        Layout(_dsat.RULES, lambda state, given, source: _dsat.infer(state, given)),
    ),
    Family(
        "CondP2PGenerator",
        "conditional Pulse2Pulse, the generator",
        (r"conv_1\.weight", r"deconv_2\.conv1d\.weight", r"bn_conv1\.embed\.weight"),
        Layout(_gan.RULES, _gan.COND_P2P.infer),
    ),
    Family(
        "P2PGenerator",
        "unconditional Pulse2Pulse (deepfake-ecg)",
        (r"conv_6\.weight", r"deconv_1\.conv1d\.weight"),
        Layout(_gan.DEEPFAKE_RULES, _gan.DEEPFAKE.infer),
    ),
    Family(
        "CondWaveGANGenerator",
        "conditional WaveGAN*, the generator",
        (r"fc1\.weight", r"deconv_2\.conv1d\.weight", r"bn_deconv2\.embed\.weight"),
        Layout(_gan.WAVEGAN_RULES, _gan.WAVEGAN.infer),
    ),
    Family(
        "CondWaveGANDiscriminator",
        "the discriminator of WaveGAN* or Pulse2Pulse",
        (r"conv1\.weight", r"conv6\.weight", r"fc1\.weight"),
        why_not="without its generator: it draws nothing. Its class takes these tensors by "
        "load_state_dict",
    ),
)


def recognise(keys: Iterable[str]) -> Family:
    """The family of these keys, prefixes taken off. Raises CheckpointError for an unknown one."""
    keys = list(keys)
    for family in FAMILIES:
        if family.owns(keys):
            return family
    shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
    raise CheckpointError(
        f"no model known to ecgcore has such tensors ({shown or 'none at all'}); known are "
        + ", ".join(family.title for family in FAMILIES)
    )
