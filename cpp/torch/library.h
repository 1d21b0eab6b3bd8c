// SPDX-License-Identifier: MIT
//
// Registration of operators through the stable ABI. A C++ function is turned into a boxed kernel,
// and its schema is written by the compiler from the function's own types: schema and code cannot
// disagree.
//
// The boxed stack has one 64-bit slot an argument; results overwrite it from slot 0. Whoever reads
// a slot owns what is in it, so every argument is taken before anything can throw. See
// docs/decisions/0001-stable-abi.md.
#pragma once

#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensor.h"

namespace ecg::torch_abi {

static_assert(std::endian::native == std::endian::little, "bool slots are read by their low byte");

// How one type travels in a slot: its schema word, taking it as an argument, giving it as a result.
template <class T>
struct Slot;

template <class T, class Raw>
T from_slot(uint64_t slot) {
  Raw raw;
  std::memcpy(&raw, &slot, sizeof raw);
  return static_cast<T>(raw);
}

template <>
struct Slot<Tensor> {
  static std::string word() { return "Tensor"; }
  static Tensor take(uint64_t slot) {
    return Tensor(from_slot<AtenTensorOpaque*, AtenTensorOpaque*>(slot));
  }
  static uint64_t give(Tensor&& tensor) { return reinterpret_cast<uint64_t>(tensor.release()); }
};

// A tensor of the caller's that the operator writes; kAlias is its letter in the schema, another
// one for each such argument.
template <char kAlias>
struct Written : Tensor {
  explicit Written(Tensor&& tensor) : Tensor(std::move(tensor)) {}
};

template <char kAlias>
struct Slot<Written<kAlias>> {
  static std::string word() { return std::string("Tensor(") + kAlias + "!)"; }
  static Written<kAlias> take(uint64_t slot) { return Written<kAlias>(Slot<Tensor>::take(slot)); }
};

template <>
struct Slot<int64_t> {
  static std::string word() { return "int"; }
  static int64_t take(uint64_t slot) { return from_slot<int64_t, int64_t>(slot); }
};

template <>
struct Slot<double> {
  static std::string word() { return "float"; }
  static double take(uint64_t slot) { return from_slot<double, double>(slot); }
};

template <>
struct Slot<bool> {
  static std::string word() { return "bool"; }
  static bool take(uint64_t slot) { return from_slot<bool, uint8_t>(slot); }
};

template <>
struct Slot<std::string> {
  static std::string word() { return "str"; }
  static std::string take(uint64_t slot) {
    auto* handle = from_slot<StringOpaque*, StringOpaque*>(slot);
    size_t length = 0;
    const char* text = nullptr;
    const int32_t status = torch_string_length(handle, &length) | torch_string_c_str(handle, &text);
    std::string out = status == 0 ? std::string(text, length) : std::string();
    torch_delete_string(handle);
    check_status(status, "torch_string_c_str");
    return out;
  }
};

template <class T>
struct Slot<std::optional<T>> {
  static std::string word() { return Slot<T>::word() + "?"; }
  static std::optional<T> take(uint64_t slot) {
    auto* inner = from_slot<uint64_t*, uint64_t*>(slot);
    if (inner == nullptr) return std::nullopt;
    const uint64_t value = *inner;
    delete inner;
    return Slot<T>::take(value);
  }
};

template <class T>
struct Slot<std::vector<T>> {
  static std::string word() { return Slot<T>::word() + "[]"; }
  static std::vector<T> take(uint64_t slot) {
    auto* list = from_slot<StableListOpaque*, StableListOpaque*>(slot);
    std::vector<T> out;
    size_t size = 0;
    int32_t status = torch_list_size(list, &size);
    for (size_t i = 0; status == 0 && i < size; ++i) {
      uint64_t item;
      status = torch_list_get_item(list, i, &item);
      if (status == 0) out.push_back(Slot<T>::take(item));
    }
    torch_delete_list(list);
    check_status(status, "torch_list_get_item");
    return out;
  }
};

// Results: nothing, one tensor or a tuple of tensors.
template <class R>
struct Results {
  static std::string word() { return Slot<R>::word(); }
  static void give(uint64_t* stack, R&& result) { stack[0] = Slot<R>::give(std::move(result)); }
};
template <>
struct Results<void> {
  static std::string word() { return "()"; }
};
template <class... R>
struct Results<std::tuple<R...>> {
  static std::string word() {
    std::string out;
    ((out += (out.empty() ? "(" : ", ") + Slot<R>::word()), ...);
    return out + ")";
  }
  static void give(uint64_t* stack, std::tuple<R...>&& results) {
    std::apply(
        [&](auto&&... result) {
          size_t slot = 0;
          ((stack[slot++] = Slot<std::decay_t<decltype(result)>>::give(std::move(result))), ...);
        },
        std::move(results));
  }
};

template <auto Function, class Signature = decltype(Function)>
struct Op;
template <auto Function, class R, class... Args>
struct Op<Function, R (*)(Args...)> {
  static std::string schema(const char* name, const std::vector<const char*>& arguments) {
    if (arguments.size() != sizeof...(Args)) {
      throw std::logic_error(std::string("ecgcore: ") + name + " has another number of arguments");
    }
    std::string out = std::string(name) + "(";
    size_t i = 0;
    ((out += (i == 0 ? "" : ", ") + Slot<std::decay_t<Args>>::word() + " " + arguments[i], ++i),
     ...);
    return out + ") -> " + Results<R>::word();
  }
  static void boxed(uint64_t* stack, uint64_t, uint64_t) {
    take_and_call(stack, std::index_sequence_for<Args...>());
  }

 private:
  template <size_t... I>
  static void take_and_call(uint64_t* stack, std::index_sequence<I...>) {
    // Braces fix the order of evaluation: slot 0 first.
    std::tuple<std::decay_t<Args>...> arguments{Slot<std::decay_t<Args>>::take(stack[I])...};
    if constexpr (std::is_void_v<R>) {
      std::apply(Function, arguments);
    } else {
      Results<R>::give(stack, std::apply(Function, arguments));
    }
  }
};

class Library {
 public:
  // A block of definitions (schemas) in a namespace; one a process.
  static Library definitions(const char* ns) {
    Library library;
    ECG_TORCH(aoti_torch_library_init_def, ns, "ecgcore", 0, &library.handle_);
    return library;
  }
  // A block of kernels for one dispatch key ("CPU", "CUDA").
  static Library kernels(const char* ns, const char* key) {
    Library library;
    ECG_TORCH(aoti_torch_library_init_impl, ns, key, "ecgcore", 0, &library.handle_);
    return library;
  }
  Library(Library&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  Library& operator=(Library&&) = delete;
  ~Library() {
    if (handle_ != nullptr) aoti_torch_delete_library_object(handle_);
  }

  // Argument names as they stand in the schema, defaults included ("bias=None", "wanted=[]").
  template <auto Function>
  void def(const char* name, const std::vector<const char*>& arguments) {
    ECG_TORCH(aoti_torch_library_def, handle_, Op<Function>::schema(name, arguments).c_str());
  }
  template <auto Function>
  void impl(const char* name) {
    // The encodings of slots as torch 2.11 defines them.
    constexpr uint64_t kAbiVersion = (uint64_t{2} << 56) | (uint64_t{11} << 48);
    ECG_TORCH(torch_library_impl, handle_, name, &Op<Function>::boxed, kAbiVersion);
  }

 private:
  Library() = default;
  TorchLibraryOpaque* handle_ = nullptr;
};

}  // namespace ecg::torch_abi
