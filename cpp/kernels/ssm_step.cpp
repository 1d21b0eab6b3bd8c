// SPDX-License-Identifier: MIT
//
// One step of a state space on the CPU: lanes are modes. A row is read twice, once for its low-rank
// sums and once to be moved on; both times it and its coefficients come from the cache, and with
// the features outside and the batch inside, the coefficients do for every sample after the first.
#include "ecgcore/kernels/ssm_step.h"

#include "ecgcore/math/interleaved.h"
#include "ecgcore/math/ssm_step.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// Low-rank sums held at a time; a higher rank passes over the row again.
constexpr int kRanks = 4;

// One row of complex numbers, a register at a time; i counts real and imaginary parts.
template <class T>
struct Row {
  static constexpr int kWidth = kLanes<T>;
  using R = Pack<T, kWidth>;
  using Z = ComplexPack<T, kWidth>;
  T* at;
  int64_t reals;

  Z load(int64_t i) const {
    return i + kWidth <= reals ? Z::load(at + i) : Z::load(at + i, reals - i);
  }
  void store(int64_t i, Z x) const {
    i + kWidth <= reals ? x.store(at + i) : x.store(at + i, reals - i);
  }
};

// Rows of an array (..., features, modes), read only or not.
template <class T>
Row<T> row(T* array, int64_t index, int64_t modes) {
  return {array + 2 * index * modes, 2 * modes};
}
template <class T>
Row<T> row(const T* array, int64_t index, int64_t modes) {
  return row(const_cast<T*>(array), index, modes);
}

// 2 Re Σ_n a_n b_n
template <class T>
T twice_real_sum(Row<T> a, Row<T> b) {
  typename Row<T>::R total(0);
  for (int64_t i = 0; i < a.reals; i += Row<T>::kWidth) {
    total += real_of_product(a.load(i), b.load(i));
  }
  return 2 * sum_lanes(total);
}

// Re Σ_n ā_n b_n
template <class T>
T inner(Row<T> a, Row<T> b) {
  typename Row<T>::R total(0);
  for (int64_t i = 0; i < a.reals; i += Row<T>::kWidth) {
    total += real_of_inner(a.load(i), b.load(i));
  }
  return sum_lanes(total);
}

template <class T>
void forward(const SsmStepArgs<T>& args, int64_t begin, int64_t end) {
  using R = typename Row<T>::R;
  using Z = typename Row<T>::Z;
  constexpr int kWidth = Row<T>::kWidth;
  const int64_t modes = args.modes, features = args.features;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t h = task / args.batch, b = task % args.batch;
    const Row<T> x = row(args.state, b * features + h, modes);
    const Row<T> next = row(args.next, b * features + h, modes);
    const Row<T> A = row(args.A, h, modes), B = row(args.B, h, modes);
    const R u(args.u[b * features + h]);
    for (int64_t first = 0; first == 0 || first < args.rank; first += kRanks) {
      const int count = static_cast<int>(args.rank - first < kRanks ? args.rank - first : kRanks);
      const bool last = first + kRanks >= args.rank;
      Row<T> P[kRanks];
      T s[kRanks];
      for (int r = 0; r < count; ++r) {
        P[r] = row(args.P, (first + r) * features + h, modes);
        s[r] = twice_real_sum(row(args.Q, (first + r) * features + h, modes), x);
      }
      for (int64_t i = 0; i < x.reals; i += kWidth) {
        const Z state = x.load(i);
        Z added = first == 0 ? ssm_increment(state, A.load(i), B.load(i), u) : next.load(i);
        for (int r = 0; r < count; ++r) added -= R(s[r]) * P[r].load(i);
        next.store(i, last ? state + added : added);
      }
    }
    for (int64_t c = 0; c < args.channels; ++c) {
      args.y[(b * args.channels + c) * features + h] =
          twice_real_sum(row(args.C, c * features + h, modes), next);
    }
  }
}

template <class T>
void backward(const SsmStepBackwardArgs<T>& args, int64_t begin, int64_t end) {
  using R = typename Row<T>::R;
  using Z = typename Row<T>::Z;
  constexpr int kWidth = Row<T>::kWidth;
  const SsmStepArgs<T>& in = args.forward;
  const int64_t modes = in.modes, features = in.features;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t h = task / in.batch, b = task % in.batch;
    const Row<T> x = row(in.state, b * features + h, modes);
    const Row<T> G = row(args.G, b * features + h, modes);
    for (int64_t i = 0; i < x.reals; i += kWidth) {
      Z g = row(args.grad_next, b * features + h, modes).load(i);
      for (int64_t c = 0; c < in.channels; ++c) {
        const R gy(args.grad_y[(b * in.channels + c) * features + h]);
        g += ssm_output_adjoint(gy, row(in.C, c * features + h, modes).load(i));
      }
      G.store(i, g);
    }
    if (args.du != nullptr) args.du[b * features + h] = inner(row(in.B, h, modes), G);
    for (int64_t r = 0; r < in.rank; ++r) {
      const int64_t at = (b * in.rank + r) * features + h;
      args.s[at] = twice_real_sum(row(in.Q, r * features + h, modes), x);
      args.t[at] = -inner(row(in.P, r * features + h, modes), G);
    }
    if (args.dstate == nullptr) continue;
    const Row<T> A = row(in.A, h, modes), dstate = row(args.dstate, b * features + h, modes);
    for (int64_t i = 0; i < x.reals; i += kWidth) {
      const Z g = G.load(i);
      Z dx = g + conj(A.load(i)) * g;
      for (int64_t r = 0; r < in.rank; ++r) {
        const R t(args.t[(b * in.rank + r) * features + h]);
        dx += ssm_output_adjoint(t, row(in.Q, r * features + h, modes).load(i));
      }
      dstate.store(i, dx);
    }
  }
}

// to[i] = Σ_b term(b, i) for one feature.
template <class T, class Term>
void sum_batch(Row<T> to, int64_t batch, const Term& term) {
  using R = typename Row<T>::R;
  using Z = typename Row<T>::Z;
  for (int64_t i = 0; i < to.reals; i += Row<T>::kWidth) {
    Z total{R(0)};
    for (int64_t b = 0; b < batch; ++b) total += term(b, i);
    to.store(i, total);
  }
}

template <class T>
void backward_sums(const SsmStepBackwardArgs<T>& args, int64_t feature_begin, int64_t feature_end) {
  using R = typename Row<T>::R;
  const SsmStepArgs<T>& in = args.forward;
  const int64_t modes = in.modes, features = in.features;
  for (int64_t h = feature_begin; h < feature_end; ++h) {
    const auto G = [&](int64_t b, int64_t i) {
      return row(args.G, b * features + h, modes).load(i);
    };
    const auto x = [&](int64_t b, int64_t i) {
      return row(in.state, b * features + h, modes).load(i);
    };
    const auto next = [&](int64_t b, int64_t i) {
      return row(args.next, b * features + h, modes).load(i);
    };
    if (args.dA != nullptr) {
      sum_batch(row(args.dA, h, modes), in.batch,
                [&](int64_t b, int64_t i) { return G(b, i) * conj(x(b, i)); });
    }
    if (args.dB != nullptr) {
      sum_batch(row(args.dB, h, modes), in.batch,
                [&](int64_t b, int64_t i) { return R(in.u[b * features + h]) * G(b, i); });
    }
    for (int64_t c = 0; args.dC != nullptr && c < in.channels; ++c) {
      sum_batch(row(args.dC, c * features + h, modes), in.batch, [&](int64_t b, int64_t i) {
        const R g(args.grad_y[(b * in.channels + c) * features + h]);
        return ssm_output_adjoint(g, next(b, i));
      });
    }
    for (int64_t r = 0; args.dP != nullptr && r < in.rank; ++r) {
      sum_batch(row(args.dP, r * features + h, modes), in.batch, [&](int64_t b, int64_t i) {
        return R(-args.s[(b * in.rank + r) * features + h]) * G(b, i);
      });
    }
    for (int64_t r = 0; args.dQ != nullptr && r < in.rank; ++r) {
      sum_batch(row(args.dQ, r * features + h, modes), in.batch, [&](int64_t b, int64_t i) {
        const R t(args.t[(b * in.rank + r) * features + h]);
        return ssm_output_adjoint(t, x(b, i));
      });
    }
  }
}

}  // namespace

template <class T>
SsmStepKernels<T> ssm_step_kernels() {
  return {forward<T>, backward<T>, backward_sums<T>};
}
template SsmStepKernels<float> ssm_step_kernels();
template SsmStepKernels<double> ssm_step_kernels();

}  // namespace ecg::cpu::ECG_ISA
