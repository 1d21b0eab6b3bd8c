// SPDX-License-Identifier: MIT
//
// The functions of torch's stable C ABI that ecgcore calls, at the level of torch 2.11, declared by
// us.
//
// Building against these declarations instead of torch's headers is what lets one binary run under
// every torch from 2.11 on, CPU or CUDA build, and lets `pip install .` build without torch. torch
// promises not to change these functions; tests/test_abi.py compiles this file against the headers
// of the installed torch and looks every name up. Functions that return int32_t return a status: 0
// is good. See docs/decisions/0001-stable-abi.md.
#pragma once

#include <cstddef>
#include <cstdint>

struct AtenTensorOpaque;
struct StableListOpaque;
struct StringOpaque;
struct DeviceGuardOpaque;
class TorchLibraryOpaque;

extern "C" {

// Registration of operators.
int32_t aoti_torch_library_init_def(const char* ns, const char* file, uint32_t line,
                                    TorchLibraryOpaque** out);
int32_t aoti_torch_library_init_impl(const char* ns, const char* key, const char* file,
                                     uint32_t line, TorchLibraryOpaque** out);
int32_t aoti_torch_library_def(TorchLibraryOpaque* self, const char* schema);
int32_t torch_library_impl(TorchLibraryOpaque* self, const char* name,
                           void (*kernel)(uint64_t* stack, uint64_t inputs, uint64_t outputs),
                           uint64_t abi_version);
int32_t aoti_torch_delete_library_object(TorchLibraryOpaque* self);

// Tensors.
int32_t aoti_torch_delete_tensor_object(AtenTensorOpaque* tensor);
int32_t aoti_torch_new_tensor_handle(AtenTensorOpaque* tensor, AtenTensorOpaque** out);
int32_t aoti_torch_get_dim(AtenTensorOpaque* tensor, int64_t* out);
int32_t aoti_torch_get_numel(AtenTensorOpaque* tensor, int64_t* out);
int32_t aoti_torch_get_sizes(AtenTensorOpaque* tensor, int64_t** out);
int32_t aoti_torch_get_strides(AtenTensorOpaque* tensor, int64_t** out);
int32_t aoti_torch_is_contiguous(AtenTensorOpaque* tensor, bool* out);
int32_t aoti_torch_get_dtype(AtenTensorOpaque* tensor, int32_t* out);
int32_t aoti_torch_get_device_type(AtenTensorOpaque* tensor, int32_t* out);
int32_t aoti_torch_get_device_index(AtenTensorOpaque* tensor, int32_t* out);
int32_t torch_get_const_data_ptr(AtenTensorOpaque* tensor, const void** out);
int32_t torch_get_mutable_data_ptr(AtenTensorOpaque* tensor, void** out);
int32_t aoti_torch_empty_strided(int64_t ndim, const int64_t* sizes, const int64_t* strides,
                                 int32_t dtype, int32_t device_type, int32_t device_index,
                                 AtenTensorOpaque** out);

int32_t aoti_torch_dtype_float16();
int32_t aoti_torch_dtype_bfloat16();
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_dtype_float64();
int32_t aoti_torch_dtype_complex64();
int32_t aoti_torch_dtype_complex128();
int32_t aoti_torch_dtype_int32();
int32_t aoti_torch_dtype_int64();
int32_t aoti_torch_dtype_bool();
int32_t aoti_torch_device_type_cpu();
int32_t aoti_torch_device_type_cuda();

// Lists and strings as they travel in an operator's stack.
int32_t torch_list_size(StableListOpaque* list, size_t* out);
int32_t torch_list_get_item(StableListOpaque* list, size_t index, uint64_t* out);
int32_t torch_delete_list(StableListOpaque* list);
int32_t torch_string_length(StringOpaque* string, size_t* out);
int32_t torch_string_c_str(StringOpaque* string, const char** out);
int32_t torch_delete_string(StringOpaque* string);

// Threads: torch's own pool, so that torch.set_num_threads holds for us too.
int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t grain,
                           void (*body)(int64_t begin, int64_t end, void* context), void* context);
int32_t torch_get_num_threads(uint32_t* out);

// CUDA. The stream call lives in libtorch_cuda.so only: weak, hence null under a CPU build of
// torch.
int32_t aoti_torch_create_device_guard(int32_t device_index, DeviceGuardOpaque** out);
int32_t aoti_torch_delete_device_guard(DeviceGuardOpaque* guard);
__attribute__((weak)) int32_t aoti_torch_get_current_cuda_stream(int32_t device_index, void** out);

// From torch 2.13 on, the text of this thread's last error; weak, hence null before.
__attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

}  // extern "C"
