// SPDX-License-Identifier: MIT
//
// Rows of features, (batch, length, features): the last axis dense, the others at any stride. What
// the ops that write into rows of the caller's check and pass on.
#pragma once

#include <string>
#include <vector>

#include "check.h"

namespace ecg::torch_abi {

// Strides of axes with a single entry mean nothing and are replaced by those of dense rows.
struct RowsView {
  int64_t batch, length, features, batch_stride, row_stride;

  explicit RowsView(const Tensor& tensor) {
    const std::vector<int64_t> sizes = tensor.sizes(), strides = tensor.strides();
    batch = sizes[0], length = sizes[1], features = sizes[2];
    row_stride = length > 1 ? strides[1] : features;
    batch_stride = batch > 1 ? strides[0] : length * row_stride;
  }

  // Whether the rows of all samples are one sequence of rows.
  bool is_even() const { return batch_stride == length * row_stride; }
  // From the first number to behind the last.
  int64_t extent() const {
    return (batch - 1) * batch_stride + (length - 1) * row_stride + features;
  }
  // Whether no two entries share a place: rows within samples, or samples within rows.
  bool is_injective() const {
    const int64_t row = length > 1 ? row_stride : 0, sample = batch > 1 ? batch_stride : 0;
    const bool rows_inside =
        (length < 2 || row >= features) && (batch < 2 || sample >= (length - 1) * row + features);
    const bool samples_inside =
        (batch < 2 || sample >= features) && (length < 2 || row >= (batch - 1) * sample + features);
    return rows_inside || samples_inside;
  }
};

// `like`: whose dtype and device it must have.
inline void check_rows(const Check& check, const Tensor& tensor, const char* name,
                       const char* symbols, const std::vector<int64_t>& expected,
                       const Tensor& like) {
  check.dtype(tensor, name, {like.dtype()});
  check.device(tensor, name, like.device());
  check.shape(tensor, name, symbols, expected);
  check.that(
      tensor.size(2) < 2 || tensor.strides()[2] == 1,
      std::string(name) + " must have a dense last axis, got strides " + join(tensor.strides()));
}

inline void check_writable(const Check& check, const Tensor& tensor, const char* name) {
  check.that(tensor.numel() == 0 || RowsView(tensor).is_injective(),
             std::string(name) + " must not overlap itself, got shape " + join(tensor.sizes()) +
                 " with strides " + join(tensor.strides()));
}

// Whether two tensors share no memory: one behind the other, or other columns of the same rows.
inline bool are_apart(const Tensor& a, const Tensor& b) {
  if (a.numel() == 0 || b.numel() == 0) return true;
  const int64_t bytes = a.dtype() == DType::f64 ? 8 : 4;
  const auto* a_data = a.data<char>();
  const auto* b_data = b.data<char>();
  if (b_data < a_data) return are_apart(b, a);
  const RowsView left(a), right(b);
  if (b_data - a_data >= left.extent() * bytes) return true;
  const int64_t distance = (b_data - a_data) / bytes;
  return left.batch_stride == right.batch_stride && left.row_stride == right.row_stride &&
         distance >= left.features && distance + right.features <= left.row_stride;
}

inline void check_apart(const Check& check, const Tensor& written, const char* name,
                        const Tensor& other, const char* other_name) {
  check.that(are_apart(written, other),
             std::string(name) + " must not share memory with " + other_name);
}
// For ops that have read a row before they write it: every row may be written over itself.
inline void check_row_for_row(const Check& check, const Tensor& written, const char* name,
                              const Tensor& read, const char* read_name) {
  const RowsView to(written), from(read);
  const bool same_rows = written.data<char>() == read.data<char>() &&
                         to.batch_stride == from.batch_stride && to.row_stride == from.row_stride;
  check.that(same_rows || are_apart(written, read),
             std::string(name) + " must be " + read_name + " itself or share no memory with it");
}

// One row a sample, or one for all.
inline void check_per_sample(const Check& check, const Tensor& tensor, const char* name,
                             const char* symbols, int64_t batch, int64_t features,
                             const Tensor& like) {
  const bool one = tensor.dim() == 2 && tensor.size(0) == 1;
  check.operand(tensor, name, like.dtype(), like.device(), symbols, {one ? 1 : batch, features});
}

}  // namespace ecg::torch_abi
