// SPDX-License-Identifier: MIT
//
// The NPLR spectrum on the CPU, one feature after the other. For a block of nodes, the resolvent
// pairs D of all modes are formed once (lanes are nodes); every pair sum is then a real matrix
// product of mode weights and D, and Woodbury works lane by lane. Backward forms the same D again
// and uses it three times: for the sums, for the gradients of the weights, and (matrix product the
// other way round) for the gradient of D itself. Memory: a block's planes, nothing of H N L; for
// the kernel in time the spectra of as many features as there are lanes.
#include "ecgcore/kernels/nplr.h"

#include "nplr_backward.h"
#include "nplr_forward.h"
#include "nplr_time.h"

namespace ecg::cpu::ECG_ISA {
namespace {

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
  job.spectrum = {args.spectrum, 0, args.features, args.node_count};
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
  job.spectrum = {args.grad, 0, args.inputs.features, args.inputs.node_count};
  run_features(job, args, args.inputs.rank, begin, end);
}

template <class T, int W>
int64_t kernel_scratch(const NplrKernelArgs<T>& args, const FftPlan<T>& plan) {
  Pieces<T> pieces(nullptr);
  KernelForward<T, W>(pieces, args, plan);
  return pieces.used();
}
template <class T, int W>
void kernel(const NplrKernelArgs<T>& args, const FftPlan<T>& plan, T* scratch, int64_t begin,
            int64_t end) {
  Pieces<T> pieces(scratch);
  KernelForward<T, W> job(pieces, args, plan);
  for (int64_t h = begin; h < end; h += W) job.run(args, h, h + W < end ? h + W : end);
}

template <class T, int W>
int64_t kernel_backward_scratch(const NplrKernelBackwardArgs<T>& args, const FftPlan<T>& plan) {
  Pieces<T> pieces(nullptr);
  KernelBackward<T, W>(pieces, args, plan);
  return pieces.used();
}
template <class T, int W>
void kernel_backward(const NplrKernelBackwardArgs<T>& args, const FftPlan<T>& plan, T* scratch,
                     int64_t begin, int64_t end) {
  Pieces<T> pieces(scratch);
  KernelBackward<T, W> job(pieces, args, plan);
  for (int64_t h = begin; h < end; h += W) job.run(args, h, h + W < end ? h + W : end);
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
          kernel_scratch<T, kWidth>,
          kernel<T, kWidth>,
          kernel_backward_scratch<T, kWidth>,
          kernel_backward<T, kWidth>,
          sum_features<T>};
}
template NplrKernels<float> nplr_kernels();
template NplrKernels<double> nplr_kernels();

}  // namespace ecg::cpu::ECG_ISA
