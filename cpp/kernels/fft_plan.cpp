// SPDX-License-Identifier: MIT
#include "ecgcore/kernels/fft_plan.h"

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <numbers>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ecg {
namespace {

// A plan and the tables it points into.
template <class T>
struct Owned {
  FftPlan<T> plan{};
  std::vector<std::vector<T>> tables;
  std::vector<int32_t> places, pairs;
};

// Radices, outermost stage first; the last stage is the one fused with what is done to the
// spectrum. Measured at 500, 250 and 512 points: odd radices first, and fours before one eight,
// which puts no long power of two between the streams of an early stage.
std::vector<int> radices(int64_t points) {
  std::vector<int> out;
  for (const int prime : {7, 3, 5}) {
    for (; points % prime == 0; points /= prime) out.push_back(prime);
  }
  for (; points % 4 == 0 && points != 8; points /= 4) out.push_back(4);
  if (points > 1) out.push_back(static_cast<int>(points));
  return out;
}

// An angle as a fraction of a turn, exact.
struct Turn {
  int64_t numerator, denominator;
};

// Fills the part's stages; returns the turns of its leaves.
template <class T>
std::vector<Turn> make_part(FftPart<T>& part, Turn root, std::vector<std::vector<T>>& tables) {
  const std::vector<int> stages = radices(part.points);
  std::vector<Turn> blocks{root};
  part.stages = static_cast<int>(stages.size());
  for (int s = 0; s < part.stages; ++s) {
    const int r = part.radix[s] = stages[s];
    std::vector<T>& table = tables.emplace_back();
    std::vector<Turn> children;
    for (const Turn& e : blocks) {
      // exp(2πi e) has the r-th roots exp(2πi (e + t)/r); twiddles are the powers of the first.
      const int64_t d = e.denominator * r;
      for (int m = 1; m < r; ++m) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(e.numerator * m % d) /
                             static_cast<double>(d);
        table.push_back(static_cast<T>(std::cos(angle)));
        table.push_back(static_cast<T>(std::sin(angle)));
      }
      for (int t = 0; t < r; ++t) children.push_back({e.numerator + t * e.denominator, d});
    }
    blocks = std::move(children);
  }
  // The tables move when their owner grows: addresses are taken at the end.
  return blocks;
}

template <class T>
std::unique_ptr<Owned<T>> make(int64_t n) {
  auto owned = std::make_unique<Owned<T>>();
  FftPlan<T>& plan = owned->plan;
  plan.n = n;
  plan.odd = n;
  while (plan.odd % 2 == 0) plan.odd /= 2;

  owned->places.resize(n / 2 + 1);
  int64_t first = 0;
  for (int64_t points = n / 4; n % 4 == 0; points /= 2) {
    FftPart<T>& part = plan.part[plan.parts++];
    part.points = points;
    part.first = first;
    int64_t place = first;
    for (const Turn& e : make_part(part, {1, 4}, owned->tables)) {
      // exp(2πi e) = exp(-2πi k/n)
      const int64_t k = (n - e.numerator * (n / e.denominator)) % n;
      owned->places[2 * k <= n ? k : n - k] = static_cast<int32_t>(2 * k <= n ? place : -1 - place);
      ++place;
    }
    first = place;
    if (points % 2 == 1) break;
  }
  FftPart<T>& pair = plan.part[plan.parts++];
  pair.points = plan.odd;
  pair.first = first;
  const std::vector<Turn> leaves = make_part(pair, {0, 1}, owned->tables);
  std::vector<int32_t> position(leaves.size());
  for (size_t i = 0; i < leaves.size(); ++i) {
    const Turn& e = leaves[i];
    position[e.numerator * (plan.odd / e.denominator) % plan.odd] = static_cast<int32_t>(i);
  }
  for (int64_t q = 0; q < plan.pair_count(); ++q) {
    owned->pairs.push_back(position[q]);
    owned->pairs.push_back(position[(plan.odd - q) % plan.odd]);
    // z = exp(2πi q/m) is the conjugate of bin q n/m; -z is bin n/2 - q n/m.
    const int64_t k = q * (n / plan.odd), place = first + 2 * q;
    owned->places[k] = static_cast<int32_t>(-1 - place);
    owned->places[n / 2 - k] = static_cast<int32_t>(place + 1);
  }

  plan.places = owned->places.data();
  plan.pairs = owned->pairs.data();
  size_t table = 0;
  for (int i = 0; i < plan.parts; ++i) {
    for (int s = 0; s < plan.part[i].stages; ++s) {
      plan.part[i].twiddles[s] = owned->tables[table++].data();
    }
  }
  return owned;
}

bool is_smooth(int64_t n) {
  for (const int prime : {2, 3, 5, 7}) {
    while (n % prime == 0) n /= prime;
  }
  return n == 1;
}

}  // namespace

bool fft_has_plan(int64_t n) {
  return n >= 2 && n % 2 == 0 && n < (int64_t{1} << 31) && is_smooth(n);
}

int64_t fft_good_length(int64_t least) {
  int64_t n = least > 8 ? (least + 7) / 8 * 8 : 8;
  while (!is_smooth(n)) n += 8;
  return n;
}

template <class T>
const FftPlan<T>& fft_plan(int64_t n) {
  static std::mutex mutex;
  static std::map<int64_t, std::unique_ptr<Owned<T>>> plans;
  if (!fft_has_plan(n)) {
    throw std::invalid_argument("no Fourier plan for length " + std::to_string(n));
  }
  const std::lock_guard lock(mutex);
  auto& slot = plans[n];
  if (!slot) slot = make<T>(n);
  return slot->plan;
}
template const FftPlan<float>& fft_plan(int64_t);
template const FftPlan<double>& fft_plan(int64_t);

}  // namespace ecg
