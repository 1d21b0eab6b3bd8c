// SPDX-License-Identifier: MIT
//
// The NPLR spectrum on the CPU, one feature after the other. For a block of nodes, the resolvent
// pairs D of all modes are formed once (lanes are nodes); every pair sum is then a real matrix
// product of mode weights and D, and Woodbury works lane by lane. Backward forms the same D again
// and uses it three times: for the sums, for the gradients of the weights, and (matrix product the
// other way round) for the gradient of D itself. Memory: a block's planes, nothing of H N L.
#include "ecgcore/kernels/nplr.h"

#include "ecgcore/math/nplr.h"
#include "nplr_tiles.h"

namespace ecg::cpu::ECG_ISA {
namespace {

static_assert(kNplrNodePadding % kBlock == 0);

// Hands out pieces of a scratch array, each on a cache line; with a null array it only counts.
template <class T>
class Pieces {
 public:
  explicit Pieces(T* memory) : memory_(memory) {}
  T* take(int64_t count) {
    constexpr int64_t kLine = 64 / sizeof(T);
    T* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (count + kLine - 1) / kLine * kLine;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  T* memory_;
  int64_t used_ = 0;
};

// The table of products x_i y_j: x are the rows of B, then P; y the channels of C, then Q. A range
// of the columns, since the gradient of C alone needs less than all.
struct Columns {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

template <class T>
struct Sizes {
  explicit Sizes(const NplrArgs<T>& args)
      : modes(args.modes),
        rows(args.rows + args.rank),
        columns(args.channels + args.rank),
        all{0, columns},
        c_only{0, args.channels},
        q_only{args.channels, columns} {}
  int64_t modes, rows, columns;
  Columns all, c_only, q_only;
};

template <class T>
const T* feature_of(const T* from, int64_t row, int64_t h, bool tied, const NplrArgs<T>& args) {
  return from + 2 * args.modes * (tied ? row : row * args.features + h);
}

// x_i or y_j of one feature, (N) complex.
template <class T>
const T* row_vector(const NplrArgs<T>& args, int64_t i, int64_t h) {
  return i < args.rows ? feature_of(args.B, i, h, args.B_tied, args)
                       : feature_of(args.P, i - args.rows, h, args.P_tied, args);
}
template <class T>
const T* column_vector(const NplrArgs<T>& args, int64_t j, int64_t h) {
  return j < args.channels ? feature_of(args.C, j, h, false, args)
                           : feature_of(args.Q, j - args.channels, h, args.Q_tied, args);
}

// One feature's modes, and one block's nodes and resolvent pairs.
template <class T, int W>
struct Feature {
  using R = Pack<T, W>;

  T *a, *b, *b_rest;  // (N)
  T* pairs;           // (N, planes)
  const T* nodes;     // of this block
  int64_t node_stride;
  int count, width;  // nodes in this block; rounded up to whole vectors

  void allocate(Pieces<T>& pieces, int64_t modes) {
    for (T** piece : {&a, &b, &b_rest}) *piece = pieces.take(modes);
    pairs = pieces.take(modes * kPlanes);
  }

  NplrMode<T> mode(int64_t n) const { return {a[n], b[n], b_rest[n]}; }
  NplrMode<R> mode_lanes(int64_t n) const { return {R(a[n]), R(b[n]), R(b_rest[n])}; }
  NplrNode<R> node(int lane) const {
    const auto plane = [&](int which) { return R::load(nodes + which * node_stride + lane); };
    return {plane(0), plane(1), plane(2), {plane(3), plane(4)}};
  }

  void load_modes(const NplrArgs<T>& args, int64_t h) {
    const T* A = feature_of(args.A, 0, h, args.A_tied, args);
    for (int64_t n = 0; n < args.modes; ++n) {
      const auto mode = nplr_mode(Complex<T>{A[2 * n], A[2 * n + 1]}, args.dt[h]);
      a[n] = mode.a;
      b[n] = mode.b;
      b_rest[n] = mode.b_rest;
    }
  }

  void take_nodes(const NplrArgs<T>& args, int64_t begin) {
    const int64_t left = args.node_count - begin;
    count = static_cast<int>(left < kBlock ? left : kBlock);
    width = (count + W - 1) / W * W;
    nodes = args.nodes + begin;
    node_stride = args.node_stride;
  }

  void form_pairs(int64_t modes) {
    for (int lane = 0; lane < width; lane += W) {
      const NplrNode<R> at = node(lane);
      for (int64_t n = 0; n < modes; ++n) {
        const Complex<R> pair = nplr_pair(at, mode_lanes(n));
        store(pair, pairs + n * kPlanes + lane);
      }
    }
  }

  static void store(Complex<R> x, T* planes) {
    x.re.store(planes);
    x.im.store(planes + kBlock);
  }
  static Complex<R> load(const T* planes) { return {R::load(planes), R::load(planes + kBlock)}; }
};

// The pair sums of a range of columns, and what Woodbury makes of them.
template <class T, int W>
struct Sums {
  using R = Pack<T, W>;

  Columns columns;
  int64_t products;
  T* vectors;  // (1 + columns, 2, N): a row of the table, and all columns, split
  T* weights;  // (products, 2, N): q and p
  T* planes;   // (products, 2, planes): sums over q, over p
  Complex<R>*rho, *inverse, *U, *V, *work;

  void allocate(Pieces<T>& pieces, const NplrArgs<T>& args, Columns range) {
    const auto packs = [&](int64_t complex_count) {
      return reinterpret_cast<Complex<R>*>(pieces.take(complex_count * 2 * W));
    };
    columns = range;
    products = (args.rows + args.rank) * range.size();
    vectors = pieces.take(args.modes * 2 * (range.size() + 1));
    weights = pieces.take(args.modes * products * 2);
    planes = pieces.take(products * 2 * kPlanes);
    rho = packs(products);
    inverse = packs(args.rank * args.rank);
    U = packs(args.rows * args.rank);
    V = packs(args.rank * args.channels);
    work = packs(2 * args.rank * args.rank);
  }

  void load_weights(const NplrArgs<T>& args, const Feature<T, W>& feature, int64_t h) {
    const int64_t rows = args.rows + args.rank, N = args.modes;
    for (int64_t j = 0; j < columns.size(); ++j) {
      split(column_vector(args, columns.begin + j, h), N, vectors + 2 * (j + 1) * N);
    }
    for (int64_t i = 0; i < rows; ++i) {
      const T* ECG_RESTRICT x = split(row_vector(args, i, h), N, vectors);
      for (int64_t j = 0; j < columns.size(); ++j) {
        const T* ECG_RESTRICT y = vectors + 2 * (j + 1) * N;
        T* ECG_RESTRICT to = weights + 2 * (i * columns.size() + j) * N;
        for (int64_t n = 0; n < N; ++n) {
          const auto weight =
              nplr_weights(Complex<T>{x[n], x[N + n]}, Complex<T>{y[n], y[N + n]}, feature.mode(n));
          to[n] = weight.re;
          to[N + n] = weight.im;
        }
      }
    }
  }
  static const T* split(const T* ECG_RESTRICT from, int64_t count, T* ECG_RESTRICT to) {
    for (int64_t n = 0; n < count; ++n) {
      to[n] = from[2 * n];
      to[count + n] = from[2 * n + 1];
    }
    return to;
  }

  void form(const Feature<T, W>& feature, int64_t modes) {
    weighted_planes<R>(weights, modes, 1, feature.pairs, 2 * products, modes, feature.width,
                       planes);
  }

  // rho, then the inverse of I + k rho_PQ and U, at one vector of nodes.
  template <int kRank>
  void couple(const NplrArgs<T>& args, NplrNode<R> node, T dt, int lane) {
    for (int64_t v = 0; v < products; ++v) {
      const T* at = planes + 2 * v * kPlanes + lane;
      rho[v] = nplr_sum(node, Feature<T, W>::load(at), Feature<T, W>::load(at + kPlanes));
    }
    const int64_t rank = kRank > 0 ? kRank : args.rank, q = args.channels - columns.begin;
    const R k = R(dt) * node.c;
    nplr_invert<kRank>(k, rho + args.rows * columns.size() + q, columns.size(), rank, inverse,
                       work);
    nplr_product(k, rho + q, columns.size(), inverse, rank, U, args.rows, rank, rank);
  }
};

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

template <class T, int W>
struct Backward {
  using R = Pack<T, W>;

  bool c_only, modes_wanted;
  Columns graded;  // columns of products that get a gradient
  int64_t grad_products;
  Feature<T, W> feature;
  Sums<T, W> sums;
  T* grad;          // (S C, planes): the incoming gradient
  T* grad_planes;   // (products, 2, planes): gradients of the sums over q and p
  T* correlations;  // (N, products, 2) packs: gradients of q and p
  T* grad_pairs;    // (N, planes): gradient of D
  T* sums_p;        // (planes): Σ_v conj(gradient) Σ_n p D
  T* grad_modes;    // (N, 2) packs: gradients of a and b/(2b)
  T* grad_weights;  // (N, products, 2)

  Backward(Pieces<T>& pieces, const NplrBackwardArgs<T>& args) {
    const NplrArgs<T>& in = args.inputs;
    const Sizes<T> sizes(in);
    modes_wanted = args.dA != nullptr || args.ddt != nullptr;
    c_only = !modes_wanted && args.dB == nullptr && args.dP == nullptr && args.dQ == nullptr;
    graded = c_only ? sizes.c_only : sizes.all;
    grad_products = sizes.rows * graded.size();
    feature.allocate(pieces, in.modes);
    sums.allocate(pieces, in, c_only ? sizes.q_only : sizes.all);
    grad = pieces.take(in.rows * in.channels * kPlanes);
    grad_planes = pieces.take(2 * grad_products * kPlanes);
    correlations = pieces.take(in.modes * 2 * grad_products * W);
    grad_weights = pieces.take(in.modes * 2 * grad_products);
    grad_pairs = pieces.take(modes_wanted ? in.modes * kPlanes : 0);
    sums_p = pieces.take(modes_wanted ? kPlanes : 0);
    grad_modes = pieces.take(modes_wanted ? in.modes * 2 * W : 0);
  }

  template <int kRank>
  void run(const NplrBackwardArgs<T>& args, int64_t h) {
    const NplrArgs<T>& in = args.inputs;
    const T dt = in.dt[h];
    feature.load_modes(in, h);
    sums.load_weights(in, feature, h);
    clear(correlations, in.modes * 2 * grad_products * W);
    if (modes_wanted) clear(grad_modes, in.modes * 2 * W);
    R ddt(0);
    for (int64_t begin = 0; begin < in.node_count; begin += kBlock) {
      feature.take_nodes(in, begin);
      feature.form_pairs(in.modes);
      sums.form(feature, in.modes);
      load_grad(args, h, begin);
      for (int lane = 0; lane < feature.width; lane += W) {
        woodbury<kRank>(in, dt, lane);
      }
      correlate<R>(grad_planes, 2 * grad_products, feature.pairs, in.modes, feature.width,
                   correlations);
      if (modes_wanted) ddt += grade_modes(in);
    }
    for (int64_t i = 0; i < in.modes * 2 * grad_products; ++i) {
      grad_weights[i] = sum_lanes(R::load(correlations + i * W));
    }
    if (modes_wanted) store_modes(args, h, sum_lanes(ddt));
    store_vectors(args, h);
  }

  static void clear(T* from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) from[i] = T(0);
  }

  void load_grad(const NplrBackwardArgs<T>& args, int64_t h, int64_t begin) {
    const NplrArgs<T>& in = args.inputs;
    for (int64_t row = 0; row < in.rows * in.channels; ++row) {
      const T* ECG_RESTRICT from =
          args.grad + 2 * ((row * in.features + h) * in.node_count + begin);
      T* ECG_RESTRICT to = grad + row * kPlanes;
      for (int i = 0; i < feature.count; ++i) {
        to[i] = from[2 * i];
        to[kBlock + i] = from[2 * i + 1];
      }
      for (int i = feature.count; i < feature.width; ++i) to[i] = to[kBlock + i] = T(0);
    }
  }

  // Gradients of the pair sums at one vector of nodes: (1, −conj U) γ (1, −conj V).
  template <int kRank>
  void woodbury(const NplrArgs<T>& in, T dt, int lane) {
    const NplrNode<R> node = feature.node(lane);
    sums.template couple<kRank>(in, node, dt, lane);
    const int64_t rank = kRank > 0 ? kRank : in.rank, columns = sums.columns.size();
    if (!c_only) {
      nplr_product(R(dt) * node.c, sums.inverse, rank, sums.rho + in.rows * columns, columns,
                   sums.V, rank, rank, in.channels);
    }
    const Complex<R> scale = R(dt) * conj(node.out);
    Complex<R> sum_p{R(0), R(0)};
    for (int64_t i = 0; i < in.rows + rank; ++i) {
      for (int64_t j = 0; j < graded.size(); ++j) {
        Complex<R> g{R(0), R(0)};
        // γ row i: that of B, or what U gathers of all of them; then column j alike with V.
        const int64_t s_begin = i < in.rows ? i : 0, s_end = i < in.rows ? i + 1 : in.rows;
        const int64_t c_begin = j < in.channels ? j : 0,
                      c_end = j < in.channels ? j + 1 : in.channels;
        for (int64_t s = s_begin; s < s_end; ++s) {
          Complex<R> row{R(0), R(0)};
          for (int64_t c = c_begin; c < c_end; ++c) {
            const Complex<R> given =
                Feature<T, W>::load(grad + (s * in.channels + c) * kPlanes + lane);
            row += j < in.channels ? given
                                   : -(conj(sums.V[(j - in.channels) * in.channels + c]) * given);
          }
          g += i < in.rows ? row : -(conj(sums.U[s * rank + i - in.rows]) * row);
        }
        g = scale * g;
        const int64_t v = i * graded.size() + j;
        T* to = grad_planes + 2 * v * kPlanes + lane;
        Feature<T, W>::store(nplr_sum_dq(node, g), to);
        Feature<T, W>::store(nplr_sum_dp(node, g), to + kPlanes);
        if (modes_wanted) {
          sum_p += conj(g) * Feature<T, W>::load(sums.planes + (2 * v + 1) * kPlanes + lane);
        }
      }
    }
    if (modes_wanted) Feature<T, W>::store(sum_p, sums_p + lane);
  }

  // Through D: gradients of a and b of every mode. Returns what the nodes say of dt.
  R grade_modes(const NplrArgs<T>& in) {
    weighted_planes<R>(sums.weights, 1, in.modes, grad_planes, in.modes, 2 * grad_products,
                       feature.width, grad_pairs);
    R ddt(0);
    for (int lane = 0; lane < feature.width; lane += W) {
      const NplrNode<R> node = feature.node(lane);
      Complex<R> along{R(0), R(0)};
      for (int64_t n = 0; n < in.modes; ++n) {
        const int64_t at = n * kPlanes + lane;
        const auto found =
            nplr_pair_gradient(node, feature.mode_lanes(n), Feature<T, W>::load(feature.pairs + at),
                               Feature<T, W>::load(grad_pairs + at));
        T* sum = grad_modes + 2 * n * W;
        (R::load(sum) + found.a).store(sum);
        (R::load(sum + W) + found.b).store(sum + W);
        along += found.node;
      }
      ddt += nplr_node_ddt(node, Feature<T, W>::load(sums_p + lane), along);
    }
    return ddt;
  }

  // A, through a and b of every mode in D and in q; dt A = −a + i b.
  void store_modes(const NplrBackwardArgs<T>& args, int64_t h, T ddt) const {
    const NplrArgs<T>& in = args.inputs;
    const T dt = in.dt[h];
    if (args.ddt != nullptr) args.ddt[h] = ddt / dt;
    for (int64_t n = 0; n < in.modes && args.dA != nullptr; ++n) {
      T da = sum_lanes(R::load(grad_modes + 2 * n * W));
      T db = T(2) * feature.b[n] * sum_lanes(R::load(grad_modes + (2 * n + 1) * W));
      for (int64_t i = 0; i < in.rows + in.rank; ++i) {
        const T* x = row_vector(in, i, h) + 2 * n;
        for (int64_t j = 0; j < graded.size(); ++j) {
          const T* y = column_vector(in, j, h) + 2 * n;
          const T dq = grad_weights[2 * (n * grad_products + i * graded.size() + j)];
          da += T(2) * dq * (x[0] * y[0] - x[1] * y[1]);
          db -= T(2) * dq * (x[0] * y[1] + x[1] * y[0]);
        }
      }
      T* to = args.dA + 2 * (h * in.modes + n);
      to[0] = -dt * da;
      to[1] = dt * db;
    }
  }

  // B, C, P, Q: the gradient of v = x y is conj(y) dv for x, conj(x) dv for y.
  void store_vectors(const NplrBackwardArgs<T>& args, int64_t h) const {
    const NplrArgs<T>& in = args.inputs;
    const auto place = [&](T* base, int64_t row) {
      return base == nullptr ? nullptr : base + 2 * in.modes * (row * in.features + h);
    };
    for (int64_t i = 0; i < in.rows + in.rank && !c_only; ++i) {
      T* to = i < in.rows ? place(args.dB, i) : place(args.dP, i - in.rows);
      if (to == nullptr) continue;
      for (int64_t n = 0; n < in.modes; ++n) {
        Complex<T> sum{T(0), T(0)};
        for (int64_t j = 0; j < graded.size(); ++j) {
          const T* y = column_vector(in, j, h) + 2 * n;
          sum += Complex<T>{y[0], -y[1]} * dv(i, j, n);
        }
        to[2 * n] = sum.re;
        to[2 * n + 1] = sum.im;
      }
    }
    for (int64_t j = 0; j < graded.size(); ++j) {
      T* to = j < in.channels ? place(args.dC, j) : place(args.dQ, j - in.channels);
      if (to == nullptr) continue;
      for (int64_t n = 0; n < in.modes; ++n) {
        Complex<T> sum{T(0), T(0)};
        for (int64_t i = 0; i < in.rows + in.rank; ++i) {
          const T* x = row_vector(in, i, h) + 2 * n;
          sum += Complex<T>{x[0], -x[1]} * dv(i, j, n);
        }
        to[2 * n] = sum.re;
        to[2 * n + 1] = sum.im;
      }
    }
  }

  Complex<T> dv(int64_t i, int64_t j, int64_t n) const {
    const T* g = grad_weights + 2 * (n * grad_products + i * graded.size() + j);
    return nplr_weights_dv(Complex<T>{g[0], g[1]}, feature.mode(n));
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
