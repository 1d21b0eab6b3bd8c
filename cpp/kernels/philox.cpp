// SPDX-License-Identifier: MIT
//
// Counter-based noise on the CPU: lanes are neighbouring blocks of four numbers.
#include "ecgcore/kernels/philox.h"

namespace ecg::cpu::ECG_ISA {
namespace {

template <class E>
void fill(const PhiloxArgs<E>& args, int64_t begin, int64_t end) {
  constexpr int W = kLanes<double>;
  using R = Pack<double, W>;
  using I = PackIntegers<W>;
  I lane(0);
  for (int i = 0; i < W; ++i) lane.lanes[i] = static_cast<uint64_t>(i);
  const int64_t pieces = (args.size + kPhiloxPiece - 1) / kPhiloxPiece;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t row = task / pieces, first = task % pieces * kPhiloxPiece;
    const auto record = static_cast<uint64_t>(args.records[row]);
    const int64_t last = first + kPhiloxPiece < args.size ? first + kPhiloxPiece : args.size;
    E* out = args.out + row * args.size;
    for (int64_t i = first; i < last; i += 4 * W) {
      I word[4] = {I(static_cast<uint64_t>(i / 4) + lane.lanes),
                   I(static_cast<uint64_t>(*args.draw)), I(record & 0xffffffffu), I(record >> 32)};
      R number[4];
      philox_numbers(word, args.key, args.normal, number);
      for (int64_t k = 0; k < 4 * W && i + k < last; ++k) {
        out[i + k] = from_real<E>(static_cast<RealOf<E>>(number[k % 4][static_cast<int>(k / 4)]));
      }
    }
  }
}

}  // namespace

template <class E>
PhiloxKernels<E> philox_kernels() {
  return {fill<E>};
}
template PhiloxKernels<float> philox_kernels();
template PhiloxKernels<double> philox_kernels();
template PhiloxKernels<Float16> philox_kernels();
template PhiloxKernels<BFloat16> philox_kernels();

}  // namespace ecg::cpu::ECG_ISA
