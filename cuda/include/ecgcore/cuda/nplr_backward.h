// SPDX-License-Identifier: MIT
//
// The adjoint of the S4 spectrum as block programs. Four kernels, no atomics, sums in fixed order:
//
//   1 NplrSums               rho, the pair sums that U, V and dt's gradient need          (a thread
//   a node) 2 NplrWoodburyBackward   gradients of the pair sums from that of the spectrum (a thread
//   a node) 3 NplrCorrelate          their correlation with D over nodes: weights, a and b (a lane
//   a mode) 4 NplrFinish             chunks added up, products taken apart: A, B, C, P, Q, dt (a
//   thread a mode)
//
// When only C is wanted (SSSD-ECG trains nothing else) 1 forms only the columns of Q, 3 and 4 only
// those of C, and nothing is spent on a, b and dt.
#pragma once

#include "ecgcore/cuda/nplr.h"

namespace ecg::cuda {

// What one backward call computes, and where its scratch memory lies.
template <class T>
struct NplrBackwardPlan {
  NplrBackwardArgs<T> args;
  bool only_c;
  NplrTable summed, graded;
  int64_t chunks;  // of nodes, in kernel 3

  static constexpr int kNodes = 128;  // nodes of a tile in kernel 3
  // Numerators a block of kernels 1 and 3 takes at a time.
  static constexpr int kSummedOnlyC = 2, kGradedOnlyC = 4, kAll = 6;

  explicit NplrBackwardPlan(const NplrBackwardArgs<T>& given) : args(given) {
    const NplrArgs<T>& in = args.inputs;
    only_c = args.dA == nullptr && args.dB == nullptr && args.dP == nullptr && args.dQ == nullptr &&
             args.ddt == nullptr;
    const int64_t rows = in.rows + in.rank;
    summed =
        only_c ? NplrTable{rows, in.channels, in.rank} : NplrTable{rows, 0, in.channels + in.rank};
    graded = only_c ? NplrTable{rows, 0, in.channels} : summed;
    const int64_t tiles = ceil_div(in.node_count, kNodes);
    chunks = tiles < 16 ? tiles : 16;
  }

  int64_t mode_groups() const { return only_c ? 0 : ceil_div(graded.count(), kAll); }

  // Pieces of scratch, in elements of T: rho, its gradient, small matrices (rank > 2), and partial
  // sums of the gradients of weights, of a and b, and of dt.
  static constexpr int kPieces = 6;
  struct Scratch {
    T *rho, *grad_rho, *small, *weights, *modes, *dt;
  };
  int64_t sizes(int64_t (&out)[kPieces]) const {
    const NplrArgs<T>& in = args.inputs;
    const int64_t nodes = in.features * in.node_count, modes = in.features * in.modes;
    out[0] = 2 * summed.count() * nodes;
    out[1] = 2 * graded.count() * nodes;
    out[2] = in.rank > 2 ? 2 * NplrCore<T, 0>::scratch(in.rank) * nodes : 0;
    out[3] = 2 * chunks * graded.count() * modes;
    out[4] = 2 * chunks * mode_groups() * modes;
    out[5] = chunks * mode_groups() * modes;
    int64_t total = 0;
    for (const int64_t size : out) total += size;
    return total;
  }
  Scratch place(T* scratch) const {
    int64_t size[kPieces];
    sizes(size);
    T* at[kPieces];
    for (int i = 0; i < kPieces; ++i) {
      at[i] = scratch;
      scratch += size[i];
    }
    return {at[0], at[1], at[2], at[3], at[4], at[5]};
  }
};

// Gradients of the pair sums, (1, −conj U) γ (1, −conj V) with γ = dt conj(out) grad, columns of
// `graded`.
template <class T, int kRank>
struct NplrWoodburyBackward {
  static constexpr int kThreads = 128;
  NplrView<T> view;
  NplrTable summed, graded;
  const T* grad;
  const T* rho;
  T* grad_rho;
  T* small;

  ECG_HD int64_t tiles() const { return ceil_div(view.args.node_count, kThreads); }
  ECG_HD int64_t blocks() const { return view.args.features * tiles(); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const NplrArgs<T>& args = view.args;
    const int64_t h = block.index() / tiles(), tile = block.index() % tiles();
    block.phase([&](int thread) {
      const int64_t f = tile * kThreads + thread;
      if (f >= args.node_count) return;
      const int64_t S = args.rows, C = args.channels, at = h * args.node_count + f;
      const int64_t plane = args.features * args.node_count;
      const auto sum = [&](int64_t i, int64_t j) {
        return load_complex(rho, (i * summed.columns + j - summed.begin) * plane + at);
      };
      const NplrNode<T> node = view.node(f);
      const T dt = args.dt[h];
      NplrCore<T, kRank> core(
          dt * node.c, [&](int64_t i, int64_t j) { return sum(S + i, C + j); }, args.rank,
          reinterpret_cast<Complex<T>*>(small) + at * NplrCore<T, kRank>::scratch(args.rank));
      const Complex<T> scale = dt * conj(node.out);
      for (int64_t v = 0; S == 0 && v < graded.count(); ++v) {
        store_complex(grad_rho, v * plane + at, Complex<T>{T(0), T(0)});
      }
      for (int64_t s = 0; s < S; ++s) {
        const auto gamma = [&](int64_t c) {
          return scale * load_complex(grad, (s * C + c) * plane + at);
        };
        const Complex<T>* U = core.left([&](int64_t r) { return sum(s, C + r); });
        // Entry j of row s of γ (1, −conj V), and its part of the rows below.
        const auto store = [&](int64_t j, Complex<T> entry) {
          store_complex(grad_rho, (s * graded.columns + j) * plane + at, entry);
          for (int64_t r = 0; r < core.size(); ++r) {
            const int64_t below = ((S + r) * graded.columns + j) * plane + at;
            Complex<T> g{T(0), T(0)};
            if (s > 0) g = load_complex(grad_rho, below);
            store_complex(grad_rho, below, g - conj(U[r]) * entry);
          }
        };
        for (int64_t c = 0; c < C; ++c) store(c, gamma(c));
        if (graded.columns == C) continue;
        // −γ conj(V) = −conj(V conj γ) takes one solve for all channels.
        const Complex<T>* mixed = core.right([&](int64_t r) {
          Complex<T> out{T(0), T(0)};
          for (int64_t c = 0; c < C; ++c) out += sum(S + r, c) * conj(gamma(c));
          return out;
        });
        for (int64_t r = 0; r < core.size(); ++r) store(C + r, -conj(mixed[r]));
      }
    });
  }
};

// A node of kernel 3 with the gradients of K pair sums there.
template <class T, int K>
struct alignas(16) NplrStagedNode {
  T c, r, y;
  Stored<T> grad[K];
};

// A block takes 32 modes of a feature, K numerators and one chunk of nodes; lane = mode, and its
// four warps take every fourth node each. Partial sums: weights (chunks, count, H, N), modes
// (chunks, groups, H, N).
template <class T, int K, bool kModes>
struct NplrCorrelate {
  static constexpr int kThreads = 128;
  static constexpr int kLanes = 32;
  static constexpr int kSlices = kThreads / kLanes;
  static constexpr int kNodes = NplrBackwardPlan<T>::kNodes;
  static constexpr int kBlocksPerSm = sizeof(T) == sizeof(float) ? 5 : 4;
  NplrView<T> view;
  NplrTable graded;
  int64_t chunks;
  const T* grad_rho;
  T* weights;
  T* modes;
  T* dt;

  struct Sums {
    Complex<T> weights[K];
    T a, b, dt;  // of b: over 2b
    ECG_HD Sums& operator+=(const Sums& other) {
      ECG_UNROLL
      for (int v = 0; v < K; ++v) weights[v] += other.weights[v];
      if constexpr (kModes) {
        a += other.a;
        b += other.b;
        dt += other.dt;
      }
      return *this;
    }
  };
  struct State {
    NplrMode<T> mode;
    Complex<T> weights[K];
    Sums sums;
  };

  ECG_HD int64_t tiles() const { return ceil_div(view.args.node_count, kNodes); }
  ECG_HD int64_t mode_tiles() const { return ceil_div(view.args.modes, kLanes); }
  ECG_HD int64_t groups() const { return ceil_div(graded.count(), K); }
  ECG_HD int64_t blocks() const { return view.args.features * mode_tiles() * groups() * chunks; }
  size_t shared_bytes() const {
    return SharedSize()
        .template add<NplrStagedNode<T, K>>(kNodes)
        .template add<Sums>(kThreads)
        .bytes();
  }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const NplrArgs<T>& args = view.args;
    auto* staged = block.template shared<NplrStagedNode<T, K>>(kNodes);
    Sums* shared_sums = block.template shared<Sums>(kThreads);
    auto mine = block.template registers<State>();

    int64_t rest = block.index();
    const int64_t chunk = rest % chunks;
    rest /= chunks;
    const int64_t group = rest % groups();
    rest /= groups();
    const int64_t first_mode = rest % mode_tiles() * kLanes;
    const int64_t h = rest / mode_tiles();
    const int64_t first = group * K;

    block.phase([&](int thread) {
      // Lanes past the end repeat the last mode.
      const int64_t n =
          first_mode + thread % kLanes < args.modes ? first_mode + thread % kLanes : args.modes - 1;
      State& state = mine[thread];
      state.mode = view.mode(h, n);
      ECG_UNROLL
      for (int v = 0; v < K; ++v) {
        state.sums.weights[v] = state.weights[v] = {T(0), T(0)};
        if (kModes && first + v < graded.count()) {
          state.weights[v] = nplr_weights(view.x(graded.row(first + v), h, n),
                                          view.y(graded.column(first + v), h, n), state.mode);
        }
      }
      state.sums.a = state.sums.b = state.sums.dt = T(0);
    });

    const int64_t tile_end = (chunk + 1) * tiles() / chunks;
    for (int64_t tile = chunk * tiles() / chunks; tile < tile_end; ++tile) {
      const int64_t begin = tile * kNodes;
      const int count =
          static_cast<int>(args.node_count - begin < kNodes ? args.node_count - begin : kNodes);
      block.phase([&](int thread) {
        if (thread >= count) return;
        const int64_t f = begin + thread;
        const NplrNode<T> node = view.node(f);
        staged[thread].c = node.c;
        staged[thread].r = node.r;
        staged[thread].y = node.y;
        ECG_UNROLL
        for (int v = 0; v < K; ++v) {
          staged[thread].grad[v] =
              first + v < graded.count()
                  ? load_complex(grad_rho, ((first + v) * args.features + h) * args.node_count + f)
                  : Complex<T>{T(0), T(0)};
        }
      });
      block.phase([&](int thread) {
        State state = mine[thread];
        for (int i = thread / kLanes; i < count; i += kSlices) add_node(staged[i], state);
        mine[thread] = state;
      });
    }

    block.phase([&](int thread) { shared_sums[thread] = mine[thread].sums; });
    sum_groups<kThreads>(block, shared_sums, kSlices);
    block.phase([&](int thread) {
      const int64_t n = first_mode + thread;
      if (thread >= kLanes || n >= args.modes) return;
      ECG_UNROLL
      for (int v = 0; v < K; ++v) {
        if (first + v < graded.count()) {
          const int64_t line = (chunk * graded.count() + first + v) * args.features + h;
          store_complex(weights, line * args.modes + n, shared_sums[thread].weights[v]);
        }
      }
      if constexpr (kModes) {
        const int64_t line = (chunk * groups() + group) * args.features + h;
        const Sums& all = shared_sums[thread];
        store_complex(modes, line * args.modes + n, Complex<T>{all.a, all.b});
        dt[line * args.modes + n] = all.dt;
      }
    });
  }

 private:
  static ECG_HD void add_node(const NplrStagedNode<T, K>& staged, State& state) {
    const NplrNode<T> node{staged.c, staged.r, staged.y, {T(0), T(0)}};
    const Complex<T> D = nplr_pair(node, state.mode);
    // q's weight on the pair sum is c D, p's is (r + i y) D.
    const Complex<T> by_q = node.c * D, by_p = Complex<T>{node.r, node.y} * D;
    Complex<T> sum_q{T(0), T(0)}, sum_p{T(0), T(0)};
    ECG_UNROLL
    for (int v = 0; v < K; ++v) {
      const Complex<T> g = staged.grad[v];
      state.sums.weights[v].re += by_q.re * g.re + by_q.im * g.im;
      state.sums.weights[v].im += by_p.re * g.re + by_p.im * g.im;
      if constexpr (kModes) {
        sum_q += state.weights[v].re * g;
        sum_p += state.weights[v].im * g;
      }
    }
    if constexpr (kModes) {
      const Complex<T> grad_D = nplr_sum_dq(node, sum_q) + nplr_sum_dp(node, sum_p);
      const auto found = nplr_pair_gradient(node, state.mode, D, grad_D);
      state.sums.a += found.a;
      state.sums.b += found.b;
      state.sums.dt += nplr_node_ddt(node, conj(sum_p) * D, found.node);
    }
  }
};

// A block takes one feature, a thread every 128th mode; dt is summed over modes and nodes as a
// tree.
template <class T>
struct NplrFinish {
  static constexpr int kThreads = 128;
  NplrBackwardArgs<T> args;
  NplrTable graded;
  int64_t chunks, mode_groups;
  const T* weights;
  const T* modes;
  const T* dt;

  ECG_HD int64_t blocks() const { return args.inputs.features; }
  size_t shared_bytes() const { return SharedSize().add<T>(kThreads).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    T* sums = block.template shared<T>(kThreads);
    const NplrView<T> view{args.inputs};
    const NplrArgs<T>& in = args.inputs;
    const int64_t h = block.index();
    block.phase([&](int thread) {
      T ddt = 0;
      for (int64_t n = thread; n < in.modes; n += kThreads) {
        vectors(view, h, n);
        if (args.dA != nullptr) state_matrix(view, h, n);
        for (int64_t line = 0; line < chunks * mode_groups; ++line) {
          ddt += dt[(line * in.features + h) * in.modes + n];
        }
      }
      sums[thread] = ddt;
    });
    if (args.ddt == nullptr) return;
    sum_groups<kThreads>(block, sums, kThreads);
    block.phase([&](int thread) {
      if (thread == 0) args.ddt[h] = sums[0] / in.dt[h];
    });
  }

 private:
  // The gradient of the weights (q, p) of numerator (i, j).
  ECG_HD Complex<T> weight(int64_t i, int64_t j, int64_t h, int64_t n) const {
    const NplrArgs<T>& in = args.inputs;
    Complex<T> sum{T(0), T(0)};
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t line = (chunk * graded.count() + i * graded.columns + j) * in.features + h;
      sum += load_complex(weights, line * in.modes + n);
    }
    return sum;
  }

  // B, C, P, Q: the gradient of v = x y is conj(y) dv for x, conj(x) dv for y.
  ECG_HD void vectors(const NplrView<T>& view, int64_t h, int64_t n) const {
    const NplrArgs<T>& in = args.inputs;
    const NplrMode<T> mode = view.mode(h, n);
    const auto store = [&](T* to, int64_t row, Complex<T> sum) {
      store_complex(to, (row * in.features + h) * in.modes + n, sum);
    };
    for (int64_t i = 0; i < graded.rows; ++i) {
      T* to = i < in.rows ? args.dB : args.dP;
      if (to == nullptr) continue;
      Complex<T> sum{T(0), T(0)};
      for (int64_t j = 0; j < graded.columns; ++j) {
        sum += conj(view.y(graded.begin + j, h, n)) * nplr_weights_dv(weight(i, j, h, n), mode);
      }
      store(to, i < in.rows ? i : i - in.rows, sum);
    }
    for (int64_t j = 0; j < graded.columns; ++j) {
      T* to = j < in.channels ? args.dC : args.dQ;
      if (to == nullptr) continue;
      Complex<T> sum{T(0), T(0)};
      for (int64_t i = 0; i < graded.rows; ++i) {
        sum += conj(view.x(i, h, n)) * nplr_weights_dv(weight(i, j, h, n), mode);
      }
      store(to, j < in.channels ? j : j - in.channels, sum);
    }
  }

  // A, through a and b of the mode in D and in q; dt A = −a + i b.
  ECG_HD void state_matrix(const NplrView<T>& view, int64_t h, int64_t n) const {
    const NplrArgs<T>& in = args.inputs;
    Complex<T> in_pair{T(0), T(0)};
    for (int64_t line = 0; line < chunks * mode_groups; ++line) {
      in_pair += load_complex(modes, (line * in.features + h) * in.modes + n);
    }
    T da = in_pair.re, db = T(2) * view.mode(h, n).b * in_pair.im;
    for (int64_t i = 0; i < graded.rows; ++i) {
      for (int64_t j = 0; j < graded.columns; ++j) {
        const Complex<T> v = view.x(i, h, n) * view.y(graded.begin + j, h, n);
        const T dq = weight(i, j, h, n).re;
        da += T(2) * dq * v.re;
        db -= T(2) * dq * v.im;
      }
    }
    const T step = in.dt[h];
    store_complex(args.dA, h * in.modes + n, Complex<T>{-step * da, step * db});
  }
};

// Scratch of a backward call, in elements of T.
template <class T>
int64_t nplr_backward_scratch(const NplrBackwardArgs<T>& args) {
  int64_t sizes[NplrBackwardPlan<T>::kPieces];
  return NplrBackwardPlan<T>(args).sizes(sizes);
}

template <class T, class Start>
Error nplr_backward_programs(const NplrBackwardArgs<T>& args, T* scratch, const Start& start) {
  using Plan = NplrBackwardPlan<T>;
  const Plan plan(args);
  const auto at = plan.place(scratch);
  const NplrView<T> view{args.inputs};
  const Error summed = plan.only_c
                           ? start(NplrSums<T, Plan::kSummedOnlyC>{view, plan.summed, at.rho})
                           : start(NplrSums<T, Plan::kAll>{view, plan.summed, at.rho});
  if (summed) return summed;
  const Error coupled = nplr_by_rank<NplrWoodburyBackward, T>(
      args.inputs.rank, start, view, plan.summed, plan.graded, args.grad,
      static_cast<const T*>(at.rho), at.grad_rho, at.small);
  if (coupled) return coupled;
  const T* grad_rho = at.grad_rho;
  const Error correlated =
      plan.only_c ? start(NplrCorrelate<T, Plan::kGradedOnlyC, false>{
                        view, plan.graded, plan.chunks, grad_rho, at.weights, at.modes, at.dt})
                  : start(NplrCorrelate<T, Plan::kAll, true>{
                        view, plan.graded, plan.chunks, grad_rho, at.weights, at.modes, at.dt});
  if (correlated) return correlated;
  return start(NplrFinish<T>{args, plan.graded, plan.chunks, plan.mode_groups(), at.weights,
                             at.modes, at.dt});
}

template <class T>
Error nplr_backward(const NplrBackwardArgs<T>& args, T* scratch, Stream stream);

}  // namespace ecg::cuda
