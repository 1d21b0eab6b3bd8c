"""The mapping engine: strict both ways, and everything that is wrong in one message."""

from __future__ import annotations

import pytest
import torch

from ecgcore.compat._rules import Rule, rename
from ecgcore.errors import CheckpointError

RULES = (
    Rule(r"(.*)\.old", r"\1.new"),
    Rule(r"aux\..*", reason="never used"),
    Rule(r"pair", "complex", transform=torch.view_as_complex),
    Rule(r"(a|b)\..*", r"\g<0>"),
)


def test_first_matching_rule_decides() -> None:
    source = {"a.old": torch.ones(2), "a.kept": torch.zeros(3), "aux.old": torch.ones(1)}
    source |= {"pair": torch.tensor([[1.0, 2.0]]), "aux.x": torch.ones(1)}
    renamed = rename(RULES, source)
    assert renamed.source == {
        "a.new": "a.old",
        "a.kept": "a.kept",
        "aux.new": "aux.old",  # the renaming stands before the rule that drops
        "complex": "pair",
    }
    assert renamed.dropped == {"aux.x": "never used"}
    assert renamed.state["complex"].tolist() == [1 + 2j]
    assert renamed.state["a.new"] is source["a.old"]
    renamed.match("it", {"a.new": (2,), "a.kept": (3,), "aux.new": (1,), "complex": (1,)})


def test_one_error_lists_every_mismatch() -> None:
    source = {
        "a.old": torch.ones(2),
        "a.new": torch.ones(2),
        "b.extra": torch.ones(4),
        "b.shape": torch.ones(2, 3),
        "unknown": torch.ones(1),
    }
    targets = {"a.new": (2,), "b.shape": (3, 2), "b.missing": (5,)}
    with pytest.raises(CheckpointError) as caught:
        rename(RULES, source).match("the file", targets)
    assert str(caught.value) == (
        "the file does not fit: a.old and a.new both mean a.new; "
        "b.extra (4,) has no place in the model; "
        "b.missing (5,) is missing; "
        "b.shape has shape (2, 3), the model needs (3, 2); "
        "unknown (1,) is not known"
    )


def test_a_dropping_rule_gives_its_reason() -> None:
    with pytest.raises(ValueError, match="dropped for a reason"):
        Rule("x")
    with pytest.raises(ValueError, match="dropped for a reason"):
        Rule("x", "y", reason="both")
