// SPDX-License-Identifier: MIT
//
// packed_linear as it is compiled for AMX, on the emulated tile unit (kernels/tile_unit.h).
#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "ecgcore/kernels/packed_linear.h"
#include "hooks.h"

namespace ecg::cpu::emulated_tiles {
template <class W>
PackedLinearKernels<W> packed_linear_kernels();
}  // namespace ecg::cpu::emulated_tiles

namespace ecg::hooks {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Pairs = py::array_t<int32_t, py::array::c_style>;

// `out` as it is afterwards: x and out are one sample, (L, at least inner) and (L, at least
// features); bias may be none.
Floats packed_tiles(const Floats& x, int64_t inner, const Pairs& packed, int64_t features,
                    const std::optional<Floats>& bias, const Floats& out, bool relu,
                    bool accumulate) {
  const auto kernels = cpu::emulated_tiles::packed_linear_kernels<BFloat16Pair>();
  Floats to({out.shape(0), out.shape(1)}, out.data());
  // Numbers nobody has written are no numbers.
  std::vector<uint32_t> scratch((kernels.scratch(inner) + 3) / 4, ~0u);
  const PackedLinearArgs<BFloat16Pair> args{x.data(),
                                            reinterpret_cast<const BFloat16Pair*>(packed.data()),
                                            bias ? bias->data() : nullptr,
                                            nullptr,
                                            to.mutable_data(),
                                            1,
                                            x.shape(0),
                                            inner,
                                            features,
                                            0,
                                            x.shape(1),
                                            0,
                                            out.shape(1),
                                            0,
                                            relu,
                                            accumulate};
  kernels.forward(args, scratch.data(), 0, x.shape(0), 0, panels_of(features));
  return to;
}

}  // namespace

void bind_packed_tiles(py::module_& m) { m.def("packed_tiles", &packed_tiles); }

}  // namespace ecg::hooks
