"""Class names of PTB-XL and the many ways to write a label."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
import torch

from ecgcore.errors import DataError

SUPERCLASSES: tuple[str, ...] = ("CD", "HYP", "MI", "NORM", "STTC")
"""Diagnostic superclasses: conduction disturbance, hypertrophy, myocardial infarction, normal, ST/T
change.
"""

# fmt: off
SCP_CODES: tuple[str, ...] = (
    "1AVB", "2AVB", "3AVB", "ABQRS", "AFIB", "AFLT", "ALMI", "AMI", "ANEUR", "ASMI", "BIGU",
    "CLBBB", "CRBBB", "DIG", "EL", "HVOLT", "ILBBB", "ILMI", "IMI", "INJAL", "INJAS", "INJIL",
    "INJIN", "INJLA", "INVT", "IPLMI", "IPMI", "IRBBB", "ISCAL", "ISCAN", "ISCAS", "ISCIL",
    "ISCIN", "ISCLA", "ISC_", "IVCD", "LAFB", "LAO/LAE", "LMI", "LNGQT", "LOWT", "LPFB", "LPR",
    "LVH", "LVOLT", "NDT", "NORM", "NST_", "NT_", "PAC", "PACE", "PMI", "PRC(S)", "PSVT", "PVC",
    "QWAVE", "RAO/RAE", "RVH", "SARRH", "SBRAD", "SEHYP", "SR", "STACH", "STD_", "STE_",
    "SVARR", "SVTAC", "TAB_", "TRIGU", "VCLVH", "WPW",
)
# fmt: on
"""The 71 SCP-ECG statements of PTB-XL, sorted: the classes of the original SSSD-ECG."""


def default_class_names(count: int) -> tuple[str, ...]:
    """Names for ``count`` classes: the superclasses for 5, the SCP statements for 71, else
    ``class0``, ``class1``, ...
    """
    if count == len(SUPERCLASSES):
        return SUPERCLASSES
    if count == len(SCP_CODES):
        return SCP_CODES
    return tuple(f"class{i}" for i in range(count))


def parse_labels(
    labels: object, class_names: Sequence[str] = SUPERCLASSES, *, function: str = "labels"
) -> np.ndarray:
    """Labels in any accepted form as rows ``(k, classes)`` float32.

    Args:
        labels: ``None`` (one row per class, one-hot, in order), a class name (``"MI"``; ``"MI+CD"``
            sets both), a sequence of names, class indices ``(k,)`` integer, or a floating ``(k,
            classes)`` array or tensor, taken as it is.
        class_names: names of the columns.
        function: who asks, for messages.

    Raises:
        DataError: a name or index that does not exist, NaN, or no label at all.
        ValueError, TypeError: another shape or type.
    """
    names = tuple(class_names)
    if labels is None:
        return np.eye(len(names), dtype=np.float32)
    if isinstance(labels, str):
        labels = [labels]
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    if isinstance(labels, Sequence) and len(labels) and all(isinstance(v, str) for v in labels):
        return np.stack([_row(str(v), names, function) for v in labels])
    try:
        rows = np.asarray(labels)
    except ValueError as error:
        raise TypeError(f"{function}: labels must be names, indices or rows: {error}") from None
    if rows.size == 0:
        raise DataError(f"{function}: labels are empty")
    if rows.dtype.kind == "U":
        return np.stack([_row(str(v), names, function) for v in rows.ravel()])
    if rows.dtype.kind in "iu" and rows.ndim == 1:
        outside = rows[(rows < 0) | (rows >= len(names))]
        if len(outside):
            raise DataError(
                f"{function}: class index {outside[0]} outside 0..{len(names) - 1}"
                f" ({_listed(names)})"
            )
        return np.eye(len(names), dtype=np.float32)[rows]
    if rows.dtype.kind == "f":
        if rows.ndim != 2 or rows.shape[1] != len(names):
            raise ValueError(
                f"{function}: label rows must have shape (k, {len(names)}), got {rows.shape}"
            )
        if not np.isfinite(rows).all():
            raise DataError(f"{function}: label rows hold NaN or infinite values")
        return rows.astype(np.float32)
    raise TypeError(
        f"{function}: labels must be class names, integer indices (k,) or floating rows (k,"
        f" {len(names)}),"
        f" got {rows.dtype} of shape {rows.shape}"
    )


def _row(label: str, names: tuple[str, ...], function: str) -> np.ndarray:
    row = np.zeros(len(names), np.float32)
    for part in label.split("+"):
        name = part.strip()
        if name not in names:
            near = get_close_matches(name.upper(), names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise DataError(
                f"{function}: label {name!r} does not exist; classes are {_listed(names)}{hint}"
            )
        row[names.index(name)] = 1.0
    return row


def _listed(names: tuple[str, ...]) -> str:
    if len(names) <= 12:
        return ", ".join(names)
    return f"{', '.join(names[:4])}, ..., {names[-1]} ({len(names)} in all)"
