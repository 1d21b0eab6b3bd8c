// SPDX-License-Identifier: MIT
//
// Sums of powers and moments of one row of modes on the CPU (math/vandermonde.h), for the kernels
// that are made of them. Lanes are samples: the M = 32 samples of E_b are vectors, the numbers of
// V_a are broadcast. Memory: tables of E, and of 16 rows of V, whatever the length.
#pragma once

#include "ecgcore/math/transpose.h"
#include "ecgcore/math/vandermonde.h"
#include "matrix_tiles.h"
#include "scratch.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int kWide = kLanes<double>;
using Wide = Pack<double, kWide>;

constexpr int64_t padded(int64_t modes) { return (modes + kWide - 1) / kWide * kWide; }

template <class T>
Complex<double> wide(const T* pair) {
  return {pair[0], pair[1]};
}

// Complex numbers in double as two planes.
struct WidePlanes {
  double *re, *im;

  void allocate(Scratch& scratch, int64_t modes) {
    re = scratch.take(padded(modes));
    im = scratch.take(padded(modes));
  }
  Complex<double> at(int64_t n) const { return {re[n], im[n]}; }
  void set(int64_t n, Complex<double> x) {
    re[n] = x.re;
    im[n] = x.im;
  }
  Complex<Wide> pack(int64_t n) const { return {Wide::load(re + n), Wide::load(im + n)}; }
  void set(int64_t n, Complex<Wide> x) {
    x.re.store(re + n);
    x.im.store(im + n);
  }
  template <class T>
  void load(const T* interleaved, int64_t modes) {
    for (int64_t n = 0; n < modes; ++n) {
      re[n] = interleaved[2 * n];
      im[n] = interleaved[2 * n + 1];
    }
  }
  template <class T>
  void store(T* interleaved, int64_t modes) const {
    for (int64_t n = 0; n < modes; ++n) {
      interleaved[2 * n] = static_cast<T>(re[n]);
      interleaved[2 * n + 1] = static_cast<T>(im[n]);
    }
  }
  void pad(int64_t modes) {
    for (int64_t n = modes; n < padded(modes); ++n) re[n] = im[n] = 0;
  }
};

// Rounds to T. What a float would hold with fewer bits, below 1.2e-38, becomes 0: such numbers are
// slow on some processors.
ECG_HD void store_rounded(double* to, Wide x) { x.store(to); }
ECG_HD void store_rounded(float* to, Wide x) {
  using R = Pack<float, kWide>;
  const R rounded(__builtin_convertvector(x.lanes, typename R::Vector));
  select(abs(rounded) < R(1.17549435e-38f), R(0), rounded).store(to);
}

// Modes that run in one direction, and their tables.
template <class T>
struct DirectedModes {
  static constexpr int kM = kVandermondeSamples;
  static constexpr int kRows = 16;  // of V at a time

  int64_t count;
  int64_t* order;  // which modes these are
  WidePlanes log_x, step, state;
  T* E;  // (2 count, M): real parts, then imaginary parts
  T* V;  // (kRows, v_row): of each row, real parts, then imaginary parts

  int64_t v_row() const { return count + padded(count); }

  void allocate(Scratch& scratch, int64_t modes) {
    order = scratch.take<int64_t>(modes);
    for (WidePlanes* planes : {&log_x, &step, &state}) planes->allocate(scratch, modes);
    E = scratch.take<T>(2 * modes * kM);
    V = scratch.take<T>(kRows * (modes + padded(modes)) + kWide);
  }

  // From count, order and log_x.
  void make_tables() {
    log_x.pad(count);
    for (int64_t n = 0; n < count; n += kWide) {
      const Complex<Wide> z = log_x.pack(n), x = complex_exp(z);
      step.set(n, complex_exp(Wide(kM) * z));
      // x^0 .. x^(W-1) with modes in lanes, turned to powers in lanes, then by steps of x^W.
      typename Wide::Vector re[kWide], im[kWide];
      Complex<Wide> power{Wide(1), Wide(0)};
      for (int b = 0; b < kWide; ++b) {
        re[b] = power.re.lanes;
        im[b] = power.im.lanes;
        power = power * x;
      }
      Transpose<double, kWide>::run(re);
      Transpose<double, kWide>::run(im);
      const int64_t left = count - n < kWide ? count - n : kWide;
      for (int64_t i = 0; i < left; ++i) {
        fill_row(n + i, {Wide(re[i]), Wide(im[i])},
                 {Wide(power.re.lanes[i]), Wide(power.im.lanes[i])});
      }
    }
  }

  // The next rows of V, from `state`, which moves past them. The padding of a row's real parts lies
  // where its first imaginary parts go: last modes first.
  template <bool kConjugate>
  void make_rows(int64_t rows) {
    for (int64_t n = padded(count) - kWide; n >= 0; n -= kWide) {
      Complex<Wide> x = state.pack(n);
      const Complex<Wide> by = step.pack(n);
      for (int64_t a = 0; a < rows; ++a) {
        T* row = V + a * v_row();
        store_rounded(row + n, x.re);
        store_rounded(row + count + n, kConjugate ? -x.im : x.im);
        x = x * by;
      }
      state.set(n, x);
    }
  }

 private:
  // The row of E of one mode, from its first powers.
  void fill_row(int64_t n, Complex<Wide> power, Complex<Wide> factor) {
    T *re = E + n * kM, *im = E + (count + n) * kM;
    for (int b = 0; b < kM; b += kWide) {
      store_rounded(re + b, power.re);
      store_rounded(im + b, power.im);
      power = power * factor;
    }
  }
};

// The powers of one row of modes: sums over the modes, and moments over the samples.
template <class T>
class Powers {
  using Modes = DirectedModes<T>;
  static constexpr int kM = kVandermondeSamples, kRows = Modes::kRows;

 public:
  Powers(Scratch& scratch, int64_t modes) : modes_(modes) {
    log_x.allocate(scratch, modes);
    weights.allocate(scratch, modes);
    m0.allocate(scratch, modes);
    m1.allocate(scratch, modes);
    ends_.allocate(scratch, modes);
    forwards_.allocate(scratch, modes);
    backwards_.allocate(scratch, modes);
    signal_ = scratch.take<T>(kRows * 2 * kM);
    sums_ = scratch.take<T>(2 * modes * 2 * kM);
  }

  WidePlanes log_x;    // to be filled before prepare()
  WidePlanes weights;  // to be filled before sums()
  WidePlanes m0, m1;   // what moments() finds

  // from_end: modes that grow are exp(x (l - L + 1)).
  void prepare(int64_t length, bool from_end) {
    length_ = length;
    forwards_.count = backwards_.count = 0;
    for (int64_t n = 0; n < modes_; ++n) {
      const Complex<double> x = log_x.at(n);
      const bool grows = x.re > 0;
      Modes& to = grows ? backwards_ : forwards_;
      to.log_x.set(to.count, grows ? -x : x);
      to.order[to.count++] = n;
      if (grows) {
        ends_.set(n, from_end ? Complex<double>{1, 0} : vandermonde_end(x, length));
      }
    }
    forwards_.make_tables();
    backwards_.make_tables();
  }

  // out[l stride] = Re Σ_n weights_n exp(x_n l)
  void sums(T* out, int64_t stride) {
    if (forwards_.count > 0) directed_sums<false>(forwards_, out, stride, false);
    if (backwards_.count > 0) directed_sums<true>(backwards_, out, stride, forwards_.count > 0);
  }

  // m0 (and m1, if kFirst) = Σ_l signal[l stride] (l) exp(x_n l)
  template <bool kFirst>
  void moments(const T* signal, int64_t stride) {
    if (forwards_.count > 0) directed_moments<kFirst, false>(forwards_, signal, stride);
    if (backwards_.count > 0) directed_moments<kFirst, true>(backwards_, signal, stride);
  }

 private:
  template <bool kTurned>
  void directed_sums(Modes& modes, T* out, int64_t stride, bool add) {
    for (int64_t n = 0; n < modes.count; ++n) {
      const Complex<double> w = weights.at(modes.order[n]);
      modes.state.set(n, kTurned ? vandermonde_saturated<T>(w * ends_.at(modes.order[n])) : w);
    }
    modes.state.pad(modes.count);
    for (int64_t begin = 0; begin < length_; begin += kRows * kM) {
      const int64_t left = length_ - begin, count = left < kRows * kM ? left : kRows * kM;
      const int64_t rows = (count + kM - 1) / kM;
      modes.template make_rows<true>(rows);
      const Right<T> E{modes.E, kM};
      const auto rows_to = [&](T* to, int64_t from, int64_t until) {
        product<false>(Left<T>{modes.V + from * modes.v_row(), modes.v_row(), 1}, E, until - from,
                       kM / kLanes<T>, 2 * modes.count, Rows<T>{to, kM});
      };
      // Whole rows go where they belong, others by way of a buffer.
      const int64_t whole = !kTurned && stride == 1 ? count / kM : 0;
      rows_to(out + begin, 0, whole);
      rows_to(signal_, whole, rows);
      for (int64_t i = whole * kM; i < count; ++i) {
        T& to = out[(kTurned ? length_ - 1 - begin - i : begin + i) * stride];
        const T value = signal_[i - whole * kM];
        to = kTurned && add ? to + value : value;
      }
    }
  }

  template <bool kFirst, bool kTurned>
  void directed_moments(Modes& modes, const T* signal, int64_t stride) {
    constexpr int kColumns = kFirst ? 2 * kM : kM;
    for (int64_t n = 0; n < padded(modes.count); ++n) modes.state.set(n, Complex<double>{1, 0});
    for (int64_t i = 0; i < 2 * modes.count * kColumns; ++i) sums_[i] = 0;
    for (int64_t begin = 0; begin < length_; begin += kRows * kM) {
      const int64_t left = length_ - begin, count = left < kRows * kM ? left : kRows * kM;
      const int64_t rows = (count + kM - 1) / kM;
      modes.template make_rows<false>(rows);
      for (int64_t a = 0; a < rows; ++a) {
        load_row<kFirst, kTurned>(signal, stride, begin + a * kM, signal_ + a * kColumns);
      }
      // Σ_a V_a signal_a for every b: the products of sums() the other way round.
      product<true>(Left<T>{modes.V, 1, modes.v_row()}, Right<T>{signal_, kColumns},
                    2 * modes.count, kColumns / kLanes<T>, rows, Rows<T>{sums_, kColumns});
    }
    for (int64_t n = 0; n < modes.count; ++n) {
      VandermondeMoments m{over_samples<kColumns>(modes, n, 0), {0, 0}};
      if constexpr (kFirst) m.m1 = over_samples<kColumns>(modes, n, kM);
      const int64_t to = modes.order[n];
      if constexpr (kTurned) m = vandermonde_turned(m, ends_.at(to), length_);
      m0.set(to, m.m0);
      if constexpr (kFirst) m1.set(to, m.m1);
    }
  }

  // The samples at l .. l + M - 1 as they run in this direction, zeros past the end, and those
  // times l behind them.
  template <bool kFirst, bool kTurned>
  void load_row(const T* signal, int64_t stride, int64_t l, T* to) const {
    using R = Pack<T, kLanes<T>>;
    if (!kTurned && stride == 1 && l + kM <= length_) {
      for (int b = 0; b < kM; b += kLanes<T>) R::load(signal + l + b).store(to + b);
    } else {
      for (int b = 0; b < kM; ++b) {
        const int64_t at = kTurned ? length_ - 1 - l - b : l + b;
        to[b] = at >= 0 && at < length_ ? signal[at * stride] : T(0);
      }
    }
    if constexpr (kFirst) {
      for (int b = 0; b < kM; ++b) to[kM + b] = static_cast<T>(l + b) * to[b];
    }
  }

  // Σ_b E_b sums_b of mode n
  template <int kColumns>
  Complex<double> over_samples(const Modes& modes, int64_t n, int column) const {
    using R = Pack<T, kLanes<T>>;
    const T *e_re = modes.E + n * kM, *e_im = modes.E + (modes.count + n) * kM;
    const T *s_re = sums_ + n * kColumns + column,
            *s_im = sums_ + (modes.count + n) * kColumns + column;
    Complex<R> sum{R(0), R(0)};
    for (int b = 0; b < kM; b += kLanes<T>) {
      sum += Complex<R>{R::load(e_re + b), R::load(e_im + b)} *
             Complex<R>{R::load(s_re + b), R::load(s_im + b)};
    }
    return {sum_lanes(sum.re), sum_lanes(sum.im)};
  }

  int64_t modes_, length_;
  WidePlanes ends_;
  Modes forwards_, backwards_;
  T* signal_;  // (kRows, M), or (kRows, 2 M) with the samples times l behind them
  T* sums_;    // (2 count, M or 2 M)
};

}  // namespace
}  // namespace ecg::cpu::ECG_ISA
