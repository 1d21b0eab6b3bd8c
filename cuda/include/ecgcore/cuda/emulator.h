// SPDX-License-Identifier: MIT
//
// Block programs (math/block.h) on the host: blocks and the threads of every phase run one after
// the other, in forward, reverse or random order. A correct program gives the same bits in every
// order.
//
// Arrays of shared memory are separate heap blocks of exactly their size (the address sanitizer
// sees one element too far; without it, guard bytes do), filled with 0xff as are registers: NaN for
// floating point, -1 for integers.
#pragma once

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "ecgcore/math/block.h"

namespace ecg::cuda {

enum class Order { kForward, kReverse, kRandom };

// A small generator of its own (splitmix64), so that an order can be repeated from its seed
// anywhere.
class OrderSource {
 public:
  OrderSource(Order order, uint64_t seed) : order_(order), state_(seed) {}

  std::vector<int64_t> draw(int64_t count) {
    std::vector<int64_t> out(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      out[static_cast<size_t>(i)] = order_ == Order::kReverse ? count - 1 - i : i;
    }
    if (order_ == Order::kRandom) {
      for (size_t i = out.size(); i > 1; --i) std::swap(out[i - 1], out[next() % i]);
    }
    return out;
  }

 private:
  uint64_t next() {
    uint64_t x = (state_ += 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

  Order order_;
  uint64_t state_;
};

template <class State>
class EmulatedRegisters {
  static_assert(std::is_trivially_copyable_v<State>);

 public:
  explicit EmulatedRegisters(int threads) : states_(static_cast<size_t>(threads)) {
    std::memset(static_cast<void*>(states_.data()), 0xff, states_.size() * sizeof(State));
  }
  State& operator[](int thread) { return states_.at(static_cast<size_t>(thread)); }

 private:
  std::vector<State> states_;
};

class EmulatedBlock {
 public:
  EmulatedBlock(int64_t index, int threads, OrderSource& orders)
      : index_(index), threads_(threads), orders_(orders) {}

  int64_t index() const { return index_; }

  template <class S>
  S* shared(int64_t count) {
    static_assert(std::is_trivially_copyable_v<S>);
    const auto bytes = static_cast<size_t>(count) * sizeof(S);
    arrays_.push_back({std::make_unique<unsigned char[]>(bytes + kGuard), bytes});
    std::memset(arrays_.back().memory.get(), 0xff, bytes);
    std::memset(arrays_.back().memory.get() + bytes, kGuardByte, kGuard);
    size_.add<S>(count);
    return reinterpret_cast<S*>(arrays_.back().memory.get());
  }

  template <class State>
  EmulatedRegisters<State> registers() {
    return EmulatedRegisters<State>(threads_);
  }

  template <class Body>
  void phase(const Body& body) {
    for (const int64_t thread : orders_.draw(threads_)) body(static_cast<int>(thread));
  }

  void check(size_t declared_bytes) const {
    if (size_.bytes() != declared_bytes) {
      throw std::logic_error("block program: shared_bytes() says " +
                             std::to_string(declared_bytes) + ", the body takes " +
                             std::to_string(size_.bytes()));
    }
    for (const auto& array : arrays_) {
      for (size_t i = 0; i < kGuard; ++i) {
        if (array.memory[array.bytes + i] != kGuardByte) {
          throw std::logic_error("block program: a write past the end of a shared array of " +
                                 std::to_string(array.bytes) + " bytes");
        }
      }
    }
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t kGuard = 0;  // the sanitizer's own red zone begins at once
#else
  static constexpr size_t kGuard = 64;
#endif
  static constexpr unsigned char kGuardByte = 0xa5;

  struct Array {
    std::unique_ptr<unsigned char[]> memory;
    size_t bytes;
  };

  int64_t index_;
  int threads_;
  OrderSource& orders_;
  std::vector<Array> arrays_;
  SharedSize size_;
};

template <class Program>
void emulate(const Program& program, Order order, uint64_t seed) {
  OrderSource orders(order, seed);
  for (const int64_t index : orders.draw(program.blocks())) {
    EmulatedBlock block(index, Program::kThreads, orders);
    program(block);
    block.check(program.shared_bytes());
  }
}

}  // namespace ecg::cuda
