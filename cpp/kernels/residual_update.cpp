// SPDX-License-Identifier: MIT
//
// The end of a residual block on the CPU: everything is read and written once.
#include "ecgcore/kernels/residual_update.h"

#include "ecgcore/math/layer_norm.h"
#include "lanes.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class T>
void forward(const ResidualUpdateArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / args.length, l = row % args.length;
    const T* ECG_RESTRICT rs = args.rs + b * args.rs_batch + l * args.rs_row;
    T* ECG_RESTRICT x = args.x + b * args.x_batch + l * args.x_row;
    T* ECG_RESTRICT skip = args.skip + b * args.skip_batch + l * args.skip_row;
    if (args.padded == nullptr) {
      each_lanes<T>(args.residual, [&]<class R>(int64_t i) {
        store_real(x + i, residual_sum(load_real<R>(x + i), load_real<R>(rs + i)));
      });
    } else {
      T* ECG_RESTRICT padded = args.padded + b * args.padded_batch + l * args.padded_row;
      const T* step = args.step == nullptr ? nullptr : args.step + b * args.step_batch;
      each_lanes<T>(args.residual, [&]<class R>(int64_t i) {
        const R sum = residual_sum(load_real<R>(x + i), load_real<R>(rs + i));
        store_real(x + i, sum);
        store_real(padded + i, step == nullptr ? sum : sum + load_real<R>(step + i));
      });
    }
    rs += args.residual;
    if (args.first) {
      each_lanes<T>(args.skipped,
                    [&]<class R>(int64_t i) { store_real(skip + i, load_real<R>(rs + i)); });
    } else {
      each_lanes<T>(args.skipped, [&]<class R>(int64_t i) {
        store_real(skip + i, load_real<R>(skip + i) + load_real<R>(rs + i));
      });
    }
  }
}

}  // namespace

template <class T>
ResidualUpdateKernels<T> residual_update_kernels() {
  return {forward<T>};
}
template ResidualUpdateKernels<float> residual_update_kernels();
template ResidualUpdateKernels<double> residual_update_kernels();

}  // namespace ecg::cpu::ECG_ISA
