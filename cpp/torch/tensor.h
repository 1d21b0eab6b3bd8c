// SPDX-License-Identifier: MIT
//
// What the adapters need of torch, over the C functions of abi.h: a tensor that owns its handle,
// allocation, threads. No arithmetic, no ATen calls.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "abi.h"

namespace ecg::torch_abi {

inline void check_status(int32_t status, const char* call) {
  if (status == 0) return;
  std::string text = std::string("ecgcore: ") + call + " failed in torch";
  if (torch_exception_get_what_without_backtrace != nullptr) {
    text += std::string(": ") + torch_exception_get_what_without_backtrace();
  }
  throw std::runtime_error(text);
}

#define ECG_TORCH(call, ...) ::ecg::torch_abi::check_status(call(__VA_ARGS__), #call)

enum class DType { f16, bf16, f32, f64, c64, c128, i32, i64, boolean, other };

struct DTypeEntry {
  DType dtype;
  int32_t code;
  const char* name;
};

inline const std::vector<DTypeEntry>& dtype_table() {
  static const std::vector<DTypeEntry> table = {
      {DType::f16, aoti_torch_dtype_float16(), "float16"},
      {DType::bf16, aoti_torch_dtype_bfloat16(), "bfloat16"},
      {DType::f32, aoti_torch_dtype_float32(), "float32"},
      {DType::f64, aoti_torch_dtype_float64(), "float64"},
      {DType::c64, aoti_torch_dtype_complex64(), "complex64"},
      {DType::c128, aoti_torch_dtype_complex128(), "complex128"},
      {DType::i32, aoti_torch_dtype_int32(), "int32"},
      {DType::i64, aoti_torch_dtype_int64(), "int64"},
      {DType::boolean, aoti_torch_dtype_bool(), "bool"},
  };
  return table;
}

inline const char* name_of(DType dtype) {
  for (const auto& entry : dtype_table()) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "another dtype";
}

// The element types of the kernels: T is float or double; complex tensors are pairs of T.
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType real = DType::f32, complex = DType::c64;
};
template <>
struct DTypeOf<double> {
  static constexpr DType real = DType::f64, complex = DType::c128;
};

struct Device {
  int32_t type = 0, index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};

inline std::string name_of(Device device) {
  if (device.type == aoti_torch_device_type_cpu()) return "cpu";
  if (device.type == aoti_torch_device_type_cuda()) return "cuda:" + std::to_string(device.index);
  return "another device";
}

// Owns one handle of a tensor. Moves are free, copies make a second owner of the same memory.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(AtenTensorOpaque* owned) : handle_(owned) {}
  Tensor(Tensor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  Tensor(const Tensor& other) {
    if (other.handle_ != nullptr) {
      ECG_TORCH(aoti_torch_new_tensor_handle, other.handle_, &handle_);
    }
  }
  Tensor& operator=(const Tensor& other) { return *this = Tensor(other); }
  ~Tensor() {
    if (handle_ != nullptr) aoti_torch_delete_tensor_object(handle_);
  }

  AtenTensorOpaque* release() { return std::exchange(handle_, nullptr); }

  int64_t dim() const {
    int64_t out;
    ECG_TORCH(aoti_torch_get_dim, handle_, &out);
    return out;
  }
  int64_t numel() const {
    int64_t out;
    ECG_TORCH(aoti_torch_get_numel, handle_, &out);
    return out;
  }
  std::vector<int64_t> sizes() const {
    int64_t* out;
    ECG_TORCH(aoti_torch_get_sizes, handle_, &out);
    return {out, out + dim()};
  }
  int64_t size(int64_t axis) const {
    int64_t* out;
    ECG_TORCH(aoti_torch_get_sizes, handle_, &out);
    return out[axis];
  }
  std::vector<int64_t> strides() const {
    int64_t* out;
    ECG_TORCH(aoti_torch_get_strides, handle_, &out);
    return {out, out + dim()};
  }
  bool is_contiguous() const {
    bool out;
    ECG_TORCH(aoti_torch_is_contiguous, handle_, &out);
    return out;
  }
  DType dtype() const {
    int32_t code;
    ECG_TORCH(aoti_torch_get_dtype, handle_, &code);
    for (const auto& entry : dtype_table()) {
      if (entry.code == code) return entry.dtype;
    }
    return DType::other;
  }
  Device device() const {
    Device out;
    ECG_TORCH(aoti_torch_get_device_type, handle_, &out.type);
    ECG_TORCH(aoti_torch_get_device_index, handle_, &out.index);
    return out;
  }

  // Element pointers: T is the real type, complex tensors are read as pairs of T. The adapter has
  // checked the dtype.
  template <class T>
  const T* data() const {
    const void* out;
    ECG_TORCH(torch_get_const_data_ptr, handle_, &out);
    return static_cast<const T*>(out);
  }
  template <class T>
  T* mutable_data() const {
    void* out;
    ECG_TORCH(torch_get_mutable_data_ptr, handle_, &out);
    return static_cast<T*>(out);
  }

 private:
  AtenTensorOpaque* handle_ = nullptr;
};

inline Tensor empty_strided(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                            DType dtype, Device device) {
  int32_t code = -1;
  for (const auto& entry : dtype_table()) {
    if (entry.dtype == dtype) code = entry.code;
  }
  AtenTensorOpaque* out;
  ECG_TORCH(aoti_torch_empty_strided, static_cast<int64_t>(sizes.size()), sizes.data(),
            strides.data(), code, device.type, device.index, &out);
  return Tensor(out);
}

inline Tensor empty(const std::vector<int64_t>& sizes, DType dtype, Device device) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t axis = sizes.size(); axis-- > 1;) {
    strides[axis - 1] = strides[axis] * std::max<int64_t>(sizes[axis], 1);
  }
  return empty_strided(sizes, strides, dtype, device);
}

// An uncomputed gradient: what a backward op returns for an input nobody asked about.
inline Tensor nothing_like(const Tensor& tensor) {
  return empty({0}, tensor.dtype(), tensor.device());
}

// body(begin, end) over torch's own threads. An exception in any part is rethrown after all parts
// have ended.
template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  struct Context {
    const Body& body;
    std::mutex mutex;
    std::exception_ptr error;
  } context{body, {}, nullptr};
  const auto run = [](int64_t begin, int64_t end, void* opaque) {
    auto& shared = *static_cast<Context*>(opaque);
    try {
      shared.body(begin, end);
    } catch (...) {
      const std::lock_guard lock(shared.mutex);
      if (!shared.error) shared.error = std::current_exception();
    }
  };
  ECG_TORCH(torch_parallel_for, 0, count, std::max<int64_t>(grain, 1), run, &context);
  if (context.error) std::rethrow_exception(context.error);
}

}  // namespace ecg::torch_abi
