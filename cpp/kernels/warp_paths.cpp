// SPDX-License-Identifier: MIT
//
// Cheapest paths through the distances of two records on the CPU: lanes are records of y. A few
// samples of x pass over all samples of y together, so that those are read once for all of them;
// of the table only the last row is kept.
#include "ecgcore/kernels/warp_paths.h"

#include "ecgcore/math/pack.h"
#include "scratch.h"

namespace ecg::cpu::ECG_ISA {
namespace {

constexpr int kRows = 4;  // samples of x at a time

template <class R>
ECG_HD R smaller(R a, R b) {
  return select(b < a, b, a);
}
template <class R>
ECG_HD R larger(R a, R b) {
  return select(a < b, b, a);
}

// What a thread works in.
template <class T>
struct Work {
  T* y;                // [sample][lead][lane], of a group of y
  T* row;              // [sample][lane], the last row of the table
  T* x;                // [lead][kRows], samples of x
  int64_t group = -1;  // whose y it is

  Work(Scratch& scratch, const WarpPathsArgs<T>& args)
      : y(scratch.take<T>(args.other_length * args.leads * kLanes<T>)),
        row(scratch.take<T>(args.other_length * kLanes<T>)),
        x(scratch.take<T>(args.leads * kRows)) {}
};

// Records of y side by side; beyond the last one the last again.
template <class T>
void load_group(const WarpPathsArgs<T>& args, Work<T>& work, int64_t group) {
  constexpr int W = kLanes<T>;
  for (int lane = 0; lane < W; ++lane) {
    const int64_t b = group * W + lane < args.others ? group * W + lane : args.others - 1;
    for (int64_t c = 0; c < args.leads; ++c) {
      const T* from = args.y + (b * args.leads + c) * args.other_length;
      T* to = work.y + c * W + lane;
      for (int64_t j = 0; j < args.other_length; ++j) to[j * args.leads * W] = from[j];
    }
  }
  work.group = group;
}

// kCount rows of the table from the row before them; kFirst: there is none.
template <int kCount, bool kLargest, bool kFirst, class T>
void rows_of(const WarpPathsArgs<T>& args, const Work<T>& work) {
  using R = Pack<T, kLanes<T>>;
  const R infinite(static_cast<T>(__builtin_inf()));
  R left[kCount], corner = kFirst ? R(0) : infinite;
  for (int i = 0; i < kCount; ++i) left[i] = infinite;
  const T* y = work.y;
  for (int64_t j = 0; j < args.other_length; ++j) {
    R cost[kCount];
    for (int i = 0; i < kCount; ++i) cost[i] = R(0);
    for (int64_t c = 0; c < args.leads; ++c, y += kLanes<T>) {
      const R there = R::load(y);
      for (int i = 0; i < kCount; ++i) {
        const R apart = there - R(work.x[c * kRows + i]);
        cost[i] += apart * apart;
      }
    }
    T* const place = work.row + j * kLanes<T>;
    R above = kFirst ? infinite : R::load(place);
    R diagonal = corner;
    corner = above;
    for (int i = 0; i < kCount; ++i) {
      const R least = smaller(smaller(diagonal, above), left[i]);
      diagonal = left[i];
      left[i] = kLargest ? larger(cost[i], least) : cost[i] + least;
      above = left[i];
    }
    above.store(place);
  }
}

template <bool kLargest, class T>
void pair_of(const WarpPathsArgs<T>& args, const Work<T>& work, int64_t a) {
  const T* x = args.x + a * args.leads * args.length;
  for (int64_t i = 0; i < args.length;) {
    const int count = args.length - i < kRows ? 1 : kRows;
    for (int64_t c = 0; c < args.leads; ++c) {
      for (int k = 0; k < count; ++k) work.x[c * kRows + k] = x[c * args.length + i + k];
    }
    if (count == kRows) {
      i == 0 ? rows_of<kRows, kLargest, true>(args, work)
             : rows_of<kRows, kLargest, false>(args, work);
    } else {
      i == 0 ? rows_of<1, kLargest, true>(args, work) : rows_of<1, kLargest, false>(args, work);
    }
    i += count;
  }
  const T* last = work.row + (args.other_length - 1) * kLanes<T>;
  const int64_t first = work.group * kLanes<T>;
  for (int64_t b = first; b < args.others && b < first + kLanes<T>; ++b) {
    args.out[a * args.others + b] = last[b - first];
  }
}

template <class T>
int64_t scratch(const WarpPathsArgs<T>& args) {
  Scratch counted(nullptr);
  Work<T>(counted, args);
  return counted.used();
}

template <class T>
void forward(const WarpPathsArgs<T>& args, double* memory, int64_t begin, int64_t end) {
  Scratch taken(memory);
  Work<T> work(taken, args);
  for (int64_t pair = begin; pair < end; ++pair) {
    const int64_t group = pair / args.count, a = pair % args.count;
    if (group != work.group) load_group(args, work, group);
    args.largest ? pair_of<true>(args, work, a) : pair_of<false>(args, work, a);
  }
}

}  // namespace

template <class T>
WarpPathsKernels<T> warp_paths_kernels() {
  return {kLanes<T>, scratch<T>, forward<T>};
}
template WarpPathsKernels<float> warp_paths_kernels();
template WarpPathsKernels<double> warp_paths_kernels();

}  // namespace ecg::cpu::ECG_ISA
