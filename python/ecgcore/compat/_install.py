"""``install()``: the functions of :mod:`.state_spaces` under the names other projects import."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ecgcore.compat import state_spaces
from ecgcore.ops import reference

MODULES = (
    "structured_kernels",  # the compiled extension of state-spaces/s4
    "cauchy_mult",  # the same in its earlier versions
    "extensions.kernels.cauchy",  # state-spaces/s4, SPADE
    "extensions.kernels.vandermonde",
    "extensions.cauchy.cauchy",  # SSSD, SSSD-ECG, SynthECG
    "extension.cauchy.cauchy",
)
_PARENTS = {name.rsplit(".", n)[0] for name in MODULES for n in range(1, name.count(".") + 1)}


def install(*, force: bool = False) -> None:
    """Make :mod:`ecgcore.compat.state_spaces` importable under the names other projects use.

    Those are ``structured_kernels``, ``cauchy_mult``, ``extensions.kernels.cauchy``,
    ``extensions.kernels.vandermonde``, ``extensions.cauchy.cauchy`` and
    ``extension.cauchy.cauchy``; each offers every function. Call it before the project's own
    imports: a function imported earlier stays what it was. Folders ``extensions`` and ``extension``
    of the project keep their other modules. Calling it again changes nothing.

    Args:
        force: stand in for modules of these names that exist, such as the wrappers in a checkout
            of state-spaces/s4 or an extension that was compiled.

    Raises:
        ImportError: a module of one of these names exists (without ``force``), or cannot be stood
            in for.
        RuntimeError: a function, called once to prove that it works, does not.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        existing = [name for name in MODULES if _exists(name)]
        if existing and not force:
            raise ImportError(
                f"ecgcore.compat.install: {', '.join(existing)} exist already; "
                "install(force=True) stands in for them"
            )
        sys.meta_path.insert(0, _Finder())
    try:
        for name in MODULES:
            _prove_importable(name)
        _prove_right()
    except BaseException:
        _remove()
        raise


class _Loader(Loader):
    """Fills a module with the functions, or leaves it a package without any."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None  # an ordinary one

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ in MODULES:
            names = state_spaces.__all__
            module.__doc__ = state_spaces.__doc__
            module.__dict__.update({name: getattr(state_spaces, name) for name in names})
            module.__dict__["__all__"] = list(names)
        else:
            module.__path__ = _FoldersOnPath(module.__name__)  # type: ignore[assignment]


class _Finder(MetaPathFinder):
    """Finds the modules before anything else does, and their parents where nothing else does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in MODULES:
            return ModuleSpec(fullname, _Loader())
        if fullname in _PARENTS and not any(
            finder.find_spec(fullname, path) for finder in sys.meta_path if finder is not self
        ):
            return ModuleSpec(fullname, _Loader(), is_package=True)
        return None


class _FoldersOnPath:
    """``__path__`` of a parent that we stand in for: folders of its name, even those that come onto
    ``sys.path`` later."""

    def __init__(self, package: str):
        self._folder = os.path.join(*package.split("."))

    def __iter__(self) -> Iterator[str]:
        folders = (os.path.join(os.path.abspath(p or os.curdir), self._folder) for p in sys.path)
        return (folder for folder in folders if os.path.isdir(folder))


def _is_ours(module: ModuleType | None) -> bool:
    spec = getattr(module, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), _Loader)


def _exists(name: str) -> bool:
    """Whether somebody else's module has this name. Imports the packages it lies in, not itself."""
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # one of the packages
        return False


def _prove_importable(name: str) -> None:
    if not _is_ours(sys.modules.get(name)):
        sys.modules.pop(name, None)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"ecgcore.compat.install: cannot stand in for {name}: {error}") from error
    if not _is_ours(module):
        raise ImportError(f"ecgcore.compat.install: something else came first as {name}")


def _remove() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name in [name for name, module in sys.modules.items() if _is_ours(module)]:
        del sys.modules[name]


def _prove_right() -> None:
    """Call every function once, with three modes, against the definitions."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.complex64)

    v, w, z, L = normal(2, 3), normal(2, 3), normal(5) + 6, 5
    g = normal(2, L)

    def gradients(function: Callable[[Tensor, Tensor], Tensor], dout: Tensor) -> tuple[Tensor, ...]:
        a, b = (t.detach().requires_grad_() for t in (v, w))
        with torch.enable_grad():
            return torch.autograd.grad(function(a, b), (a, b), dout)

    def plain(v: Tensor, w: Tensor) -> Tensor:
        return reference.cauchy(v, z, w, conjugate_pairs=False)

    def pairs(v: Tensor, w: Tensor) -> Tensor:
        return reference.cauchy(v, z, w)

    def powers(v: Tensor, w: Tensor) -> Tensor:
        return reference.vandermonde(v, w, L)

    s, u = state_spaces, g.real
    proofs: dict[str, tuple[Any, Any]] = {
        "cauchy_mult": (s.cauchy_mult(v, z, w), pairs(v, w)),
        "cauchy_conj": (s.cauchy_conj(v, z, w), pairs(v, w)),
        "cauchy_mult_fwd": (s.cauchy_mult_fwd(v, z, w), plain(v, w)),
        "cauchy_mult_bwd": (s.cauchy_mult_bwd(v, z, w, g), gradients(plain, g)),
        "cauchy_mult_sym_fwd": (s.cauchy_mult_sym_fwd(v, z, w), pairs(v, w)),
        "cauchy_mult_sym_bwd": (s.cauchy_mult_sym_bwd(v, z, w, g), gradients(pairs, g)),
        "log_vandermonde": (s.log_vandermonde(v, w, L), powers(v, w)),
        "log_vandermonde_cuda": (s.log_vandermonde_cuda(v, w, L), powers(v, w)),
        "log_vandermonde_transpose": (
            s.log_vandermonde_transpose(u, v, w, L),
            reference.vandermonde_transpose(u, v, w, L),
        ),
        "vand_log_mult_sym_fwd": (s.vand_log_mult_sym_fwd(v, w, L), powers(v, w)),
        "vand_log_mult_sym_bwd": (s.vand_log_mult_sym_bwd(v, w, u), gradients(powers, u)),
    }
    for name, (found, expected) in proofs.items():
        found, expected = (x if isinstance(x, tuple) else (x,) for x in (found, expected))
        for a, b in zip(found, expected, strict=True):
            if not (a - b).abs().max() <= 1e-4 * b.abs().max():
                raise RuntimeError(f"ecgcore.compat.install: {name} gives wrong numbers")
