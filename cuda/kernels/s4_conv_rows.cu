// SPDX-License-Identifier: MIT
#include "ecgcore/cuda/launch.cuh"
#include "ecgcore/cuda/s4_conv_rows.h"

namespace ecg::cuda {

template <class T>
Error s4_conv_table(const S4ConvTableArgs<T>& args, Stream stream) {
  return launch(S4ConvTable<T>{args}, stream);
}
template Error s4_conv_table(const S4ConvTableArgs<float>&, Stream);
template Error s4_conv_table(const S4ConvTableArgs<double>&, Stream);

template <class E>
Error s4_conv_rows(const S4ConvRowsArgs<E>& args, RealOf<E>* scratch, Stream stream) {
  return s4_conv_rows_programs(args, scratch, s4_conv_rows_wide(args),
                               [&](const auto& program) { return launch(program, stream); });
}
template Error s4_conv_rows(const S4ConvRowsArgs<float>&, float*, Stream);
template Error s4_conv_rows(const S4ConvRowsArgs<double>&, double*, Stream);
template Error s4_conv_rows(const S4ConvRowsArgs<Float16>&, float*, Stream);
template Error s4_conv_rows(const S4ConvRowsArgs<BFloat16>&, float*, Stream);

}  // namespace ecg::cuda
