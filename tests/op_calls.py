"""The calls of ``torch.ops.ecgcore`` that a case makes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ecgcore.testing import INFERENCE, Case
from ecgcore.testing.compare import evaluate, native


def record_calls(case: Case) -> list[tuple[Any, tuple[Any, ...]]]:
    class Record(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[tuple[Any, tuple[Any, ...]]] = []

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.namespace == "ecgcore":
                copies = tuple(a.detach().clone() if isinstance(a, Tensor) else a for a in args)
                self.calls.append((func, copies))
            return func(*args, **(kwargs or {}))

    inputs = case.inputs(torch.float64)
    with Record() as record:
        evaluate(native(case.op), inputs, case.wrt)
    forwards = []
    for func, args in record.calls:  # forward calls: differentiable in what the case differentiates
        if "backward" not in str(func) and case.op not in INFERENCE:
            args = tuple(
                a.requires_grad_()
                if isinstance(a, Tensor) and (a.is_complex() or a.is_floating_point())
                else a
                for a in args
            )
        forwards.append((func, args))
    return forwards
