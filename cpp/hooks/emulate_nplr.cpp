// SPDX-License-Identifier: MIT
#include <optional>

#include "ecgcore/cuda/nplr_time.h"
#include "emulate.h"

namespace ecg::emulate {
namespace {

// The arrays of one call, kept alive beside the arguments that point into them.
template <class T>
struct Inputs {
  ComplexArray<T> A, B, C, P, Q;
  Array<T> dt, nodes;
  int64_t length;

  Inputs(const ComplexArray<T>& A_, const ComplexArray<T>& B_, const ComplexArray<T>& C_,
         const ComplexArray<T>& P_, const ComplexArray<T>& Q_, const Array<T>& dt_, int64_t length_,
         const std::optional<ComplexArray<T>>& omega, const Emulate& start)
      : A(A_),
        B(B_),
        C(C_),
        P(P_),
        Q(Q_),
        dt(dt_),
        nodes(poisoned<T>({5, stride_of(length_)})),
        length(length_) {
    start(cuda::NplrNodes<T>{{omega ? reals(*omega) : nullptr, nodes.mutable_data(), length,
                              length / 2 + 1, stride_of(length)}});
  }

  static int64_t stride_of(int64_t length) {
    return ceil_div(length / 2 + 1, kNplrNodePadding) * kNplrNodePadding;
  }

  NplrArgs<T> args(T* spectrum) const {
    const int64_t features = dt.shape(0);
    const auto tied = [&](const ComplexArray<T>& array, int axis) {
      return array.shape(axis) == 1 && features != 1;
    };
    NplrArgs<T> out{};
    out.A = reals(A);
    out.B = reals(B);
    out.C = reals(C);
    out.P = reals(P);
    out.Q = reals(Q);
    out.dt = dt.data();
    out.nodes = nodes.data();
    out.spectrum = spectrum;
    out.features = features;
    out.modes = C.shape(2);
    out.rows = B.shape(0);
    out.channels = C.shape(0);
    out.rank = P.shape(0);
    out.node_count = length / 2 + 1;
    out.node_stride = nodes.shape(1);
    out.A_tied = tied(A, 0);
    out.B_tied = tied(B, 1);
    out.P_tied = tied(P, 1);
    out.Q_tied = tied(Q, 1);
    return out;
  }
};

// Gradients of A, B, C, P, Q, dt, each per feature; those not wanted stay as they were: NaN.
template <class T>
struct Gradients {
  ComplexArray<T> dA, dB, dC, dP, dQ;
  Array<T> ddt;

  explicit Gradients(const Inputs<T>& in) {
    const py::ssize_t H = in.dt.shape(0), N = in.C.shape(2);
    dA = poisoned<std::complex<T>>({H, N});
    dB = poisoned<std::complex<T>>({in.B.shape(0), H, N});
    dC = poisoned<std::complex<T>>({in.C.shape(0), H, N});
    dP = poisoned<std::complex<T>>({in.P.shape(0), H, N});
    dQ = poisoned<std::complex<T>>({in.P.shape(0), H, N});
    ddt = poisoned<T>({H});
  }
  NplrBackwardArgs<T> args(const NplrArgs<T>& inputs, const T* grad,
                           const std::vector<bool>& wanted) {
    const auto where = [&](size_t i, T* to) { return wanted.at(i) ? to : nullptr; };
    return {inputs,
            grad,
            where(0, reals(dA)),
            where(1, reals(dB)),
            where(2, reals(dC)),
            where(3, reals(dP)),
            where(4, reals(dQ)),
            where(5, ddt.mutable_data())};
  }
  py::tuple tuple() const { return py::make_tuple(dA, dB, dC, dP, dQ, ddt); }
};

template <class T>
void bind(py::module_& m) {
  using OptionalArray = std::optional<ComplexArray<T>>;
  m.def("nplr_spectrum",
        [](const ComplexArray<T>& A, const ComplexArray<T>& B, const ComplexArray<T>& C,
           const ComplexArray<T>& P, const ComplexArray<T>& Q, const Array<T>& dt, int64_t length,
           const OptionalArray& omega, const std::string& order, uint64_t seed) {
          const Emulate start{order_of(order), seed};
          const Inputs<T> inputs(A, B, C, P, Q, dt, length, omega, start);
          auto spectrum =
              poisoned<std::complex<T>>({B.shape(0), C.shape(0), dt.shape(0), length / 2 + 1});
          const NplrArgs<T> args = inputs.args(reals(spectrum));
          auto scratch = poisoned<T>({cuda::nplr_forward_scratch(args)});
          check(cuda::nplr_forward_programs(args, scratch.mutable_data(), start));
          return spectrum;
        });
  m.def("nplr_kernel",
        [](const ComplexArray<T>& A, const ComplexArray<T>& B, const ComplexArray<T>& C,
           const ComplexArray<T>& P, const ComplexArray<T>& Q, const Array<T>& dt, int64_t length,
           const OptionalArray& omega, const std::string& order, uint64_t seed) {
          const Emulate start{order_of(order), seed};
          const Inputs<T> inputs(A, B, C, P, Q, dt, length, omega, start);
          auto kernel = poisoned<T>({B.shape(0), C.shape(0), dt.shape(0), length});
          const NplrKernelArgs<T> args{inputs.args(nullptr), kernel.mutable_data(), length};
          auto scratch = poisoned<T>({cuda::nplr_kernel_scratch(args)});
          check(cuda::nplr_kernel_programs(args, scratch.mutable_data(), start));
          return kernel;
        });
  m.def("nplr_spectrum_backward",
        [](const ComplexArray<T>& grad, const ComplexArray<T>& A, const ComplexArray<T>& B,
           const ComplexArray<T>& C, const ComplexArray<T>& P, const ComplexArray<T>& Q,
           const Array<T>& dt, int64_t length, const OptionalArray& omega,
           const std::vector<bool>& wanted, const std::string& order, uint64_t seed) {
          const Emulate start{order_of(order), seed};
          const Inputs<T> inputs(A, B, C, P, Q, dt, length, omega, start);
          Gradients<T> gradients(inputs);
          const auto args = gradients.args(inputs.args(nullptr), reals(grad), wanted);
          auto scratch = poisoned<T>({cuda::nplr_backward_scratch(args)});
          check(cuda::nplr_backward_programs(args, scratch.mutable_data(), start));
          return gradients.tuple();
        });
  m.def("nplr_kernel_backward",
        [](const Array<T>& grad, const ComplexArray<T>& A, const ComplexArray<T>& B,
           const ComplexArray<T>& C, const ComplexArray<T>& P, const ComplexArray<T>& Q,
           const Array<T>& dt, int64_t length, const OptionalArray& omega,
           const std::vector<bool>& wanted, const std::string& order, uint64_t seed) {
          const Emulate start{order_of(order), seed};
          const Inputs<T> inputs(A, B, C, P, Q, dt, length, omega, start);
          Gradients<T> gradients(inputs);
          const NplrKernelBackwardArgs<T> args{
              gradients.args(inputs.args(nullptr), nullptr, wanted), grad.data(), length};
          auto scratch = poisoned<T>({cuda::nplr_kernel_backward_scratch(args)});
          check(cuda::nplr_kernel_backward_programs(args, scratch.mutable_data(), start));
          return gradients.tuple();
        });
  m.def("sum_features", [](const Array<T>& in, const std::string& order, uint64_t seed) {
    auto out = poisoned<T>({in.shape(0), in.shape(2)});
    const NplrSumArgs<T> args{in.data(), out.mutable_data(), in.shape(1), in.shape(2)};
    Emulate{order_of(order), seed}(cuda::NplrSumFeatures<T>{args, in.shape(0)});
    return out;
  });
}

}  // namespace

void bind_nplr(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace ecg::emulate
