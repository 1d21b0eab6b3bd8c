// SPDX-License-Identifier: MIT
//
// What an adapter asks of a device, answered for CUDA: which stream its kernels are queued on. An
// operator runs inside a CudaScope, which has selected the device of its first tensor and asked
// torch for that device's current stream.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "ecgcore/cuda/stream.h"
#include "torch/tensor.h"

namespace ecg::torch_abi {

class DeviceGuard {
 public:
  explicit DeviceGuard(int32_t index) {
    ECG_TORCH(aoti_torch_create_device_guard, index, &handle_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard() { aoti_torch_delete_device_guard(handle_); }

 private:
  DeviceGuardOpaque* handle_ = nullptr;
};

inline cuda::Stream current_stream(int32_t index) {
  if (aoti_torch_get_current_cuda_stream == nullptr) {
    throw std::runtime_error("ecgcore: this torch was built without CUDA");
  }
  void* stream = nullptr;
  ECG_TORCH(aoti_torch_get_current_cuda_stream, index, &stream);
  return stream;
}

// torch does not select the device before it calls a kernel: device first, then its stream.
class CudaScope {
 public:
  explicit CudaScope(Device device)
      : guard_(device.index),
        device_(device),
        stream_(current_stream(device.index)),
        outer_(innermost()) {
    innermost() = this;
  }
  CudaScope(const CudaScope&) = delete;
  CudaScope& operator=(const CudaScope&) = delete;
  ~CudaScope() { innermost() = outer_; }

  static const CudaScope& current() {
    if (innermost() == nullptr) throw std::logic_error("ecgcore: no CUDA device is selected");
    return *innermost();
  }
  Device device() const { return device_; }
  cuda::Stream stream() const { return stream_; }

 private:
  static const CudaScope*& innermost() {
    static thread_local const CudaScope* scope = nullptr;
    return scope;
  }

  DeviceGuard guard_;
  Device device_;
  cuda::Stream stream_;
  const CudaScope* outer_;
};

struct Cuda {
  static constexpr const char* kKey = "CUDA";

  static cuda::Stream stream() { return CudaScope::current().stream(); }

  // Uninitialised device memory for `count` numbers. torch's allocator hands it out again only
  // behind what the stream has queued by then, so a kernel may still be using it after the Tensor
  // is gone.
  template <class T>
  static Tensor scratch(int64_t count) {
    return empty({count}, DTypeOf<T>::real, CudaScope::current().device());
  }

  static void check(cuda::Error error, const char* op) {
    if (error != nullptr) {
      throw std::runtime_error(std::string("ecgcore::") + op + ": not launched: " + error);
    }
  }
};

// An adapter, run inside the scope of its first tensor's device. Where that tensor is not a CUDA
// tensor (another one is, or the kernel would not have been called) the adapter's own checks say
// which one lies elsewhere.
template <auto Function, class Signature = decltype(Function)>
struct OnDevice;
template <auto Function, class R, class... Args>
struct OnDevice<Function, R (*)(const Tensor&, Args...)> {
  static R run(const Tensor& first, Args... args) {
    const Device device = first.device();
    if (device.type != aoti_torch_device_type_cuda()) return Function(first, std::move(args)...);
    const CudaScope scope(device);
    return Function(first, std::move(args)...);
  }
};

}  // namespace ecg::torch_abi
