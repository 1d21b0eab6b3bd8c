"""Class-conditional 12-lead ECGs from a moving dipole, for demos and tests that have no data.

The heart is one current dipole. Its vector loops once per beat as a sum of Gaussians in time
(McSharry et al., IEEE Trans. Biomed. Eng. 50:289 (2003), with their phase replaced by time around
the R peak), and each lead is its projection on a fixed direction, near the Dower matrix's. Leads I,
II and V1..V6 are projected and get their own wander and noise; the other four are computed from I
and II, so that the lead relations hold by construction.

Axes: x to the patient's left, y down, z to the front; mV. A caricature of five diagnostic classes,
not a model of disease.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ecgcore.data.classes import SUPERCLASSES, parse_labels
from ecgcore.data.leads import to_twelve_leads
from ecgcore.errors import DataError

# Projections of the dipole (x, y, z) on I, II, V1..V6.
_LEAD_FIELD = np.array(
    [
        (0.66, -0.22, -0.05),
        (0.26, 1.00, 0.12),
        (-0.50, 0.15, 0.95),
        (0.05, 0.16, 1.60),
        (0.80, 0.10, 1.40),
        (1.20, 0.12, 0.75),
        (1.12, 0.12, 0.15),
        (0.85, 0.08, -0.18),
    ]
)


@dataclass(frozen=True)
class _Wave:
    """One Gaussian of the loop: seconds after the R peak, standard deviation in seconds, dipole in
    mV.
    """

    centre: float
    width: float
    vector: np.ndarray


def _wave(centre: float, width: float, *vector: float) -> _Wave:
    return _Wave(centre, width, np.array(vector))


_NORMAL = {
    "P1": _wave(-0.175, 0.022, 0.03, 0.06, 0.05),
    "P2": _wave(-0.145, 0.022, 0.05, 0.06, -0.03),
    "Q": _wave(-0.026, 0.009, -0.13, -0.06, 0.22),
    "R": _wave(0.000, 0.011, 1.05, 0.75, -0.15),
    "S": _wave(0.026, 0.012, 0.02, -0.10, -0.62),
    "ST": _wave(0.130, 0.045, 0.01, 0.01, 0.03),
    "T1": _wave(0.250, 0.045, 0.16, 0.12, 0.15),
    "T2": _wave(0.295, 0.030, 0.20, 0.15, 0.20),
}


@dataclass(frozen=True)
class Simulation:
    """Simulated records and what they were made from.

    ``x (n, 12, L)`` mV in the order of LEADS, ``y (n, 5)``, both float32; ``r_peaks``: times in
    seconds of the beats' reference points within the record, one array per record; ``heart_rate
    (n,)`` per minute.
    """

    x: Tensor
    y: Tensor
    fs: float
    r_peaks: tuple[np.ndarray, ...]
    heart_rate: np.ndarray


def simulate(
    n: int,
    seed: int,
    *,
    fs: float = 100,
    seconds: float = 10.0,
    labels: object = None,
) -> tuple[Tensor, Tensor]:
    """Draw ``n`` ECGs and their labels.

    Args:
        n: number of records.
        seed: record ``i`` depends on ``(seed, i)``, its label, ``fs`` and ``seconds`` alone.
        fs: sampling rate in Hz.
        seconds: duration; ``L = round(fs * seconds)``.
        labels: ``None`` (the five classes in turn) or any form of
            :func:`~ecgcore.data.parse_labels` with entries 0 and 1; record ``i`` takes row ``i %
            k``. Several classes at once combine; none is drawn as a normal one.

    Returns:
        ``x (n, 12, L)`` float32 mV in the order of LEADS, satisfying the lead relations to float32
        rounding, and ``y (n, 5)`` float32 for CD, HYP, MI, NORM, STTC.
    """
    drawn = simulate_beats(n, seed, fs=fs, seconds=seconds, labels=labels)
    return drawn.x, drawn.y


def simulate_beats(
    n: int,
    seed: int,
    *,
    fs: float = 100,
    seconds: float = 10.0,
    labels: object = None,
    spread: float = 1.0,
) -> Simulation:
    """As :func:`simulate`, with the beats' times.

    ``spread`` scales the variation between records (rate, amplitudes, durations, axis), not that
    within one: 1 is a crowd, 0.4 an easier data set for small models, 0 leaves the choice of
    subtype only.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise ValueError(f"simulate: n must be a whole number >= 0, got {n!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ValueError(f"simulate: seed must be a whole number in 0..2^64-1, got {seed!r}")
    if not (np.isfinite(fs) and np.isfinite(seconds) and fs > 0 and round(fs * seconds) >= 1):
        raise ValueError(
            f"simulate: fs and seconds must give at least one sample, got fs={fs!r},"
            f" seconds={seconds!r}"
        )
    if not 0 <= spread <= 1:
        raise ValueError(f"simulate: spread must lie in 0..1, got {spread!r}")
    rows = parse_labels(labels, SUPERCLASSES, function="simulate")
    if not np.isin(rows, (0.0, 1.0)).all():
        raise DataError("simulate: label rows must hold 0 and 1 only; there is no half infarction")
    y = rows[np.arange(n) % len(rows)]
    t = np.arange(round(fs * seconds)) / fs
    x8 = np.empty((n, 8, len(t)), np.float32)
    peaks, rates = [], np.empty(n)
    for i in range(n):
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, i], np.uint64)))
        x8[i], peak_times, rates[i] = _record(rng, t, y[i], spread)
        peaks.append(peak_times)
    x = to_twelve_leads(x8, basis="I-II", order="ptbxl")
    return Simulation(torch.from_numpy(x), torch.from_numpy(y), fs, tuple(peaks), rates)


class _Draw:
    """A record's draws: ranges and spreads shrunk around their middle by ``spread``."""

    def __init__(self, rng: np.random.Generator, spread: float) -> None:
        self.rng = rng
        self.spread = spread

    def between(self, low: float, high: float) -> float:
        return (low + high) / 2 + self.spread * (high - low) * (self.rng.random() - 0.5)

    def normal(self, sd: float) -> float:
        """Around 0, cut at two standard deviations: no record is absurd."""
        return self.spread * sd * min(2.0, max(-2.0, self.rng.standard_normal()))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)


def _record(
    rng: np.random.Generator, t: np.ndarray, label: np.ndarray, spread: float
) -> tuple[np.ndarray, np.ndarray, float]:
    draw = _Draw(rng, spread)
    waves = _morphology(draw, dict(zip(SUPERCLASSES, label > 0, strict=True)))
    rate = 72.0 + draw.normal(12.0)
    beats, rr = _beats(draw, rate, float(t[-1]))

    gain = 1.0 + 0.04 * rng.standard_normal(len(beats))
    # Repolarisation keeps pace with the square root of the cycle before it (Bazett); the P wave
    # follows partly.
    root = np.sqrt(rr)
    centres, widths = np.empty((2, len(waves), len(beats)))
    for k, (name, wave) in enumerate(waves.items()):
        late = name in {"ST", *_T}
        stretch = root if late else 0.75 + 0.25 * root if name in _P else np.ones_like(root)
        centres[k] = beats + wave.centre * stretch
        widths[k] = wave.width * (root if late else 1.0)
    vectors = np.stack([wave.vector for wave in waves.values()])
    dipole = vectors.T @ _bumps(centres, widths, np.broadcast_to(gain, centres.shape), t)

    x8 = _LEAD_FIELD @ dipole + _wander(draw, t) + _noise(draw, len(t))
    inside = (beats >= 0) & (beats <= t[-1])
    return x8, beats[inside], rate


def _beats(draw: _Draw, rate: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """R times from before 0 to beyond ``end``, and the cycle length in s before each."""
    jitter = draw.between(0.01, 0.05)
    mean = 60.0 / rate
    # Respiration carries two thirds of the variance, the rest is irregular.
    breath, phase = draw.between(0.2, 0.3), draw.rng.uniform(0, 2 * np.pi)
    start = -mean * (1.0 + draw.rng.random())
    count = int((end - start) / (0.8 * mean)) + 4
    cycle = np.arange(count) * mean
    swing = np.sqrt(4 / 3) * np.sin(2 * np.pi * breath * cycle + phase)
    irregular = np.sqrt(1 / 3) * draw.rng.standard_normal(count)
    rr = mean * np.clip(1.0 + jitter * (swing + irregular), 0.8, 1.25)
    beats = start + np.cumsum(rr)
    keep = np.searchsorted(beats, end + mean) + 1  # one beyond: its P wave may reach back
    return beats[:keep], rr[:keep]


def _bumps(
    centres: np.ndarray, widths: np.ndarray, heights: np.ndarray, t: np.ndarray
) -> np.ndarray:
    """Sums of Gaussians ``(waves, beats)`` over the beats: ``(waves, L)`` at the equidistant ``t``.

    Each is evaluated within six standard deviations only; beyond, it is under 2e-8 of its height.
    """
    step = t[1] - t[0] if len(t) > 1 else 1.0
    reach = int(np.ceil(6 * widths.max() / step))
    index = np.rint(centres / step).astype(np.int64)[..., None] + np.arange(-reach, reach + 1)
    offset = (index * step - centres[..., None]) / widths[..., None]
    value = heights[..., None] * np.exp(-0.5 * offset**2)
    inside = (index >= 0) & (index < len(t))
    flat = index + len(t) * np.arange(len(centres))[:, None, None]
    total = np.bincount(flat[inside], value[inside], minlength=len(centres) * len(t))
    return total.reshape(len(centres), len(t))


def _wander(draw: _Draw, t: np.ndarray) -> np.ndarray:
    """Baseline: three slow sines below 0.45 Hz, mixed anew for each lead, RMS 0.01..0.03 mV."""
    phase = 2 * np.pi * draw.rng.uniform(0.05, 0.45, (3, 1)) * t
    mix = draw.rng.standard_normal((8, 6)) / np.sqrt(3)
    return draw.between(0.01, 0.03) * mix @ np.concatenate((np.sin(phase), np.cos(phase)))


def _noise(draw: _Draw, length: int) -> np.ndarray:
    """White noise, 3..10 uV."""
    return draw.between(0.003, 0.010) * draw.rng.standard_normal((8, length))


def _morphology(draw: _Draw, has: dict[str, bool]) -> dict[str, _Wave]:
    """The record's loop: a normal one, changed by its classes, then varied."""
    waves = dict(_NORMAL)
    if has["CD"]:
        _conduction(draw, waves)
    if has["MI"]:
        _infarction(draw, waves)
    if has["HYP"]:
        _hypertrophy(draw, waves)
    if has["STTC"]:
        _repolarisation(draw, waves)
    return _vary(draw, waves)


def _scale(waves: dict[str, _Wave], names: tuple[str, ...], *factors: float) -> None:
    for name in names:
        waves[name] = replace(waves[name], vector=waves[name].vector * np.array(factors))


_P = ("P1", "P2")
_QRS = ("Q", "R", "S", "R'")
_T = ("T1", "T2")


def _conduction(draw: _Draw, waves: dict[str, _Wave]) -> None:
    if draw.chance(
        0.5
    ):  # left bundle branch block: broad, notched, to the left and back; discordant T
        waves["Q"] = _wave(-0.030, 0.018, 0.25, 0.10, -0.25)
        waves["R"] = _wave(0.005, 0.024, 0.65, 0.42, -0.55)
        waves["S"] = _wave(0.048, 0.020, 0.75, 0.15, -0.60)
        waves["ST"] = replace(waves["ST"], vector=np.array((-0.08, -0.03, 0.14)))
        _scale(waves, _T, -0.8, -0.2, 1.5)
    else:  # right: a late vector to the right and front
        waves["S"] = _wave(0.030, 0.013, -0.10, -0.10, -0.30)
        waves["R'"] = _wave(0.066, 0.020, -0.50, -0.05, 0.60)
        _scale(waves, _T, 1.0, 1.0, 0.2)


def _infarction(draw: _Draw, waves: dict[str, _Wave]) -> None:
    inverted = draw.chance(0.5)
    st = waves["ST"].vector.copy()
    if draw.chance(0.5):  # anterior: front forces lost, ST raised in front
        waves["Q"] = replace(waves["Q"], vector=np.array((0.05, -0.03, -0.35)))
        st[2] = draw.between(0.06, 0.22)
        _scale(waves, _T, 0.6, 1.0, -1.1 if inverted else 0.9)
    else:  # inferior: early vector upward, ST raised below
        waves["Q"] = replace(
            waves["Q"], vector=np.array((0.02, -0.50, 0.20)), width=1.5 * waves["Q"].width
        )
        _scale(waves, ("R",), 1.0, 0.65, 1.0)
        st[1] = draw.between(0.05, 0.18)
        _scale(waves, _T, 1.0, -1.2 if inverted else 0.84, 1.0)
    waves["ST"] = replace(waves["ST"], vector=st)


def _hypertrophy(draw: _Draw, waves: dict[str, _Wave]) -> None:
    size = draw.between(1.6, 2.1)
    _scale(waves, tuple(name for name in _QRS if name in waves), size, size, size)
    waves["R"] = replace(waves["R"], vector=waves["R"].vector + np.array((0.0, 0.0, -0.2)))
    if draw.chance(0.6):  # strain
        _scale(waves, _T, draw.between(-0.8, -0.3), 1.0, 1.0)
        waves["ST"] = replace(waves["ST"], vector=waves["ST"].vector - np.array((0.08, 0.0, 0.0)))


def _repolarisation(draw: _Draw, waves: dict[str, _Wave]) -> None:
    depth = draw.between(0.04, 0.12)
    shift = np.array((-1.0, -0.8, -0.3)) * depth
    waves["ST"] = replace(waves["ST"], vector=waves["ST"].vector + shift)
    size = draw.between(-0.9, 0.0) if draw.chance(0.75) else 0.15
    _scale(waves, _T, size, size, size)


def _vary(draw: _Draw, waves: dict[str, _Wave]) -> dict[str, _Wave]:
    """Between-record variation: amplitude of each wave, its width, and the axis of the heart."""
    rotation = _rotation(np.array([draw.normal(0.17) for _ in range(3)]))
    qrs = 1.0 + draw.normal(0.18)
    t_wave = 1.0 + draw.normal(0.25)
    varied = {}
    for name, wave in waves.items():
        common = qrs if name in _QRS else t_wave if name in _T else 1.0
        amplitude = common * (1.0 + draw.normal(0.12))
        width = wave.width * (1.0 + draw.normal(0.08))
        varied[name] = _Wave(wave.centre, width, rotation @ (wave.vector * amplitude))
    return varied


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation by ``|vector|`` radians about its direction (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-12:
        return np.eye(3)
    sine, cosine = np.sin(angle) / angle, (1 - np.cos(angle)) / angle**2
    return np.eye(3) + sine * cross + cosine * cross @ cross
