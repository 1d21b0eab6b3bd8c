"""Figures that tell from afar whether signals are ECGs: beats, rate, spectrum, size, noise.

They find failures (no rhythm, noise left over, faded amplitudes), not the absence of failures:
signals can pass all and be wrong to a reader. No figure here measures diversity or disease.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ecgcore.errors import DataError

THRESHOLDS: dict[str, tuple[float, float]] = {
    "heart_rate_ok": (0.8, 1.0),
    "psd_db": (0.0, 3.0),
    "std_ratio": (0.7, 1.3),
    "noise_uv": (0.0, 10.0),
    "beat_correlation": (0.9, 1.0),
}
"""What each figure should lie between."""

NAMES: dict[str, str] = {
    "heart_rate": "heart rate, median (per minute)",
    "heart_rate_ok": "share with a rate of 40 to 125",
    "psd_db": "distance of spectra, 1 to 40 Hz (dB)",
    "std_ratio": "amplitude, generated over real",
    "noise_uv": "noise above 30 Hz (µV)",
    "beat_correlation": "likeness of a record's beats",
}
"""What each figure is called in a table."""

_RATE = (40.0, 125.0)  # per minute
_REFRACTORY = 0.3  # s between beats
_SMOOTHING = 0.07  # s
_BEAT = (0.25, 0.40)  # s before and after a peak


def judge(
    x: np.ndarray | torch.Tensor, fs: float, *, real: np.ndarray | torch.Tensor | None = None
) -> dict[str, Any]:
    """Judge ECGs by simple signal statistics.

    Args:
        x: ``(n, leads, L)`` in mV, at least a second long.
        fs: sampling rate in Hz.
        real: records to compare with, ``(m, leads, any length)`` at the same rate; without them the
            spectral distance and the amplitude ratio are ``None``.

    Returns:
        A dictionary fit for JSON:

        * ``records``: n.
        * ``heart_rate``: median over records, per minute; ``None`` if no record has two beats.
        * ``heart_rate_ok``: share of records with a rate of 40..125.
        * ``psd_db``: mean over leads and 1..40 Hz of the distance in dB between the average spectra
        (Welch, 128 samples). * ``std_ratio``: mean over leads of the standard deviation, over that
        of ``real``. * ``noise_uv``: median over records and leads of the spread above 30 Hz, as
        1.4826 times the median absolute
          deviation, which does not see the QRS complexes; ``None`` below 70 Hz sampling rate.
        * ``beat_correlation``: median over records of the mean correlation of a beat with the
        record's mean beat, all
          leads together; ``None`` if no record has two whole beats.
        * ``passed``: for each figure that is there, whether it lies within :data:`THRESHOLDS`.

    Raises:
        DataError: NaN or infinite values, or no record.
        ValueError: shapes.
    """
    signal = _signals(x, fs, "x")
    beats = [qrs_peaks(record, fs) for record in signal]
    rates = np.array([heart_rate(peaks, fs) for peaks in beats])
    similar = np.array([_beat_correlation(r, p, fs) for r, p in zip(signal, beats, strict=True)])
    found: dict[str, Any] = {
        "records": len(signal),
        "heart_rate": _median(rates),
        "heart_rate_ok": float(np.mean((rates >= _RATE[0]) & (rates <= _RATE[1]))),
        "psd_db": None,
        "std_ratio": None,
        "noise_uv": _median(noise_floor(signal, fs)) if fs >= 70 else None,
        "beat_correlation": _median(similar),
    }
    if real is not None:
        reference = _signals(real, fs, "real")
        if reference.shape[1] != signal.shape[1]:
            raise ValueError(f"judge: real has {reference.shape[1]} leads, x has {signal.shape[1]}")
        found["psd_db"] = psd_distance(signal, reference, fs)
        found["std_ratio"] = float(_lead_std(signal).mean() / _lead_std(reference).mean())
    found["passed"] = {
        name: bool(low <= found[name] <= high)
        for name, (low, high) in THRESHOLDS.items()
        if found[name] is not None
    }
    return found


def welch(
    x: np.ndarray, fs: float, window: int = 128, taper: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Power spectral density by Welch's method: half overlap, mean removed per segment.

    ``x (..., L)`` in mV gives frequencies ``(F,)`` in Hz and ``(..., F)`` in mV^2/Hz, ``F = window
    // 2 + 1``. A signal shorter than the window is one segment of its own length. ``taper
    (window,)`` weighs the samples of a segment; by default a Hann window.
    """
    window = min(window, x.shape[-1])
    if taper is None:
        taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    segments = np.lib.stride_tricks.sliding_window_view(x, window, axis=-1)
    segments = segments[..., :: max(1, window // 2), :]
    segments = segments - segments.mean(axis=-1, keepdims=True)
    power = np.abs(np.fft.rfft(segments * taper)) ** 2
    density = power.mean(axis=-2) / (fs * np.sum(taper**2))
    # One-sided: every frequency stands for its negative too, but 0 and Nyquist have none.
    last = None if window % 2 else -1
    density[..., 1:last] *= 2
    return np.fft.rfftfreq(window, 1 / fs), density


def psd_distance(x: np.ndarray, real: np.ndarray, fs: float) -> float:
    """Mean absolute distance in dB of average spectra over leads and 1..40 Hz: ``(n, leads, L)``
    each.
    """
    window = min(128, x.shape[-1], real.shape[-1])
    f, a = welch(x, fs, window)
    _, b = welch(real, fs, window)
    band = (f >= 1) & (f <= 40)
    # Far under any amplifier's noise, in mV^2/Hz: silence is a large distance, not an infinite one.
    tiny = 1e-12
    decibel = 10 * np.log10((a.mean(0) + tiny) / (b.mean(0) + tiny))
    return float(np.abs(decibel[:, band]).mean())


def noise_floor(x: np.ndarray, fs: float) -> np.ndarray:
    """Spread above 30 Hz in uV, ``(n, leads)``: 1.4826 times the median absolute deviation."""
    spectrum = np.fft.rfft(x)
    spectrum[..., np.fft.rfftfreq(x.shape[-1], 1 / fs) < 30] = 0
    high = np.fft.irfft(spectrum, n=x.shape[-1])
    middle = np.median(high, axis=-1, keepdims=True)
    return 1482.6 * np.median(np.abs(high - middle), axis=-1)


def qrs_peaks(x: np.ndarray, fs: float) -> np.ndarray:
    """Samples at which a record ``(leads, L)`` has a QRS complex, rising.

    Peaks of the RMS slope over leads, smoothed over 70 ms, above 0.45 of its 98.5 % quantile and
    300 ms apart.
    """
    slope = np.sqrt(np.mean(np.diff(x, axis=-1) ** 2, axis=0))
    width = max(1, round(_SMOOTHING * fs))
    energy = np.convolve(slope, np.ones(width) / width, mode="same")
    if not energy.any():
        return np.zeros(0, np.int64)
    floor = 0.45 * np.quantile(energy, 0.985)
    edge = np.concatenate(([-np.inf], energy, [-np.inf]))
    candidates = np.flatnonzero((energy > floor) & (energy >= edge[:-2]) & (energy > edge[2:]))
    # The highest first; whatever comes within the refractory time of a taken one is part of it.
    taken: list[int] = []
    for i in candidates[np.argsort(-energy[candidates], kind="stable")]:
        if all(abs(int(i) - j) >= _REFRACTORY * fs for j in taken):
            taken.append(int(i))
    return np.array(sorted(taken), np.int64)


def heart_rate(peaks: np.ndarray, fs: float) -> float:
    """Beats per minute from the median interval; NaN below two beats."""
    return float(60 * fs / np.median(np.diff(peaks))) if len(peaks) > 1 else float("nan")


def _beat_correlation(x: np.ndarray, peaks: np.ndarray, fs: float) -> float:
    before, after = round(_BEAT[0] * fs), round(_BEAT[1] * fs)
    whole = peaks[(peaks >= before) & (peaks + after <= x.shape[-1])]
    if len(whole) < 2:
        return float("nan")
    beats = np.stack([x[:, i - before : i + after] for i in whole])
    beats = beats - beats.mean(axis=-1, keepdims=True)
    beats = beats.reshape(len(whole), -1)
    mean = beats.mean(axis=0)
    norm = np.linalg.norm(beats, axis=1) * np.linalg.norm(mean)
    return float(np.mean(beats @ mean / norm)) if norm.all() else 0.0


def _lead_std(x: np.ndarray) -> np.ndarray:
    """Standard deviation per lead over records and time, each record's own mean taken off."""
    return np.sqrt(np.mean(np.var(x, axis=-1), axis=0))


def _median(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None


def _signals(x: np.ndarray | torch.Tensor, fs: float, name: str) -> np.ndarray:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if not fs > 0:
        raise ValueError(f"judge: fs must be positive, got {fs!r}")
    if array.ndim != 3 or array.shape[1] == 0 or array.shape[-1] < fs:
        raise ValueError(
            f"judge: {name} must have shape (n, leads, L) and last at least a second, got"
            f" {array.shape} at {fs:g} Hz"
        )
    if len(array) == 0:
        raise DataError(f"judge: {name} holds no record")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array).all(axis=(1, 2))).sum())
        raise DataError(
            f"judge: {count} of {len(array)} records of {name} hold NaN or infinite values"
        )
    return array
