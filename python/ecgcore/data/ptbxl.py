"""PTB-XL in the folder layout it is published in.

Wagner et al., "PTB-XL, a large publicly available electrocardiography dataset", Scientific Data
7:154 (2020). Labels follow the benchmark of Strodthoff et al. (2020): a record has a statement
whatever its likelihood, and the superclasses of all its diagnostic statements.
"""

from __future__ import annotations

import ast
import csv
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ecgcore.data.base import ECGDataset, MissingDataError
from ecgcore.data.check import check_leads
from ecgcore.data.leads import LEADS, parse_leads, reorder_leads
from ecgcore.data.wfdb_format import read_record
from ecgcore.errors import DataError

_log = logging.getLogger(__name__)

_TASKS = ("superclass", "all")
_COLUMNS = {100: "filename_lr", 500: "filename_hr"}
_CHUNK = 1024  # records whose order and scale are judged together in load()


class PTBXL(ECGDataset):
    """PTB-XL records with multi-hot labels, read from disk when asked for.

    Args:
        root: folder with ``ptbxl_database.csv``, ``scp_statements.csv`` and ``records100`` or
            ``records500``.
        fs: 100 or 500 Hz.
        folds: the ``strat_fold`` numbers to keep, all by default. The field trains on 1..8,
            validates on 9, tests on 10.
        task: ``"superclass"`` (CD, HYP, MI, NORM, STTC) or ``"all"`` (every SCP statement, sorted;
            71 in PTB-XL).
        keep_unlabelled: keep records that have none of the classes; they are dropped otherwise, as
            the benchmark does.

    Items are ``(x (12, L) float32 mV in the order of LEADS, y (classes,) float32)``.

    Attributes:
        ecg_ids: ``(n,)`` int64, the records' ids.
        folds: ``(n,)`` int64, their folds.
        labels: ``(n, classes)`` float32.
        unlabelled: how many records of the folds have no class (dropped unless
            ``keep_unlabelled``).

    Raises:
        MissingDataError: root, a table or all records of this rate do not exist. Single missing
            files are counted in the log here and raise when they are read (:meth:`missing` lists
            them).
        DataError: a malformed table; on access, a damaged record or one in another lead order or
            scale.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        fs: int = 100,
        folds: Iterable[int] | None = None,
        task: str = "superclass",
        *,
        keep_unlabelled: bool = False,
    ) -> None:
        if fs not in _COLUMNS:
            raise ValueError(f"PTBXL: fs must be 100 or 500, got {fs!r}")
        if task not in _TASKS:
            raise ValueError(f"PTBXL: task must be 'superclass' or 'all', got {task!r}")
        wanted = _parse_folds(folds)
        self.root = Path(root)
        self.fs = fs
        self.leads = LEADS
        self.task = task
        if not self.root.is_dir():
            raise MissingDataError(f"PTBXL: folder {self.root} does not exist")
        classes_of = _read_statements(self.root / "scp_statements.csv", task)
        names = sorted({name for classes in classes_of.values() for name in classes})
        self.class_names = tuple(names)
        column = {name: i for i, name in enumerate(names)}

        ids: list[int] = []
        kept_folds: list[int] = []
        files: list[str] = []
        rows: list[np.ndarray] = []
        self.unlabelled = 0
        for row in _read_database(self.root / "ptbxl_database.csv", _COLUMNS[fs]):
            ecg_id, fold, statements, file = row
            if wanted is not None and fold not in wanted:
                continue
            label = np.zeros(len(names), np.float32)
            for code in statements:
                if code not in classes_of:
                    raise DataError(
                        f"{self.root / 'ptbxl_database.csv'}: record {ecg_id} carries the"
                        f" statement {code!r}, which"
                        " scp_statements.csv does not list"
                    )
                for name in classes_of[code]:
                    label[column[name]] = 1.0
            if not label.any():
                self.unlabelled += 1
                if not keep_unlabelled:
                    continue
            ids.append(ecg_id)
            kept_folds.append(fold)
            files.append(file)
            rows.append(label)
        if not ids:
            chosen = "" if wanted is None else f" in folds {', '.join(map(str, sorted(wanted)))}"
            raise DataError(f"PTBXL: {self.root} has no labelled record{chosen}")
        self.ecg_ids = np.array(ids, np.int64)
        self.folds = np.array(kept_folds, np.int64)
        self.labels = torch.from_numpy(np.stack(rows))
        self._files = files
        self._cache: Tensor | None = None
        if self.unlabelled:
            _log.info(
                "PTB-XL: %d of %d records have no %s class and are %s",
                self.unlabelled,
                len(ids) + (0 if keep_unlabelled else self.unlabelled),
                task,
                "kept" if keep_unlabelled else "dropped",
            )
        missing = self.missing()
        if len(missing) == len(self):
            raise MissingDataError(
                f"PTBXL: none of the {len(self)} records exists at {fs} Hz (first: {missing[0]})"
            )
        if missing:
            _log.warning(
                "PTB-XL: %d of %d records are missing at %d Hz (first: %s)",
                len(missing),
                len(self),
                fs,
                missing[0],
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        i = self._position(index)
        if self._cache is not None:
            return self._cache[i], self.labels[i]
        x = self._read(i)
        # A single record with a bad electrode is the data set's business; one in another order or
        # scale is ours.
        check_leads(x, LEADS, self.fs, max_broken=1.0, name=str(self.path(i)))
        return torch.from_numpy(x), self.labels[i]

    def path(self, index: int) -> Path:
        """Header file of a record."""
        return self.root / f"{self._files[index]}.hea"

    def missing(self) -> list[Path]:
        """Files that the tables name and the folder lacks, one path per record."""
        listings: dict[Path, set[str]] = {}
        lacking = []
        for i in range(len(self)):
            path = self.path(i)
            if path.parent not in listings:
                listings[path.parent] = (
                    set(os.listdir(path.parent)) if path.parent.is_dir() else set()
                )
            present = listings[path.parent]
            for name in (path.name, path.with_suffix(".dat").name):
                if name not in present:
                    lacking.append(path.with_name(name))
                    break
        return lacking

    def load(self) -> tuple[Tensor, Tensor]:
        """All records as ``(x (n, 12, L), y (n, classes))`` float32, checked together and kept in
        memory.

        At 100 Hz the whole of PTB-XL takes 1 GB.
        """
        if self._cache is None:
            missing = self.missing()
            if missing:
                raise MissingDataError(
                    f"PTBXL: {len(missing)} of {len(self)} records do not exist (first:"
                    f" {missing[0]})"
                )
            first = self._read(0)
            x = np.empty((len(self), *first.shape), np.float32)
            for start in range(0, len(self), _CHUNK):
                stop = min(start + _CHUNK, len(self))
                for i in range(start, stop):
                    record = self._read(i)
                    if record.shape != first.shape:
                        raise DataError(
                            f"{self.path(i)}: {record.shape[1]} samples, the first record has"
                            f" {first.shape[1]}"
                        )
                    x[i] = record
                name = f"PTBXL: {self.root}, records {start}..{stop - 1}"
                check = check_leads(x[start:stop], LEADS, self.fs, name=name)
                if check.broken:
                    _log.warning(
                        "%s: the lead relations do not hold in %d", name, len(check.broken)
                    )
            self._cache = torch.from_numpy(x)
        return self._cache, self.labels

    def _read(self, index: int) -> np.ndarray:
        path = self.path(index)
        record = read_record(path)
        if record.fs != self.fs:
            raise DataError(f"{path}: sampled at {record.fs} Hz, expected {self.fs}")
        try:
            names = parse_leads(record.names)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        if set(names) != set(LEADS):
            raise DataError(f"{path}: holds {', '.join(names)}, expected the twelve leads")
        x = record.millivolts()
        return x if names == LEADS else reorder_leads(x, names, LEADS)


def is_ptbxl(path: Path) -> bool:
    """Whether a folder has PTB-XL's table of records."""
    return (path / "ptbxl_database.csv").is_file()


def _parse_folds(folds: Iterable[int] | None) -> frozenset[int] | None:
    if folds is None:
        return None
    chosen = [folds] if isinstance(folds, int) else list(folds)
    for fold in chosen:
        if isinstance(fold, bool) or not isinstance(fold, int | np.integer):
            raise TypeError(f"PTBXL: folds must be whole numbers, got {fold!r}")
        if not 1 <= fold <= 10:
            raise ValueError(f"PTBXL: folds run from 1 to 10, got {fold}")
    if not chosen:
        raise ValueError("PTBXL: folds is empty")
    return frozenset(int(fold) for fold in chosen)


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines of a table with a header line, with their line numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = [name for name in needed if name not in (reader.fieldnames or [])]
            if lacking:
                raise DataError(f"{path}: column {', '.join(map(repr, lacking))} is missing")
            for row in reader:
                if any(row[name] is None for name in needed):
                    raise DataError(f"{path}, line {reader.line_num}: too few columns")
                yield reader.line_num, row
    except FileNotFoundError:
        raise MissingDataError(f"{path} does not exist") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a table that can be read: {error}") from None


def _read_statements(path: Path, task: str) -> dict[str, tuple[str, ...]]:
    """Classes of each SCP statement: its diagnostic superclass, if any, or itself."""
    classes: dict[str, tuple[str, ...]] = {}
    for line, row in _rows(path, ("", "diagnostic", "diagnostic_class")):
        code = row[""].strip()
        if not code:
            raise DataError(f"{path}, line {line}: statement without a code")
        if task == "all":
            classes[code] = (code,)
        elif row["diagnostic"].strip() in {"1", "1.0"}:
            if not row["diagnostic_class"].strip():
                raise DataError(f"{path}, line {line}: diagnostic statement {code} has no class")
            classes[code] = (row["diagnostic_class"].strip(),)
        else:
            classes[code] = ()
    return classes


def _read_database(path: Path, file_column: str) -> Iterator[tuple[int, int, tuple[str, ...], str]]:
    """``(ecg_id, fold, statements, file)`` per record."""
    for line, row in _rows(path, ("ecg_id", "scp_codes", "strat_fold", file_column)):
        try:
            ecg_id, fold = int(float(row["ecg_id"])), int(float(row["strat_fold"]))
            statements = ast.literal_eval(row["scp_codes"])
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise DataError(
                f"{path}, line {line}: cannot read ecg_id {row['ecg_id']!r}, strat_fold"
                f" {row['strat_fold']!r},"
                f" scp_codes {row['scp_codes'][:60]!r}"
            ) from None
        if not isinstance(statements, dict):
            raise DataError(
                f"{path}, line {line}: scp_codes must be a dict, got {row['scp_codes'][:60]!r}"
            )
        file = row[file_column].strip()
        if not file or Path(file).is_absolute() or ".." in Path(file).parts:
            raise DataError(
                f"{path}, line {line}: {file_column} must lie in the folder, got {file!r}"
            )
        yield ecg_id, fold, tuple(statements), file
