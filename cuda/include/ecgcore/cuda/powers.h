// SPDX-License-Identifier: MIT
//
// Sums of powers and moments (math/vandermonde.h) as block programs, for the operators made of
// them: vandermonde, its transpose and diag_kernel. Plain C++: the same bodies run on the device
// and on the host emulator.
//
// A call runs PowerModes (logarithms and weights of all modes, in double, a thread each), then
// PowerSums for samples or PowerMoments for modes, then a program of its own for what is made of
// the moments. docs/cuda.md has the counts.
#pragma once

#include "ecgcore/cuda/memory.h"
#include "ecgcore/cuda/stream.h"
#include "ecgcore/math/block.h"
#include "ecgcore/math/vandermonde.h"

namespace ecg::cuda {

// One mode: exp(log_x) is raised to the powers, `factor` is what weights have in common.
struct PowerMode {
  Complex<double> log_x, factor;
};

// Sizes of a call. Complex signals are two parts, real and imaginary, interleaved.
struct PowerSizes {
  int64_t heads, parts, rows, modes, length;

  ECG_HD int64_t signals() const { return heads * parts; }
  // Where sample l of a row's signal lies.
  ECG_HD int64_t sample(int64_t signal, int64_t row, int64_t l) const {
    return ((signal / parts * rows + row) * length + l) * parts + signal % parts;
  }
};

// Samples are taken in tiles of 32 rows of M = 32, modes 32 at a time.
inline constexpr int kPowerRows = 32;
inline constexpr int kPowerTile = kPowerRows * kVandermondeSamples;
inline constexpr int kPowerModes = 32;
inline constexpr int kPowerThreads = 128;
// Rows of a tile that one of the four warps takes.
inline constexpr int kPowerRowsEach = kPowerRows / (kPowerThreads / 32);

// Moments of long signals are summed over up to 16 chunks of tiles, then over chunks.
ECG_HD int64_t power_tiles(int64_t length) { return ceil_div(length, kPowerTile); }
ECG_HD int64_t power_chunks(int64_t length) {
  const int64_t tiles = power_tiles(length);
  return tiles < 16 ? tiles : 16;
}

template <class T>
struct alignas(16) PowerMoment {
  Complex<T> m0, m1;
};

// Scratch memory of a call; null: not used.
template <class T>
struct PowerScratch {
  double* log_x;            // (rows, modes) complex
  double* weights;          // (signals, rows, modes) complex
  PowerMoment<T>* moments;  // (chunks, signals, rows, modes)

  // Takes its pieces from `memory`; null only counts, in doubles.
  static int64_t divide(const PowerSizes& sizes, bool sums, bool moments, double* memory,
                        PowerScratch* out) {
    const int64_t modes = sizes.rows * sizes.modes, all = sizes.signals() * modes;
    const int64_t each = static_cast<int64_t>(sizeof(PowerMoment<T>) / sizeof(double));
    const int64_t weights = sums ? 2 * all : 0;
    if (memory != nullptr) {
      out->log_x = memory;
      out->weights = sums ? memory + 2 * modes : nullptr;
      out->moments =
          moments ? reinterpret_cast<PowerMoment<T>*>(memory + 2 * modes + weights) : nullptr;
    }
    return 2 * modes + weights + (moments ? power_chunks(sizes.length) * all * each : 0);
  }
};

// Logarithms of all modes and, where weights are asked for, the weights of all signals. Source:
//   PowerMode mode(row, n)
//   Complex<double> weight(head, row, n, factor)
//   bool from_end: modes that grow are exp(x (l - L + 1)).
template <class T, class Source>
struct PowerModes {
  static constexpr int kThreads = 128;
  Source source;
  PowerSizes sizes;
  double* log_x;
  double* weights;

  ECG_HD int64_t blocks() const { return ceil_div(sizes.rows * sizes.modes, kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t i = block.index() * kThreads + thread;
      if (i >= sizes.rows * sizes.modes) return;
      const int64_t row = i / sizes.modes, n = i % sizes.modes;
      const PowerMode mode = source.mode(row, n);
      store_complex(log_x, i, mode.log_x);
      if (weights == nullptr) return;
      const bool grows = mode.log_x.re > 0;
      const Complex<double> end = grows && !source.from_end
                                      ? vandermonde_end(mode.log_x, sizes.length)
                                      : Complex<double>{1, 0};
      for (int64_t head = 0; head < sizes.heads; ++head) {
        Complex<double> w = source.weight(head, row, n, mode.factor);
        if (grows) w = vandermonde_saturated<T>(w * end);
        for (int64_t part = 0; part < sizes.parts; ++part) {
          // Im(w x) = Re(-i w x)
          const Complex<double> value = part == 0 ? w : Complex<double>{w.im, -w.re};
          store_complex(weights, ((head * sizes.parts + part) * sizes.rows + row) * sizes.modes + n,
                        value);
        }
      }
    });
  }
};

// Whether a row has modes that grow, and therefore a second pass, backwards in time.
template <int kThreads, class Block>
ECG_HD bool power_any_grows(Block& block, const double* log_x, int64_t row, int64_t modes,
                            int* found) {
  block.phase([&](int thread) {
    int grows = 0;
    for (int64_t n = thread; n < modes; n += kThreads) {
      grows += load_complex(log_x, row * modes + n).re > 0 ? 1 : 0;
    }
    found[thread] = grows;
  });
  sum_groups<kThreads>(block, found, kThreads);
  return found[0] > 0;
}

// Samples [begin, begin + count) of one tile, and the power that the first has in this direction.
struct PowerTile {
  int64_t begin, first;
  int count;
  bool turned;

  ECG_HD PowerTile(int64_t tile, int64_t length, bool turned_)
      : begin(tile * kPowerTile), turned(turned_) {
    count = static_cast<int>(length - begin < kPowerTile ? length - begin : kPowerTile);
    first = turned ? length - begin - count : begin;
  }
  ECG_HD int64_t sample(int i) const { return turned ? begin + count - 1 - i : begin + i; }
};

// A mode as it runs in one direction; `active` if that is its own.
struct PowerRun {
  Complex<double> x;
  bool active;
};
ECG_HD PowerRun power_run(const double* log_x, int64_t row, int64_t modes, int64_t n, bool turned) {
  if (n >= modes) return {{0, 0}, false};
  const Complex<double> x = load_complex(log_x, row * modes + n);
  if ((x.re > 0) != turned) return {{0, 0}, false};
  return {turned ? -x : x, true};
}

// A block takes one tile of one signal's row; a lane is a sample b of M, a warp takes 8 rows a.
template <class T>
struct PowerSums {
  static constexpr int kThreads = kPowerThreads;
  PowerSizes sizes;
  const double* log_x;
  const double* weights;
  T* out;

  struct alignas(16) Rows {
    Complex<T> at[kPowerRowsEach];
  };

  ECG_HD int64_t tiles() const { return power_tiles(sizes.length); }
  ECG_HD int64_t blocks() const { return sizes.signals() * sizes.rows * tiles(); }
  size_t shared_bytes() const {
    return SharedSize()
        .template add<Stored<T>>(kPowerModes * kVandermondeSamples)
        .template add<Rows>(kPowerModes * kPowerRows / kPowerRowsEach)
        .template add<int>(kThreads)
        .bytes();
  }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    constexpr int kM = kVandermondeSamples, kWarps = kThreads / 32;
    Stored<T>* E = block.template shared<Stored<T>>(kPowerModes * kM);
    Rows* V = block.template shared<Rows>(kPowerModes * kWarps);
    int* found = block.template shared<int>(kThreads);
    struct State {
      T sum[kPowerRowsEach];
    };
    auto mine = block.template registers<State>();
    const int64_t row = block.index() / tiles() % sizes.rows;
    const int64_t signal = block.index() / tiles() / sizes.rows;
    const bool turns = power_any_grows<kThreads>(block, log_x, row, sizes.modes, found);
    for (int pass = 0; pass < (turns ? 2 : 1); ++pass) {
      const PowerTile tile(block.index() % tiles(), sizes.length, pass == 1);
      block.phase([&](int thread) {
        ECG_UNROLL
        for (int i = 0; i < kPowerRowsEach; ++i) mine[thread].sum[i] = T(0);
      });
      for (int64_t begin = 0; begin < sizes.modes; begin += kPowerModes) {
        block.phase([&](int thread) {
          for (int i = thread; i < kPowerModes * (kM + kPowerRows); i += kThreads) {
            const int n = i / (kM + kPowerRows), j = i % (kM + kPowerRows);
            const PowerRun run = power_run(log_x, row, sizes.modes, begin + n, tile.turned);
            if (j < kM) {
              E[n * kM + j] = vandermonde_power<T>(run.x, j);
            } else {
              const int a = j - kM;
              Complex<T> v{T(0), T(0)};
              if (run.active) {
                const Complex<double> w =
                    load_complex(weights, (signal * sizes.rows + row) * sizes.modes + begin + n);
                v = Complex<T>{static_cast<T>(w.re), static_cast<T>(w.im)} *
                    vandermonde_power<T>(run.x, static_cast<double>(tile.first + a * kM));
              }
              V[n * kWarps + a / kPowerRowsEach].at[a % kPowerRowsEach] = v;
            }
          }
        });
        block.phase([&](int thread) {
          const int64_t left = sizes.modes - begin;
          const int count = static_cast<int>(left < kPowerModes ? left : kPowerModes);
          State local = mine[thread];
          for (int n = 0; n < count; ++n) {
            const Complex<T> e = E[n * kM + thread % 32];
            const Rows v = V[n * kWarps + thread / 32];
            ECG_UNROLL
            for (int i = 0; i < kPowerRowsEach; ++i) {
              local.sum[i] += v.at[i].re * e.re;
              local.sum[i] -= v.at[i].im * e.im;
            }
          }
          mine[thread] = local;
        });
      }
      block.phase([&](int thread) {
        ECG_UNROLL
        for (int i = 0; i < kPowerRowsEach; ++i) {
          const int at = (thread / 32 * kPowerRowsEach + i) * kM + thread % 32;
          if (at >= tile.count) continue;
          T& to = out[sizes.sample(signal, row, tile.sample(at))];
          to = tile.turned ? to + mine[thread].sum[i] : mine[thread].sum[i];
        }
      });
    }
  }
};

// A block takes a chunk of tiles of one signal's row; a lane is a mode, a warp takes 8 rows a, and
// the four warps' sums are added as a tree. kFirst: the moments times l too.
template <class T, bool kFirst>
struct PowerMoments {
  static constexpr int kThreads = kPowerThreads;
  PowerSizes sizes;
  const double* log_x;
  const T* signal;
  PowerMoment<T>* moments;

  // The samples of 8 rows at one b, padded so that rows of b begin at other banks.
  struct alignas(16) Samples {
    T at[kPowerRowsEach];
  };
  static constexpr int kPitch = kPowerRows / kPowerRowsEach + 1;
  struct Sums {
    Complex<T> m0, m1;
    ECG_HD Sums& operator+=(Sums b) {
      m0 += b.m0;
      m1 += b.m1;
      return *this;
    }
  };

  ECG_HD int64_t chunks() const { return power_chunks(sizes.length); }
  ECG_HD int64_t blocks() const { return chunks() * sizes.signals() * sizes.rows; }
  size_t shared_bytes() const {
    return SharedSize()
        .template add<Stored<T>>(kPowerModes * kVandermondeSamples)
        .template add<Stored<T>>(kPowerModes * kPowerRows)
        .template add<Samples>(kVandermondeSamples * kPitch)
        .template add<Sums>(kThreads)
        .template add<int>(kThreads)
        .bytes();
  }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    constexpr int kM = kVandermondeSamples;
    Stored<T>* E = block.template shared<Stored<T>>(kPowerModes * kM);
    Stored<T>* X = block.template shared<Stored<T>>(kPowerModes * kPowerRows);
    Samples* U = block.template shared<Samples>(kM * kPitch);
    Sums* sums = block.template shared<Sums>(kThreads);
    int* found = block.template shared<int>(kThreads);
    auto mine = block.template registers<Sums>();
    const int64_t row = block.index() % sizes.rows;
    const int64_t which = block.index() / sizes.rows % sizes.signals();
    const int64_t chunk = block.index() / sizes.rows / sizes.signals();
    const int64_t tile_begin = chunk * power_tiles(sizes.length) / chunks();
    const int64_t tile_end = (chunk + 1) * power_tiles(sizes.length) / chunks();
    const bool turns = power_any_grows<kThreads>(block, log_x, row, sizes.modes, found);
    for (int pass = 0; pass < (turns ? 2 : 1); ++pass) {
      const bool turned = pass == 1;
      for (int64_t begin = 0; begin < sizes.modes; begin += kPowerModes) {
        const auto run = [&](int n) {
          return power_run(log_x, row, sizes.modes, begin + n, turned);
        };
        block.phase([&](int thread) {
          mine[thread] = {{T(0), T(0)}, {T(0), T(0)}};
          for (int i = thread; i < kPowerModes * kM; i += kThreads) {
            E[i] = vandermonde_power<T>(run(i % kPowerModes).x, i / kPowerModes);
          }
        });
        for (int64_t index = tile_begin; index < tile_end; ++index) {
          const PowerTile tile(index, sizes.length, turned);
          block.phase([&](int thread) {
            for (int i = thread; i < kPowerTile; i += kThreads) {
              const int a = i / kM, b = i % kM;
              U[b * kPitch + a / kPowerRowsEach].at[a % kPowerRowsEach] =
                  i < tile.count ? signal[sizes.sample(which, row, tile.sample(i))] : T(0);
            }
            for (int i = thread; i < kPowerModes * kPowerRows; i += kThreads) {
              X[i] = vandermonde_power<T>(run(i % kPowerModes).x,
                                          static_cast<double>(tile.first + i / kPowerModes * kM));
            }
          });
          block.phase([&](int thread) { add_tile(thread, tile, E, X, U, mine[thread]); });
        }
        block.phase([&](int thread) { sums[thread] = mine[thread]; });
        sum_groups<kThreads>(block, sums, kThreads / kPowerModes);
        block.phase([&](int thread) {
          if (thread < kPowerModes && run(thread).active) {
            const int64_t to =
                ((chunk * sizes.signals() + which) * sizes.rows + row) * sizes.modes + begin;
            moments[to + thread] = {sums[thread].m0, sums[thread].m1};
          }
        });
      }
    }
  }

 private:
  ECG_HD void add_tile(int thread, const PowerTile& tile, const Stored<T>* E, const Stored<T>* X,
                       const Samples* U, Sums& sums) const {
    const int n = thread % kPowerModes, warp = thread / kPowerModes;
    Complex<T> zeroth[kPowerRowsEach], first[kPowerRowsEach];
    ECG_UNROLL
    for (int i = 0; i < kPowerRowsEach; ++i) zeroth[i] = first[i] = {T(0), T(0)};
    for (int b = 0; b < kVandermondeSamples; ++b) {
      const Complex<T> e = E[b * kPowerModes + n], e1 = static_cast<T>(b) * e;
      const Samples u = U[b * kPitch + warp];
      ECG_UNROLL
      for (int i = 0; i < kPowerRowsEach; ++i) {
        zeroth[i] += u.at[i] * e;
        if constexpr (kFirst) first[i] += u.at[i] * e1;
      }
    }
    ECG_UNROLL
    for (int i = 0; i < kPowerRowsEach; ++i) {
      const int a = warp * kPowerRowsEach + i;
      const Complex<T> x = X[a * kPowerModes + n];
      sums.m0 += x * zeroth[i];
      if constexpr (kFirst) {
        const T begin = static_cast<T>(tile.first + a * kVandermondeSamples);
        sums.m1 += x * (begin * zeroth[i] + first[i]);
      }
    }
  }
};

// The moments of one mode over all chunks, in their order, as if it had never been turned.
template <class T>
ECG_HD VandermondeMoments power_collected(const PowerSizes& sizes, const PowerMoment<T>* moments,
                                          Complex<double> log_x, bool from_end, int64_t signal,
                                          int64_t row, int64_t n) {
  VandermondeMoments out{{0, 0}, {0, 0}};
  for (int64_t chunk = 0; chunk < power_chunks(sizes.length); ++chunk) {
    const PowerMoment<T> one =
        moments[((chunk * sizes.signals() + signal) * sizes.rows + row) * sizes.modes + n];
    out.m0 += Complex<double>{one.m0.re, one.m0.im};
    out.m1 += Complex<double>{one.m1.re, one.m1.im};
  }
  if (!(log_x.re > 0)) return out;
  const Complex<double> end =
      from_end ? Complex<double>{1, 0} : vandermonde_end(log_x, sizes.length);
  return vandermonde_turned(out, end, sizes.length);
}

// A complex number of an array of T, in double.
template <class T>
ECG_HD Complex<double> load_wide(const T* array, int64_t i) {
  const Complex<T> x = load_complex(array, i);
  return {x.re, x.im};
}
template <class T>
ECG_HD void store_narrow(T* array, int64_t i, Complex<double> x) {
  store_complex(array, i, Complex<T>{static_cast<T>(x.re), static_cast<T>(x.im)});
}

// The programs in their order: samples from weights, and moments from samples.
template <class T, class Source, class Start>
Error power_sums(const Source& source, const PowerSizes& sizes, const PowerScratch<T>& scratch,
                 T* out, const Start& start) {
  if (const Error error =
          start(PowerModes<T, Source>{source, sizes, scratch.log_x, scratch.weights})) {
    return error;
  }
  return start(PowerSums<T>{sizes, scratch.log_x, scratch.weights, out});
}
template <class T, class Source, class Start>
Error power_moments(const Source& source, const PowerSizes& sizes, const PowerScratch<T>& scratch,
                    const T* signal, bool first, const Start& start) {
  if (const Error error = start(PowerModes<T, Source>{source, sizes, scratch.log_x, nullptr})) {
    return error;
  }
  return first ? start(PowerMoments<T, true>{sizes, scratch.log_x, signal, scratch.moments})
               : start(PowerMoments<T, false>{sizes, scratch.log_x, signal, scratch.moments});
}

}  // namespace ecg::cuda
