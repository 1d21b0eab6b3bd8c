// SPDX-License-Identifier: MIT
//
// Complex Fourier transforms of n = 2^a 3^b 5^c 7^d points by one block, in place, in shared memory
// (or, for rows too long for it, in global memory that the cache holds).
//
// Forward by decimation in frequency: stage s takes blocks of m points (m = n at first) apart into
// r interleaved ones of m/r,
//   y_p[j] = w_m^(p j) Σ_q x[j + q m/r] w_r^(p q),   w_m = exp(−2πi/m),
// and writes y_p[j] where x[j + p m/r] was. Bin k = p_1 + r_1 p_2 + r_1 r_2 p_3 + ... ends up at
// position p_1 n/r_1 + p_2 n/(r_1 r_2) + .... Backward takes the stages back in reverse order, so
// nothing is ever reordered: what happens to bins in between looks positions up.
//
// A stage is one phase: butterflies touch disjoint points. The first stage forward and the last one
// back are butterflies j = 0 .. n/r − 1 over the points j + q n/r; callers fuse them with their
// loads and stores.
#pragma once

#include <cmath>

#include "ecgcore/cuda/memory.h"
#include "ecgcore/math/block.h"
#include "ecgcore/math/dft.h"

namespace ecg::cuda {

// One stage: blocks of m points out of n, and its twiddles, w_m^(p j) at (p − 1) m/radix + j.
template <class T>
struct FftStage {
  int n, m, radix;
  const T* twiddles;
};

template <class T>
struct FftLayout {
  static constexpr int kMaxStages = 24;
  int n, stages;
  int radix[kMaxStages];
  int first[kMaxStages];  // where the twiddles of a stage begin
  const T* twiddles;      // complex; w_m^(p j) of stage s at first[s] + (p − 1) m/r + j
  const int32_t* positions;

  ECG_HD FftStage<T> stage(int which) const {
    int m = n;
    for (int s = 0; s < which; ++s) m /= radix[s];
    return {n, m, radix[which], twiddles + 2 * static_cast<int64_t>(first[which])};
  }
};

// The stages of n; twiddles and positions are still to be placed. stages = 0 if n has another prime
// factor.
template <class T>
FftLayout<T> fft_layout(int64_t n) {
  FftLayout<T> out{};
  if (n > (int64_t{1} << 30)) return out;
  out.n = static_cast<int>(n);
  int rest = out.n;
  int64_t points = n, count = 0;
  const auto take = [&](int radix) {
    out.radix[out.stages] = radix;
    out.first[out.stages] = static_cast<int>(count);
    count += points / radix * (radix - 1);
    points /= radix;
    rest /= radix;
    ++out.stages;
  };
  // Few stages, those of even radix first (n is even, so stage 0 has radix 2, 4 or 8); 16 as 4 · 4,
  // not as 8 · 2.
  int twos = 0;
  for (int m = rest; m % 2 == 0; m /= 2) ++twos;
  for (; twos >= 3 && twos != 4; twos -= 3) take(8);
  for (; twos >= 2; twos -= 2) take(4);
  if (twos == 1) take(2);
  for (const int prime : {7, 5, 3}) {
    while (rest % prime == 0) take(prime);
  }
  if (rest != 1) out.stages = 0;
  return out;
}

// Complex twiddles of all stages.
template <class T>
int64_t fft_twiddle_count(const FftLayout<T>& layout) {
  int64_t count = 0, points = layout.n;
  for (int s = 0; s < layout.stages; ++s) {
    count += points / layout.radix[s] * (layout.radix[s] - 1);
    points /= layout.radix[s];
  }
  return count;
}

// Fills the tables of a layout: twiddles in double, then rounded.
template <class T>
struct FftTables {
  static constexpr int kThreads = 128;
  FftLayout<T> layout;
  T* twiddles;
  int32_t* positions;

  ECG_HD int64_t blocks() const { return ceil_div(layout.n, kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t at = block.index() * kThreads + thread;
      if (at >= layout.n) return;
      int k = static_cast<int>(at), place = 0, m = layout.n;
      for (int s = 0; s < layout.stages; ++s) {
        const int r = layout.radix[s];
        // The thread's share of the stage: entry (p, j) = (at / (m/r), at % (m/r)).
        const int span = m / r, p = static_cast<int>(at) / span, j = static_cast<int>(at) % span;
        if (p > 0 && p < r) {
          constexpr double kTurn = -2 * 3.14159265358979323846;
          const double angle = kTurn * static_cast<double>(p * static_cast<int64_t>(j) % m) / m;
          store_complex(twiddles, layout.first[s] + static_cast<int64_t>(p - 1) * span + j,
                        Complex<T>{static_cast<T>(::cos(angle)), static_cast<T>(::sin(angle))});
        }
        place += k % r * span;
        k /= r;
        m = span;
      }
      positions[at] = place;
    });
  }
};

// Points in memory, with one unused after every 128 bytes: butterflies of neighbouring threads, r
// points apart in the last stages, then fall into different banks.
template <class T>
class FftPoints {
 public:
  ECG_HD explicit FftPoints(Stored<T>* memory) : memory_(memory) {}
  ECG_HD Complex<T> load(int i) const { return memory_[padded(i)]; }
  ECG_HD void store(int i, Complex<T> x) const { memory_[padded(i)] = x; }

  // Elements of memory for n points.
  static ECG_HD int64_t size(int64_t n) { return padded(n - 1) + 1; }

 private:
  template <class I>
  static ECG_HD I padded(I i) {
    return i + i / static_cast<I>(128 / sizeof(Stored<T>));
  }
  Stored<T>* memory_;
};

template <int r>
struct FftRadix {
  static constexpr int value = r;
};

// body(FftRadix<r>) for a radix: any, or that of stage 0.
template <bool kFirst, class Body>
ECG_HD void fft_with_radix(int radix, const Body& body) {
  if (radix == 8) return body(FftRadix<8>());
  if (radix == 4) return body(FftRadix<4>());
  if (radix == 2) return body(FftRadix<2>());
  if constexpr (!kFirst) {
    if (radix == 3) return body(FftRadix<3>());
    if (radix == 5) return body(FftRadix<5>());
    if (radix == 7) return body(FftRadix<7>());
  }
}

// One butterfly, its first point at `j` within its block: transform and turn, or turn back and
// transform.
template <int r, class T>
ECG_HD void fft_split(const FftStage<T>& stage, int j, Complex<T> (&x)[r]) {
  dft<r, -1>(x);
  ECG_UNROLL
  for (int p = 1; p < r; ++p) {
    x[p] = x[p] * load_complex(stage.twiddles, (p - 1) * (stage.m / r) + j);
  }
}
template <int r, class T>
ECG_HD void fft_join(const FftStage<T>& stage, int j, Complex<T> (&x)[r]) {
  ECG_UNROLL
  for (int p = 1; p < r; ++p) {
    x[p] = x[p] * conj(load_complex(stage.twiddles, (p - 1) * (stage.m / r) + j));
  }
  dft<r, 1>(x);
}

// A thread's butterflies of one stage, in place. A function call on the device: it is needed in
// many places.
template <int kThreads, bool kForward, class T>
ECG_HD_CALL void fft_stage(FftStage<T> stage, FftPoints<T> z, int thread) {
  fft_with_radix<false>(stage.radix, [&](auto radix) {
    constexpr int r = decltype(radix)::value;
    const int span = stage.m / r;
    for (int i = thread; i < stage.n / r; i += kThreads) {
      const int j = i % span, begin = i / span * stage.m + j;
      Complex<T> x[r];
      ECG_UNROLL
      for (int q = 0; q < r; ++q) x[q] = z.load(begin + q * span);
      if constexpr (kForward) {
        fft_split<r>(stage, j, x);
      } else {
        fft_join<r>(stage, j, x);
      }
      ECG_UNROLL
      for (int q = 0; q < r; ++q) z.store(begin + q * span, x[q]);
    }
  });
}

// The butterflies of stage 0: body(FftRadix<r>, j) for a thread's share of j, over points j + q
// n/r.
template <int kThreads, class T, class Body>
ECG_HD void fft_outer_stage(const FftStage<T>& stage, int thread, const Body& body) {
  fft_with_radix<true>(stage.radix, [&](auto radix) {
    for (int j = thread; j < stage.n / stage.radix; j += kThreads) body(radix, j);
  });
}

// The first stage forward, from points x(t).
template <int kThreads, class T, class Load>
ECG_HD void fft_first_stage(const FftLayout<T>& layout, FftPoints<T> z, int thread,
                            const Load& load) {
  const FftStage<T> stage = layout.stage(0);
  fft_outer_stage<kThreads>(stage, thread, [&](auto radix, int j) {
    constexpr int r = decltype(radix)::value;
    const int span = stage.n / r;
    Complex<T> x[r];
    ECG_UNROLL
    for (int q = 0; q < r; ++q) x[q] = load(j + q * span);
    fft_split<r>(stage, j, x);
    ECG_UNROLL
    for (int q = 0; q < r; ++q) z.store(j + q * span, x[q]);
  });
}
// The last stage back, to store(t, x).
template <int kThreads, class T, class Store>
ECG_HD void fft_last_stage(const FftLayout<T>& layout, FftPoints<T> z, int thread,
                           const Store& store) {
  const FftStage<T> stage = layout.stage(0);
  fft_outer_stage<kThreads>(stage, thread, [&](auto radix, int j) {
    constexpr int r = decltype(radix)::value;
    const int span = stage.n / r;
    Complex<T> x[r];
    ECG_UNROLL
    for (int q = 0; q < r; ++q) x[q] = z.load(j + q * span);
    fft_join<r>(stage, j, x);
    ECG_UNROLL
    for (int q = 0; q < r; ++q) store(j + q * span, x[q]);
  });
}
// The last stage back, x = change(t, x), and the first stage forward again: the same butterflies.
template <int kThreads, class T, class Change>
ECG_HD void fft_turn(const FftLayout<T>& layout, FftPoints<T> z, int thread, const Change& change) {
  const FftStage<T> stage = layout.stage(0);
  fft_outer_stage<kThreads>(stage, thread, [&](auto radix, int j) {
    constexpr int r = decltype(radix)::value;
    const int span = stage.n / r;
    Complex<T> x[r];
    ECG_UNROLL
    for (int q = 0; q < r; ++q) x[q] = z.load(j + q * span);
    fft_join<r>(stage, j, x);
    ECG_UNROLL
    for (int q = 0; q < r; ++q) x[q] = change(j + q * span, x[q]);
    fft_split<r>(stage, j, x);
    ECG_UNROLL
    for (int q = 0; q < r; ++q) z.store(j + q * span, x[q]);
  });
}

// The stages between the first and the bins, and back.
template <int kThreads, class Block, class T>
ECG_HD void fft_inner_forward(Block& block, const FftLayout<T>& layout, FftPoints<T> z) {
  for (int s = 1; s < layout.stages; ++s) {
    block.phase([&](int thread) { fft_stage<kThreads, true>(layout.stage(s), z, thread); });
  }
}
template <int kThreads, class Block, class T>
ECG_HD void fft_inner_backward(Block& block, const FftLayout<T>& layout, FftPoints<T> z) {
  for (int s = layout.stages - 1; s > 0; --s) {
    block.phase([&](int thread) { fft_stage<kThreads, false>(layout.stage(s), z, thread); });
  }
}

// The spectra at bin k of two real rows transformed as row 0 + i row 1, from Z[k] and Z[n − k], and
// the way back from two spectra.
template <class T>
struct FftBinPair {
  Complex<T> row0, row1;
};
template <class T>
ECG_HD FftBinPair<T> fft_rows(Complex<T> at, Complex<T> mirror) {
  const Complex<T> sum = at + conj(mirror), difference = at - conj(mirror);
  const T half = T(0.5);
  return {half * sum, {half * difference.im, -half * difference.re}};
}
template <class T>
ECG_HD Complex<T> fft_at(FftBinPair<T> rows) {  // Z[k]
  return {rows.row0.re - rows.row1.im, rows.row0.im + rows.row1.re};
}
template <class T>
ECG_HD Complex<T> fft_mirror(FftBinPair<T> rows) {  // Z[n − k]
  return {rows.row0.re + rows.row1.im, rows.row1.re - rows.row0.im};
}

// Bin k of a row of half spectra of `length` points. The imaginary parts of bins 0 and length/2
// have no effect on an inverse transform.
template <class T>
ECG_HD Complex<T> fft_real_bin(const T* spectra, int64_t row, int k, int length) {
  Complex<T> out = load_complex(spectra, row * (length / 2 + 1) + k);
  if (k == 0 || 2 * k == length) out.im = T(0);
  return out;
}

}  // namespace ecg::cuda
