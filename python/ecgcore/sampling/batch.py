"""Drawn records and the files they are written to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ecgcore import data, report
from ecgcore._files import replacing

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class ECGBatch:
    """Drawn records.

    Attributes:
        x: signals, ``(n, leads, L)`` float32 on the CPU, in mV; twelve leads for an ECG.
        leads: names of the rows of a record, ``data.LEADS`` for an ECG.
        fs: sampling rate in Hz.
        labels: ``(n, classes)`` float32, what each record was asked to be.
        class_names: of the label's columns.
        seed: what ``model.sample(..., seed=...)`` takes to draw the same records again; None where
            the latent was given.
        noise: of a GAN, the records' latents: ``model.sample(..., noise=...)`` takes them, changed
            or mixed if you like; None for other models.
    """

    x: Tensor
    leads: tuple[str, ...]
    fs: float
    labels: Tensor
    class_names: tuple[str, ...]
    seed: int | None
    noise: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    def __repr__(self) -> str:
        return (
            f"ECGBatch({len(self)} records, {len(self.leads)} leads, {self.x.shape[2]} samples at "
            f"{self.fs:g} Hz, {self._origin})"
        )

    @property
    def _origin(self) -> str:
        return "given latents" if self.seed is None else f"seed {self.seed}"

    def title(self, i: int) -> str:
        """What a sheet of record ``i`` is called."""
        return f"{self.names(i)}, record {i}, {self._origin}"

    def names(self, i: int) -> str:
        """The classes of record ``i``: ``"MI+CD"``; a class of weight other than 1 with its
        weight."""
        parts = [
            name if weight == 1 else f"{weight:.3g} {name}"
            for name, weight in zip(self.class_names, self.labels[i].tolist(), strict=True)
            if weight != 0
        ]
        return "+".join(parts) or "no class"

    def plot(self, path: str | os.PathLike[str]) -> list[Path]:
        """Draw every record as an ECG sheet (25 mm/s, 10 mm/mV), marked as synthetic.

        Args:
            path: ``NAME.png`` or ``NAME.svg`` is the sheet of record 0, record ``i`` becomes
                ``NAME_i.png``; a path without suffix is a folder that gets ``00000.png``, ...

        Returns:
            The files, by record.
        """
        path = Path(path)
        if path.suffix:
            files = [
                path.with_stem(f"{path.stem}_{i}" if i else path.stem) for i in range(len(self))
            ]
        else:
            files = [path / f"{i:05d}.png" for i in range(len(self))]
        for i, file in enumerate(files):
            report.ecg_sheet(
                self.x[i].numpy(), self.fs, file, leads=self.leads, title=self.title(i)
            )
        return files

    def to_wfdb(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every record as a WFDB header and 16-bit signal file, as PTB-XL has them.

        Args:
            folder: gets ``00000.hea``, ``00000.dat``, ...; it is made if need be. Samples are
            stored
                as whole microvolt.

        Returns:
            The headers, by record.

        Raises:
            DataError: a value beyond 32 mV.
        """
        headers = []
        for i, x in enumerate(self.x):
            comments = (
                " synthetic: drawn by a generative model",
                f" classes: {self.names(i)}",
                f" {self._origin}, record {i}",
            )
            headers.append(
                data.write_record(
                    folder, f"{i:05d}", x, self.fs, leads=self.leads, comments=comments
                )
            )
        return headers

    def to_npy(self, folder: str | os.PathLike[str], split: str | int = "train") -> list[Path]:
        """Write the pair of arrays that SynthECG and SSSD-ECG train and evaluate on.

        Args:
            folder: gets ``{split}_data.npy (n, 12, L)``, in mV and in the order of
                ``data.REFERENCE_LEADS``, and ``{split}_labels.npy (n, classes)``, both float32. It
                is made if need be. Records that are not twelve-lead ECGs are written as they are.
            split: ``"train"``, ``"val"`` or ``"test"``; or the number of a checkpoint, for
                ``data_{number}.npy`` and ``labels_{number}.npy``, as SynthECG's sampling names what
                it draws with that checkpoint.

        Returns:
            The two files.
        """
        files = npy_files(folder, split, "to_npy")
        with replacing(files[0]) as signals, replacing(files[1]) as labels:
            np.save(signals, npy_order(self.x, self.leads).numpy())
            np.save(labels, self.labels.numpy())
        return list(files)


def npy_files(folder: str | os.PathLike[str], split: str | int, function: str) -> tuple[Path, Path]:
    """The files of signals and labels of a split, or of what a numbered checkpoint drew."""
    if isinstance(split, int) and not isinstance(split, bool) and split >= 0:
        return Path(folder) / f"data_{split}.npy", Path(folder) / f"labels_{split}.npy"
    if split not in SPLITS:
        raise ValueError(
            f"{function}: split must be 'train', 'val' or 'test', or the number of a checkpoint, "
            f"got {split!r}"
        )
    return Path(folder) / f"{split}_data.npy", Path(folder) / f"{split}_labels.npy"


def npy_order(x: Tensor, leads: tuple[str, ...]) -> Tensor:
    """Signals as the npy files hold them: an ECG's leads in the reference's order."""
    if leads == data.LEADS:
        return data.reorder_leads(x, leads, data.REFERENCE_LEADS)
    return x
