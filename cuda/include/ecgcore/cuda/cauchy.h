// SPDX-License-Identifier: MIT
//
// Cauchy sums as block programs, and their launchers. Plain C++: the same bodies run on the device
// (cuda/kernels/cauchy.cu) and on the host emulator.
//
// All three are bound by arithmetic: a (row, mode, node) triple costs two complex reciprocals and 8
// to 24 multiply-adds against 16 bytes of shared memory that a whole warp reads at once.
// docs/cuda.md has the counts.
#pragma once

#include "ecgcore/cuda/memory.h"
#include "ecgcore/cuda/stream.h"
#include "ecgcore/kernels/cauchy.h"
#include "ecgcore/math/block.h"
#include "ecgcore/math/cauchy.h"

namespace ecg::cuda {

// v and w of one mode, side by side: one 16-byte read from shared memory in float.
template <class T>
struct alignas(16) CauchyMode {
  Complex<T> v, w;
};

// Stages modes [begin, begin + count) of a row.
template <int kThreads, class Block, class T>
ECG_HD void stage_modes(Block& block, CauchyMode<T>* to, const T* v, const T* w, int64_t begin,
                        int count) {
  block.phase([&](int thread) {
    for (int n = thread; n < count; n += kThreads) {
      to[n] = {load_complex(v, begin + n), load_complex(w, begin + n)};
    }
  });
}

// A block takes 128 nodes of one row, a thread one node; modes pass through shared memory 64 at a
// time.
template <class T, bool kPairs>
struct CauchyForward {
  static constexpr int kThreads = 128;
  static constexpr int kModes = 64;
  CauchyArgs<T> args;

  ECG_HD int64_t tiles() const { return ceil_div(args.nodes, kThreads); }
  ECG_HD int64_t blocks() const { return args.rows * tiles(); }
  size_t shared_bytes() const { return SharedSize().add<CauchyMode<T>>(kModes).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    struct State {
      Complex<T> z, sum;
    };
    CauchyMode<T>* modes = block.template shared<CauchyMode<T>>(kModes);
    auto mine = block.template registers<State>();
    const int64_t row = block.index() / tiles();
    const int64_t first = block.index() % tiles() * kThreads;
    block.phase([&](int thread) {
      // Threads past the end repeat the last node and do not store.
      const int64_t node = first + thread < args.nodes ? first + thread : args.nodes - 1;
      mine[thread] = {load_complex(args.z, node), {T(0), T(0)}};
    });
    for (int64_t begin = 0; begin < args.modes; begin += kModes) {
      const int count = static_cast<int>(args.modes - begin < kModes ? args.modes - begin : kModes);
      stage_modes<kThreads>(block, modes, args.v, args.w, row * args.modes + begin, count);
      block.phase([&](int thread) {
        const Complex<T> z = mine[thread].z;
        Complex<T> sum = mine[thread].sum;
        for (int n = 0; n < count; ++n) {
          sum += cauchy_term<kPairs>(modes[n].v, cauchy_pair<kPairs>(z, modes[n].w));
        }
        mine[thread].sum = sum;
      });
    }
    block.phase([&](int thread) {
      if (first + thread < args.nodes) {
        store_complex(args.out, row * args.nodes + first + thread, mine[thread].sum);
      }
    });
  }
};

// dv and dw are sums over nodes. A block takes 32 modes of one row, a lane one mode; its four warps
// take every fourth node each, and their four sums are added as a tree.
template <class T, bool kPairs>
struct CauchyBackwardModes {
  static constexpr int kThreads = 128;
  static constexpr int kLanes = 32;
  static constexpr int kSlices = kThreads / kLanes;
  static constexpr int kNodes = 128;
  CauchyBackwardArgs<T> args;

  struct alignas(16) Node {
    Complex<T> z, grad;
  };
  struct Sums {
    Complex<T> dv, dw;
    ECG_HD Sums& operator+=(Sums b) {
      dv += b.dv;
      dw += b.dw;
      return *this;
    }
  };

  ECG_HD int64_t tiles() const { return ceil_div(args.modes, kLanes); }
  ECG_HD int64_t blocks() const { return args.rows * tiles(); }
  size_t shared_bytes() const {
    return SharedSize().template add<Node>(kNodes).template add<Sums>(kThreads).bytes();
  }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    Node* nodes = block.template shared<Node>(kNodes);
    Sums* sums = block.template shared<Sums>(kThreads);
    struct State {
      CauchyMode<T> mode;
      Sums sums;
    };
    auto mine = block.template registers<State>();
    const int64_t row = block.index() / tiles();
    const int64_t first = block.index() % tiles() * kLanes;
    block.phase([&](int thread) {
      const int64_t n =
          first + thread % kLanes < args.modes ? first + thread % kLanes : args.modes - 1;
      const int64_t at = row * args.modes + n;
      mine[thread].mode = {load_complex(args.v, at), load_complex(args.w, at)};
      mine[thread].sums = {{T(0), T(0)}, {T(0), T(0)}};
    });
    for (int64_t begin = 0; begin < args.nodes; begin += kNodes) {
      const int count = static_cast<int>(args.nodes - begin < kNodes ? args.nodes - begin : kNodes);
      block.phase([&](int thread) {
        if (thread < count) {
          nodes[thread] = {load_complex(args.z, begin + thread),
                           load_complex(args.grad, row * args.nodes + begin + thread)};
        }
      });
      block.phase([&](int thread) {
        const CauchyMode<T> mode = mine[thread].mode;
        Sums local = mine[thread].sums;
        for (int i = thread / kLanes; i < count; i += kSlices) {
          const auto pair = cauchy_pair<kPairs>(nodes[i].z, mode.w);
          local.dv += cauchy_term_dv<kPairs>(nodes[i].grad, pair);
          local.dw += cauchy_term_dw<kPairs>(nodes[i].grad, mode.v, pair);
        }
        mine[thread].sums = local;
      });
    }
    block.phase([&](int thread) { sums[thread] = mine[thread].sums; });
    sum_groups<kThreads>(block, sums, kSlices);
    block.phase([&](int thread) {
      if (thread < kLanes && first + thread < args.modes) {
        const int64_t at = row * args.modes + first + thread;
        if (args.dv != nullptr) store_complex(args.dv, at, sums[thread].dv);
        if (args.dw != nullptr) store_complex(args.dw, at, sums[thread].dw);
      }
    });
  }
};

// dz is a sum over rows and modes, taken in two passes of fixed order: partial sums over chunks of
// rows, then over chunks. The number of chunks depends on the sizes alone.
inline int64_t cauchy_dz_chunks(int64_t rows) {
  const int64_t chunks = ceil_div(rows, 16);
  return chunks < 64 ? chunks : 64;
}

template <class T, bool kPairs>
struct CauchyBackwardNodes {
  static constexpr int kThreads = 128;
  static constexpr int kModes = 64;
  CauchyBackwardArgs<T> args;
  T* partial;  // (chunks, nodes) complex
  int64_t chunks;

  ECG_HD int64_t tiles() const { return ceil_div(args.nodes, kThreads); }
  ECG_HD int64_t blocks() const { return chunks * tiles(); }
  size_t shared_bytes() const { return SharedSize().add<CauchyMode<T>>(kModes).bytes(); }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    struct State {
      Complex<T> z, sum;
    };
    CauchyMode<T>* modes = block.template shared<CauchyMode<T>>(kModes);
    auto mine = block.template registers<State>();
    const int64_t chunk = block.index() / tiles();
    const int64_t first = block.index() % tiles() * kThreads;
    const int64_t row_begin = chunk * args.rows / chunks;
    const int64_t row_end = (chunk + 1) * args.rows / chunks;
    const auto node_of = [&](int thread) {
      return first + thread < args.nodes ? first + thread : args.nodes - 1;
    };
    block.phase(
        [&](int thread) { mine[thread] = {load_complex(args.z, node_of(thread)), {T(0), T(0)}}; });
    for (int64_t row = row_begin; row < row_end; ++row) {
      for (int64_t begin = 0; begin < args.modes; begin += kModes) {
        const int count =
            static_cast<int>(args.modes - begin < kModes ? args.modes - begin : kModes);
        stage_modes<kThreads>(block, modes, args.v, args.w, row * args.modes + begin, count);
        block.phase([&](int thread) {
          const Complex<T> z = mine[thread].z;
          const Complex<T> grad = load_complex(args.grad, row * args.nodes + node_of(thread));
          Complex<T> sum = mine[thread].sum;
          for (int n = 0; n < count; ++n) {
            sum += cauchy_term_dz<kPairs>(grad, modes[n].v, cauchy_pair<kPairs>(z, modes[n].w));
          }
          mine[thread].sum = sum;
        });
      }
    }
    block.phase([&](int thread) {
      if (first + thread < args.nodes) {
        store_complex(partial, chunk * args.nodes + first + thread, mine[thread].sum);
      }
    });
  }
};

template <class T>
struct CauchySumChunks {
  static constexpr int kThreads = 128;
  const T* partial;  // (chunks, nodes) complex
  T* dz;             // (nodes) complex
  int64_t chunks, nodes;

  ECG_HD int64_t blocks() const { return ceil_div(nodes, kThreads); }
  size_t shared_bytes() const { return 0; }

  template <class Block>
  ECG_HD void operator()(Block& block) const {
    block.phase([&](int thread) {
      const int64_t node = block.index() * kThreads + thread;
      if (node >= nodes) return;
      Complex<T> sum{T(0), T(0)};
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        sum += load_complex(partial, chunk * nodes + node);
      }
      store_complex(dz, node, sum);
    });
  }
};

// Runs `start(program)` for the programs of one call in their order; start is a launch or the
// emulator.
template <class T, class Start>
Error cauchy_forward_programs(const CauchyArgs<T>& args, const Start& start) {
  return args.conjugate_pairs ? start(CauchyForward<T, true>{args})
                              : start(CauchyForward<T, false>{args});
}

template <bool kPairs, class T, class Start>
Error cauchy_backward_programs(const CauchyBackwardArgs<T>& args, T* partial, const Start& start) {
  if (args.dv != nullptr || args.dw != nullptr) {
    if (const Error error = start(CauchyBackwardModes<T, kPairs>{args})) return error;
  }
  if (args.dz == nullptr) return nullptr;
  const int64_t chunks = cauchy_dz_chunks(args.rows);
  if (const Error error = start(CauchyBackwardNodes<T, kPairs>{args, partial, chunks}))
    return error;
  return start(CauchySumChunks<T>{partial, args.dz, chunks, args.nodes});
}
template <class T, class Start>
Error cauchy_backward_programs(const CauchyBackwardArgs<T>& args, T* partial, const Start& start) {
  return args.conjugate_pairs ? cauchy_backward_programs<true>(args, partial, start)
                              : cauchy_backward_programs<false>(args, partial, start);
}

// Queue on a stream; all pointers are device memory. `partial` is scratch of
// (cauchy_dz_chunks(rows), nodes) complex numbers, needed when dz is wanted.
template <class T>
Error cauchy_forward(const CauchyArgs<T>& args, Stream stream);
template <class T>
Error cauchy_backward(const CauchyBackwardArgs<T>& args, T* partial, Stream stream);

}  // namespace ecg::cuda
