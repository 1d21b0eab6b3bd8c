// SPDX-License-Identifier: MIT
//
// ecgcore._C: importing it registers the torch operators. Beside them, what is not a tensor
// operation: how the module was built, which instruction set its CPU kernels run on, and how many
// threads.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "ecgcore/kernels/cpu_level.h"
#include "hooks/emulate.h"
#include "hooks/hooks.h"
#include "torch/register.h"
#include "torch/tensor.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  ecg::torch_abi::register_operators();
#ifdef ECGCORE_WITH_CUDA
  ecg::torch_abi::register_cuda_kernels();
#endif

  m.def(
      "build_info",
      [] {
        py::dict info;
        info["compiler"] = ECGCORE_COMPILER;
        info["build_type"] = ECGCORE_BUILD_TYPE;
        info["torch_abi"] = "2.11";
#ifdef ECGCORE_WITH_CUDA
        info["cuda"] = ECGCORE_CUDA_VERSION;
        info["cuda_architectures"] = ECGCORE_CUDA_ARCHITECTURES;
        info["cuda_off"] = py::none();
#else
        info["cuda"] = py::none();
        info["cuda_architectures"] = py::none();
        info["cuda_off"] = ECGCORE_CUDA_OFF_REASON;
#endif
        return info;
      },
      "How this module was built.");

  m.def(
      "cuda_stream_available", [] { return aoti_torch_get_current_cuda_stream != nullptr; },
      "Whether the torch that is loaded is a CUDA build.");

  m.def(
      "cpu_level", [] { return ecg::cpu::name_of(ecg::cpu::level()); },
      "The instruction set the CPU kernels run on.");
  m.def(
      "cpu_levels",
      [] {
        std::vector<std::string> out;
        for (const ecg::cpu::Level level : ecg::cpu::kLevels) {
          if (ecg::cpu::available(level)) out.push_back(ecg::cpu::name_of(level));
        }
        return out;
      },
      "The instruction sets this processor can run.");
  m.def("set_cpu_level", &ecg::cpu::set_level, py::arg("name"),
        "Run the CPU kernels on another instruction set.");
  m.def(
      "num_threads",
      [] {
        uint32_t out;
        ECG_TORCH(torch_get_num_threads, &out);
        return out;
      },
      "The number of threads of torch's pool, which the CPU kernels use.");

#ifdef ECGCORE_HOOKS
  py::module_ hooks = m.def_submodule("hooks", "The formulas of floor 1, for tests.");
  ecg::hooks::bind_cauchy(hooks);
  ecg::hooks::bind_nplr(hooks);
  ecg::hooks::bind_fft(hooks);
  ecg::hooks::bind_packed_tiles(hooks);

  py::module_ emulate =
      m.def_submodule("emulate", "The CUDA kernels' block programs on the host, for tests.");
  ecg::emulate::bind_all(emulate);
#endif
}
