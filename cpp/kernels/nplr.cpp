// SPDX-License-Identifier: MIT
//
// The NPLR spectrum on the CPU, one feature after the other. For a block of nodes, the resolvent
// pairs D of all modes are formed once (lanes are nodes); every pair sum is then a real matrix
// product of mode weights and D, and Woodbury works lane by lane. Backward forms the same D again
// and uses it three times: for the sums, for the gradients of the weights, and (matrix product the
// other way round) for the gradient of D itself. Memory: a block's planes, nothing of H N L.
#include "ecgcore/kernels/nplr.h"

#include "nplr_backward.h"
#include "nplr_sums.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T, int W>
struct Forward {
  using R = Pack<T, W>;

  Feature<T, W> feature;
  Sums<T, W> sums;
  T* result;  // (S C, planes)

  Forward(Pieces<T>& pieces, const NplrArgs<T>& args) {
    const Sizes<T> sizes(args);
    feature.allocate(pieces, args.modes);
    sums.allocate(pieces, args, sizes.all);
    result = pieces.take(args.rows * args.channels * kPlanes);
  }

  template <int kRank>
  void run(const NplrArgs<T>& args, int64_t h) {
    const T dt = args.dt[h];
    feature.load_modes(args, h);
    sums.load_weights(args, feature, h);
    for (int64_t begin = 0; begin < args.node_count; begin += kBlock) {
      feature.take_nodes(args, begin);
      feature.form_pairs(args.modes);
      sums.form(feature, args.modes);
      for (int lane = 0; lane < feature.width; lane += W) woodbury<kRank>(args, dt, lane);
      for (int64_t row = 0; row < args.rows * args.channels; ++row) {
        const T* ECG_RESTRICT from = result + row * kPlanes;
        T* ECG_RESTRICT to =
            args.spectrum + 2 * ((row * args.features + h) * args.node_count + begin);
        for (int i = 0; i < feature.count; ++i) {
          to[2 * i] = from[i];
          to[2 * i + 1] = from[kBlock + i];
        }
      }
    }
  }

  template <int kRank>
  void woodbury(const NplrArgs<T>& args, T dt, int lane) {
    const NplrNode<R> node = feature.node(lane);
    sums.template couple<kRank>(args, node, dt, lane);
    const int64_t rank = kRank > 0 ? kRank : args.rank, columns = sums.columns.size();
    const Complex<R> out = R(dt) * node.out;
    const Complex<R>* rho_p = sums.rho + args.rows * columns;
    for (int64_t s = 0; s < args.rows; ++s) {
      for (int64_t c = 0; c < args.channels; ++c) {
        Complex<R> sum = sums.rho[s * columns + c];
        for (int64_t k = 0; k < rank; ++k) sum -= sums.U[s * rank + k] * rho_p[k * columns + c];
        Feature<T, W>::store(out * sum, result + (s * args.channels + c) * kPlanes + lane);
      }
    }
  }
};

// Fixed ranks keep the small matrices in registers.
template <class Job, class Args>
void run_features(Job& job, const Args& args, int64_t rank, int64_t begin, int64_t end) {
  for (int64_t h = begin; h < end; ++h) {
    if (rank == 1) {
      job.template run<1>(args, h);
    } else if (rank == 2) {
      job.template run<2>(args, h);
    } else {
      job.template run<0>(args, h);
    }
  }
}

template <class T, int W>
int64_t forward_scratch(const NplrArgs<T>& args) {
  Pieces<T> pieces(nullptr);
  Forward<T, W>(pieces, args);
  return pieces.used();
}
template <class T, int W>
void forward(const NplrArgs<T>& args, T* scratch, int64_t begin, int64_t end) {
  Pieces<T> pieces(scratch);
  Forward<T, W> job(pieces, args);
  run_features(job, args, args.rank, begin, end);
}

template <class T, int W>
int64_t backward_scratch(const NplrBackwardArgs<T>& args) {
  Pieces<T> pieces(nullptr);
  Backward<T, W>(pieces, args);
  return pieces.used();
}
template <class T, int W>
void backward(const NplrBackwardArgs<T>& args, T* scratch, int64_t begin, int64_t end) {
  Pieces<T> pieces(scratch);
  Backward<T, W> job(pieces, args);
  run_features(job, args, args.inputs.rank, begin, end);
}

template <class T>
void nodes(const NplrNodesArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t j = i < args.node_count ? i : args.node_count - 1;
    const NplrNode<T> node =
        args.omega == nullptr
            ? nplr_node<T>(j, args.length)
            : nplr_node<T>(Complex<double>{static_cast<double>(args.omega[2 * j]),
                                           static_cast<double>(args.omega[2 * j + 1])});
    const T values[] = {node.c, node.r, node.y, node.out.re, node.out.im};
    for (int plane = 0; plane < 5; ++plane)
      args.nodes[plane * args.node_stride + i] = values[plane];
  }
}

template <class T>
void sum_features(const NplrSumArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t at = begin; at < end; ++at) {
    const T* from = args.in + at / args.size * args.features * args.size + at % args.size;
    T sum(0);
    for (int64_t h = 0; h < args.features; ++h) sum += from[h * args.size];
    args.out[at] = sum;
  }
}

}  // namespace

template <class T>
NplrKernels<T> nplr_kernels() {
  constexpr int kWidth = kLanes<T>;
  return {nodes<T>,
          forward_scratch<T, kWidth>,
          forward<T, kWidth>,
          backward_scratch<T, kWidth>,
          backward<T, kWidth>,
          sum_features<T>};
}
template NplrKernels<float> nplr_kernels();
template NplrKernels<double> nplr_kernels();

}  // namespace ecg::cpu::ECG_ISA
