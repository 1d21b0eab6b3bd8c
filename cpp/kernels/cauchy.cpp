// SPDX-License-Identifier: MIT
//
// Cauchy sums on the CPU: lanes are nodes, modes run inside, so that one mode's numbers are
// broadcast to all lanes. Nodes are taken in tiles, split once into real and imaginary planes and
// padded to whole lanes.
#include "ecgcore/kernels/cauchy.h"

#include "ecgcore/math/cauchy.h"
#include "ecgcore/math/pack.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int kTile = 128;

// The nodes [begin, begin + count) of an interleaved complex array as padded planes. Padding
// repeats the last entry, so that it stays as far from the poles as a true node is.
template <class T>
struct Planes {
  alignas(64) T re[kTile];
  alignas(64) T im[kTile];

  void load(const T* from, int64_t begin, int count, int padded, bool repeat_last) {
    for (int i = 0; i < count; ++i) {
      re[i] = from[2 * (begin + i)];
      im[i] = from[2 * (begin + i) + 1];
    }
    for (int i = count; i < padded; ++i) {
      re[i] = repeat_last ? re[count - 1] : T(0);
      im[i] = repeat_last ? im[count - 1] : T(0);
    }
  }
};

template <class R, class T>
Complex<R> at(const Planes<T>& planes, int i) {
  return {load_real<R>(planes.re + i), load_real<R>(planes.im + i)};
}

template <class R, class T>
Complex<R> broadcast(const T* pair) {
  return {R(pair[0]), R(pair[1])};
}

int padded_to(int count, int lanes) { return (count + lanes - 1) / lanes * lanes; }

template <bool kPairs, class T>
void forward(const CauchyArgs<T>& args, int64_t row_begin, int64_t row_end) {
  using R = Pack<T, kLanes<T>>;
  constexpr int kWidth = kLanes<T>;
  Planes<T> z;
  for (int64_t begin = 0; begin < args.nodes; begin += kTile) {
    const int count = static_cast<int>(args.nodes - begin < kTile ? args.nodes - begin : kTile);
    z.load(args.z, begin, count, padded_to(count, kWidth), true);
    for (int64_t row = row_begin; row < row_end; ++row) {
      const T* v = args.v + 2 * row * args.modes;
      const T* w = args.w + 2 * row * args.modes;
      T* out = args.out + 2 * (row * args.nodes + begin);
      for (int i = 0; i < count; i += kWidth) {
        const Complex<R> node = at<R>(z, i);
        Complex<R> sum{R(0), R(0)};
        for (int64_t n = 0; n < args.modes; ++n) {
          const auto pair = cauchy_pair<kPairs>(node, broadcast<R>(w + 2 * n));
          sum += cauchy_term<kPairs>(broadcast<R>(v + 2 * n), pair);
        }
        for (int lane = 0; lane < kWidth && i + lane < count; ++lane) {
          out[2 * (i + lane)] = sum.re[lane];
          out[2 * (i + lane) + 1] = sum.im[lane];
        }
      }
    }
  }
}

template <bool kPairs, class T>
void backward(const CauchyBackwardArgs<T>& args, int64_t row_begin, int64_t row_end) {
  using R = Pack<T, kLanes<T>>;
  constexpr int kWidth = kLanes<T>;
  Planes<T> z, grad;
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t n = 0; n < args.modes; ++n) {
      const int64_t k = 2 * (row * args.modes + n);
      if (args.dv != nullptr) args.dv[k] = args.dv[k + 1] = T(0);
      if (args.dw != nullptr) args.dw[k] = args.dw[k + 1] = T(0);
    }
    for (int64_t begin = 0; begin < args.nodes; begin += kTile) {
      const int count = static_cast<int>(args.nodes - begin < kTile ? args.nodes - begin : kTile);
      const int padded = padded_to(count, kWidth);
      z.load(args.z, begin, count, padded, true);
      grad.load(args.grad + 2 * row * args.nodes, begin, count, padded, false);
      for (int64_t n = 0; n < args.modes; ++n) {
        const int64_t k = 2 * (row * args.modes + n);
        const Complex<R> v = broadcast<R>(args.v + k);
        const Complex<R> w = broadcast<R>(args.w + k);
        Complex<R> dv{R(0), R(0)}, dw{R(0), R(0)};
        for (int i = 0; i < padded; i += kWidth) {
          const auto pair = cauchy_pair<kPairs>(at<R>(z, i), w);
          const Complex<R> g = at<R>(grad, i);
          dv += cauchy_term_dv<kPairs>(g, pair);
          dw += cauchy_term_dw<kPairs>(g, v, pair);
        }
        if (args.dv != nullptr) {
          args.dv[k] += sum_lanes(dv.re);
          args.dv[k + 1] += sum_lanes(dv.im);
        }
        if (args.dw != nullptr) {
          args.dw[k] += sum_lanes(dw.re);
          args.dw[k + 1] += sum_lanes(dw.im);
        }
      }
    }
  }
}

template <bool kPairs, class T>
void backward_nodes(const CauchyBackwardArgs<T>& args, int64_t node_begin, int64_t node_end) {
  using R = Pack<T, kLanes<T>>;
  constexpr int kWidth = kLanes<T>;
  Planes<T> z, grad, dz;
  for (int64_t begin = node_begin; begin < node_end; begin += kTile) {
    const int count = static_cast<int>(node_end - begin < kTile ? node_end - begin : kTile);
    const int padded = padded_to(count, kWidth);
    z.load(args.z, begin, count, padded, true);
    for (int i = 0; i < padded; ++i) dz.re[i] = dz.im[i] = T(0);
    for (int64_t row = 0; row < args.rows; ++row) {
      grad.load(args.grad + 2 * row * args.nodes, begin, count, padded, false);
      for (int i = 0; i < padded; i += kWidth) {
        const Complex<R> node = at<R>(z, i), g = at<R>(grad, i);
        Complex<R> sum{R(0), R(0)};  // of one row: short sums keep the rounding of a long one down
        for (int64_t n = 0; n < args.modes; ++n) {
          const int64_t k = 2 * (row * args.modes + n);
          const auto pair = cauchy_pair<kPairs>(node, broadcast<R>(args.w + k));
          sum += cauchy_term_dz<kPairs>(g, broadcast<R>(args.v + k), pair);
        }
        sum += at<R>(dz, i);
        store_real(dz.re + i, sum.re);
        store_real(dz.im + i, sum.im);
      }
    }
    for (int i = 0; i < count; ++i) {
      args.dz[2 * (begin + i)] = dz.re[i];
      args.dz[2 * (begin + i) + 1] = dz.im[i];
    }
  }
}

// Run-time switch between the two sums, outside every loop.
template <class T>
void forward_any(const CauchyArgs<T>& args, int64_t begin, int64_t end) {
  args.conjugate_pairs ? forward<true>(args, begin, end) : forward<false>(args, begin, end);
}
template <class T>
void backward_any(const CauchyBackwardArgs<T>& args, int64_t begin, int64_t end) {
  args.conjugate_pairs ? backward<true>(args, begin, end) : backward<false>(args, begin, end);
}
template <class T>
void backward_nodes_any(const CauchyBackwardArgs<T>& args, int64_t begin, int64_t end) {
  args.conjugate_pairs ? backward_nodes<true>(args, begin, end)
                       : backward_nodes<false>(args, begin, end);
}

}  // namespace

template <class T>
CauchyKernels<T> cauchy_kernels() {
  return {forward_any<T>, backward_any<T>, backward_nodes_any<T>};
}
template CauchyKernels<float> cauchy_kernels();
template CauchyKernels<double> cauchy_kernels();

}  // namespace ecg::cpu::ECG_ISA
