"""Renaming foreign state dicts by rules, strictly: every key is used, or dropped for a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ecgcore.errors import CheckpointError


@dataclass(frozen=True)
class Rule:
    """What becomes of the keys that match a pattern as a whole.

    Attributes:
        pattern: regular expression for the source's key.
        target: our key, with group references as in ``re.Match.expand``; None drops the key.
        reason: why it is dropped. Given exactly for those rules.
        transform: applied to the tensor.
    """

    pattern: str
    target: str | None = None
    reason: str = ""
    transform: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if (self.target is None) != bool(self.reason):
            raise ValueError(
                f"rule {self.pattern!r}: a key is either mapped, or dropped for a reason"
            )


@dataclass
class Renamed:
    """A state dict under our names.

    Attributes:
        state: our key to tensor.
        source: our key to the key it came from.
        dropped: source key to the reason why it is not needed.
        problems: what did not go well, in words; ``match`` raises them all together.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def match(self, what: str, targets: Mapping[str, Sequence[int]]) -> None:
        """Raise CheckpointError unless the keys and shapes are exactly those of ``targets``."""
        problems = list(self.problems)
        for key, tensor in self.state.items():
            shape = tuple(tensor.shape)
            if key not in targets:
                problems.append(f"{self.source[key]} {shape} has no place in the model")
            elif shape != tuple(targets[key]):
                problems.append(
                    f"{self.source[key]} has shape {shape}, the model needs {tuple(targets[key])}"
                )
        problems += [
            f"{key} {tuple(targets[key])} is missing" for key in targets.keys() - self.state
        ]
        if problems:
            raise CheckpointError(f"{what} does not fit: " + "; ".join(sorted(problems)))


def rename(rules: Sequence[Rule], source: Mapping[str, Tensor]) -> Renamed:
    """Apply to every key of ``source`` the first rule whose pattern matches it."""
    result = Renamed()
    for key, tensor in source.items():
        for rule in rules:
            found = re.fullmatch(rule.pattern, key)
            if found is None:
                continue
            if rule.target is None:
                result.dropped[key] = rule.reason
                break
            target = found.expand(rule.target)
            if target in result.state:
                result.problems.append(f"{result.source[target]} and {key} both mean {target}")
                break
            result.state[target] = tensor if rule.transform is None else rule.transform(tensor)
            result.source[target] = key
            break
        else:
            result.problems.append(f"{key} {tuple(tensor.shape)} is not known")
    return result


# Weight norm under its two names: torch's parametrization, and the hook it replaced.
_NORMED = (("weight_g", "original0"), ("weight_v", "original1"))

WEIGHT_NORM = tuple(
    Rule(rf"(.+)\.{old}", rf"\1.parametrizations.weight.{new}") for old, new in _NORMED
)
"""The old names to the new ones, which are ours."""


def to_old_weight_norm(key: str) -> str:
    """Our key under the names of torch's older weight norm."""
    for old, new in _NORMED:
        key = re.sub(rf"parametrizations\.weight\.{new}$", old, key)
    return key
