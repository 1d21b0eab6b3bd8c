// SPDX-License-Identifier: MIT
//
// One step of a state space as block programs, and their launchers. Plain C++: the same bodies run
// on the device (cuda/kernels/ssm_step.cu) and on the host emulator.
//
// A step reads the coefficients and the state once and does a dozen multiply-adds a mode: it is
// bound by memory, and at the sizes of one layer by the launch itself. docs/cuda.md has the counts.
#pragma once

#include "ecgcore/cuda/memory.h"
#include "ecgcore/cuda/stream.h"
#include "ecgcore/kernels/ssm_step.h"
#include "ecgcore/math/block.h"
#include "ecgcore/math/ssm_step.h"

namespace ecg::cuda {

// How rows of the state are dealt out: a warp takes a row, its lanes every 32nd mode, a block four
// rows. Task = feature * batch + sample: rows of a block share coefficients where there is a batch.
template <class T>
struct SsmStepRows {
  static constexpr int kThreads = 128;
  static constexpr int kLanes = 32;
  static constexpr int kRows = kThreads / kLanes;
  int64_t batch, features, modes;

  ECG_HD int64_t blocks() const { return ceil_div(batch * features, kRows); }

  struct Place {
    bool inside;
    int row, lane;
    int64_t b, h;
  };
  ECG_HD Place place(int64_t block, int thread) const {
    const int64_t task = block * kRows + thread / kLanes;
    const bool inside = task < batch * features;
    return {inside, thread / kLanes, thread % kLanes, inside ? task % batch : 0,
            inside ? task / batch : 0};
  }

  // body(n) for the modes of a lane.
  template <class Body>
  ECG_HD void each_mode(const Place& p, const Body& body) const {
    for (int64_t n = p.lane; p.inside && n < modes; n += kLanes) body(n);
  }

  // One sum over the modes for each row: partial[row] after it, `use(place, sum)` by every thread.
  template <class Block, class Term, class Use>
  ECG_HD void sum(Block& block, T* partial, const Term& term, const Use& use) const {
    block.phase([&](int thread) {
      const Place p = place(block.index(), thread);
      T total = 0;
      each_mode(p, [&](int64_t n) { total += term(p, n); });
      partial[p.lane * kRows + p.row] = total;
    });
    sum_groups<kThreads>(block, partial, kLanes);
    block.phase([&](int thread) {
      const Place p = place(block.index(), thread);
      use(p, partial[p.row]);
    });
  }
};

template <class T>
struct SsmStepForward {
  static constexpr int kThreads = SsmStepRows<T>::kThreads;
  SsmStepArgs<T> args;

  ECG_HD SsmStepRows<T> rows() const { return {args.batch, args.features, args.modes}; }
  ECG_HD int64_t blocks() const { return rows().blocks(); }
  size_t shared_bytes() const { return SharedSize().add<T>(kThreads).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    using Place = typename SsmStepRows<T>::Place;
    const auto deal = rows();
    T* partial = block.template shared<T>(kThreads);
    const auto at = [&](const Place& p, int64_t n) {
      return (p.b * args.features + p.h) * args.modes + n;
    };
    const auto of = [&](const Place& p, int64_t i, int64_t n) {
      return (i * args.features + p.h) * args.modes + n;
    };
    // `next` collects what is added to the state, then takes the state itself: a thread meets only
    // its own modes there.
    block.phase([&](int thread) {
      const Place p = deal.place(block.index(), thread);
      deal.each_mode(p, [&](int64_t n) {
        const T u = args.u[p.b * args.features + p.h];
        store_complex(
            args.next, at(p, n),
            ssm_increment(load_complex(args.state, at(p, n)), load_complex(args.A, of(p, 0, n)),
                          load_complex(args.B, of(p, 0, n)), u));
      });
    });
    for (int64_t r = 0; r < args.rank; ++r) {
      deal.sum(
          block, partial,
          [&](const Place& p, int64_t n) {
            return real_of_product(load_complex(args.Q, of(p, r, n)),
                                   load_complex(args.state, at(p, n)));
          },
          [&](const Place& p, T sum) {
            deal.each_mode(p, [&](int64_t n) {
              store_complex(
                  args.next, at(p, n),
                  load_complex(args.next, at(p, n)) - 2 * sum * load_complex(args.P, of(p, r, n)));
            });
          });
    }
    block.phase([&](int thread) {
      const Place p = deal.place(block.index(), thread);
      deal.each_mode(p, [&](int64_t n) {
        store_complex(args.next, at(p, n),
                      load_complex(args.state, at(p, n)) + load_complex(args.next, at(p, n)));
      });
    });
    for (int64_t c = 0; c < args.channels; ++c) {
      deal.sum(
          block, partial,
          [&](const Place& p, int64_t n) {
            return real_of_product(load_complex(args.C, of(p, c, n)),
                                   load_complex(args.next, at(p, n)));
          },
          [&](const Place& p, T sum) {
            if (!p.inside || p.lane != 0) return;
            args.y[(p.b * args.channels + c) * args.features + p.h] = 2 * sum;
          });
    }
  }
};

// What goes by rows of the state: G, the low-rank sums of both directions, du and dstate.
template <class T>
struct SsmStepBackwardRows {
  static constexpr int kThreads = SsmStepRows<T>::kThreads;
  static constexpr int kBlocksPerSm = 4;
  SsmStepBackwardArgs<T> args;

  ECG_HD SsmStepRows<T> rows() const {
    return {args.forward.batch, args.forward.features, args.forward.modes};
  }
  ECG_HD int64_t blocks() const { return rows().blocks(); }
  size_t shared_bytes() const { return SharedSize().add<T>(kThreads).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    using Place = typename SsmStepRows<T>::Place;
    const SsmStepArgs<T>& in = args.forward;
    const auto deal = rows();
    T* partial = block.template shared<T>(kThreads);
    const auto at = [&](const Place& p, int64_t n) {
      return (p.b * in.features + p.h) * in.modes + n;
    };
    const auto of = [&](const Place& p, int64_t i, int64_t n) {
      return (i * in.features + p.h) * in.modes + n;
    };
    const auto sum_of = [&](const Place& p, int64_t i, int64_t count) {
      return (p.b * count + i) * in.features + p.h;
    };
    block.phase([&](int thread) {
      const Place p = deal.place(block.index(), thread);
      deal.each_mode(p, [&](int64_t n) {
        Complex<T> g = load_complex(args.grad_next, at(p, n));
        for (int64_t c = 0; c < in.channels; ++c) {
          g += ssm_output_adjoint(args.grad_y[sum_of(p, c, in.channels)],
                                  load_complex(in.C, of(p, c, n)));
        }
        store_complex(args.G, at(p, n), g);
      });
    });
    const auto inner = [&](const T* with, int64_t i, const auto& use) {
      deal.sum(
          block, partial,
          [&](const Place& p, int64_t n) {
            return real_of_inner(load_complex(with, of(p, i, n)), load_complex(args.G, at(p, n)));
          },
          [&](const Place& p, T sum) {
            if (p.inside && p.lane == 0) use(p, sum);
          });
    };
    if (args.du != nullptr) {
      inner(in.B, 0, [&](const Place& p, T sum) { args.du[sum_of(p, 0, 1)] = sum; });
    }
    for (int64_t r = 0; r < in.rank; ++r) {
      deal.sum(
          block, partial,
          [&](const Place& p, int64_t n) {
            return real_of_product(load_complex(in.Q, of(p, r, n)),
                                   load_complex(in.state, at(p, n)));
          },
          [&](const Place& p, T sum) {
            if (p.inside && p.lane == 0) args.s[sum_of(p, r, in.rank)] = 2 * sum;
          });
      inner(in.P, r, [&](const Place& p, T sum) { args.t[sum_of(p, r, in.rank)] = -sum; });
    }
    if (args.dstate == nullptr) return;
    block.phase([&](int thread) {
      const Place p = deal.place(block.index(), thread);
      deal.each_mode(p, [&](int64_t n) {
        const Complex<T> g = load_complex(args.G, at(p, n));
        Complex<T> dx = g + conj(load_complex(in.A, of(p, 0, n))) * g;
        for (int64_t r = 0; r < in.rank; ++r) {
          dx += ssm_output_adjoint(args.t[sum_of(p, r, in.rank)], load_complex(in.Q, of(p, r, n)));
        }
        store_complex(args.dstate, at(p, n), dx);
      });
    });
  }
};

// The coefficients' gradients are sums over the batch: a thread takes one mode of one feature.
template <class T>
struct SsmStepBackwardSums {
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerSm = 4;
  SsmStepBackwardArgs<T> args;

  ECG_HD int64_t count() const { return args.forward.features * args.forward.modes; }
  ECG_HD int64_t blocks() const { return ceil_div(count(), kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    const SsmStepArgs<T>& in = args.forward;
    block.phase([&](int thread) {
      const int64_t i = block.index() * kThreads + thread;
      if (i >= count()) return;
      const int64_t h = i / in.modes;
      const auto sum = [&](T* to, int64_t j, const auto& term) {
        Complex<T> total{T(0), T(0)};
        for (int64_t b = 0; b < in.batch; ++b) total += term(b);
        store_complex(to, j * count() + i, total);
      };
      const auto G = [&](int64_t b) { return load_complex(args.G, b * count() + i); };
      const auto x = [&](int64_t b) { return load_complex(in.state, b * count() + i); };
      const auto real = [&](const T* from, int64_t b, int64_t j, int64_t rows) {
        return from[(b * rows + j) * in.features + h];
      };
      if (args.dA != nullptr) sum(args.dA, 0, [&](int64_t b) { return G(b) * conj(x(b)); });
      if (args.dB != nullptr) {
        sum(args.dB, 0, [&](int64_t b) { return real(in.u, b, 0, 1) * G(b); });
      }
      for (int64_t c = 0; args.dC != nullptr && c < in.channels; ++c) {
        sum(args.dC, c, [&](int64_t b) {
          return ssm_output_adjoint(real(args.grad_y, b, c, in.channels),
                                    load_complex(args.next, b * count() + i));
        });
      }
      for (int64_t r = 0; args.dP != nullptr && r < in.rank; ++r) {
        sum(args.dP, r, [&](int64_t b) { return -real(args.s, b, r, in.rank) * G(b); });
      }
      for (int64_t r = 0; args.dQ != nullptr && r < in.rank; ++r) {
        sum(args.dQ, r,
            [&](int64_t b) { return ssm_output_adjoint(real(args.t, b, r, in.rank), x(b)); });
      }
    });
  }
};

// Runs `start(program)` for the programs of one call in their order; start is a launch or the
// emulator.
template <class T, class Start>
Error ssm_step_backward_programs(const SsmStepBackwardArgs<T>& args, const Start& start) {
  if (const Error error = start(SsmStepBackwardRows<T>{args})) return error;
  if (!(args.dA || args.dB || args.dC || args.dP || args.dQ)) return nullptr;
  return start(SsmStepBackwardSums<T>{args});
}

// Queue on a stream; all pointers are device memory.
template <class T>
Error ssm_step_forward(const SsmStepArgs<T>& args, Stream stream);
template <class T>
Error ssm_step_backward(const SsmStepBackwardArgs<T>& args, Stream stream);

}  // namespace ecg::cuda
