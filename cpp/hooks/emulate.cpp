// SPDX-License-Identifier: MIT
#include "emulate.h"

#include <algorithm>

namespace ecg::emulate {
namespace {

// Programs with planted mistakes, to see that the emulator shows them.
struct Faulty {
  enum Kind { kNone, kRace, kUnwritten, kOverrun, kSize };
  static constexpr int kThreads = 32;
  double* out;
  Kind kind;

  int64_t blocks() const { return 1; }
  size_t shared_bytes() const {
    return SharedSize().add<double>(kind == kSize ? kThreads + 2 : kThreads).bytes();
  }
  template <class Block>
  void operator()(Block& block) const {
    double* shared = block.template shared<double>(kThreads);
    block.phase([&](int thread) {
      if (kind == kUnwritten && thread == 7) return;
      shared[thread + (kind == kOverrun ? 1 : 0)] = thread;
    });
    if (kind == kRace) {
      block.phase([&](int thread) { shared[thread] += shared[(thread + 1) % kThreads]; });
    }
    block.phase([&](int thread) { out[thread] = shared[thread]; });
  }
};

Array<double> faulty(const std::string& kind, const std::string& order, uint64_t seed) {
  const std::vector<std::string> kinds = {"none", "race", "unwritten", "overrun", "size"};
  const auto found = std::find(kinds.begin(), kinds.end(), kind);
  if (found == kinds.end()) throw py::value_error("unknown kind '" + kind + "'");
  auto out = poisoned<double>({Faulty::kThreads});
  cuda::emulate(Faulty{out.mutable_data(), static_cast<Faulty::Kind>(found - kinds.begin())},
                order_of(order), seed);
  return out;
}

}  // namespace

void bind_all(py::module_& m) {
  m.def("faulty", &faulty);
  bind_add_layer_norm(m);
  bind_cauchy(m);
  bind_conditional_batch_norm(m);
  bind_diag(m);
  bind_local_attention(m);
  bind_nplr(m);
  bind_phase_shuffle(m);
  bind_philox(m);
  bind_residual_update(m);
  bind_s4_conv(m);
  bind_s4_conv_rows(m);
  bind_ssm_step(m);
  bind_vandermonde(m);
}

}  // namespace ecg::emulate
