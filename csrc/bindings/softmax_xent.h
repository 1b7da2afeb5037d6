// softmax and softmax_cross_entropy, as Python calls them: what arguments must be, whatever the device. K has the
// device's arrays and labels, as Host has NumPy's, and computes.
#pragma once
#include "bindings/checks.h"
#include "bindings/scalars.h"

namespace mlpfast::bindings {

enum class Reduction { mean, sum, none };
inline constexpr const char* reductions[] = {"mean", "sum", "none"};

template <class T>
struct CrossEntropy {
  int64_t rows, cols;
  const T *logits, *class_weight, *row_weight;  // weights may be null
  T label_smoothing;
  Reduction reduction;
  T* d_logits;
};

template <class K>
py::object softmax(const K& kernels, py::handle x_value, py::handle out_value) {
  using T = typename K::Number;
  constexpr const char* name = "softmax";
  const auto x = kernels.array(x_value, name, "x");
  if (x.array.ndim() == 0) throw value_error(name, "x must have at least 1 dimension");
  py::array out = kernels.output(out_value, shape_of(x.array), name, {}, {x.given});
  const int64_t cols = x.array.shape(x.array.ndim() - 1);
  if (x.size() > 0) kernels.softmax(x.size() / cols, cols, x.data(), pointer<T>(out));
  return kernels.result(out, out_value);
}

template <class K>
py::tuple softmax_cross_entropy(const K& kernels, py::handle logits_value, py::handle labels_value,
                                py::handle label_smoothing_value, py::handle ignore_index,
                                py::handle class_weight_value, py::handle sample_weight_value,
                                py::handle reduction_name, py::handle out_value) {
  using T = typename K::Number;
  constexpr const char* name = "softmax_cross_entropy";
  const auto reduction = static_cast<Reduction>(choice_argument(reduction_name, reductions, name, "reduction"));
  const T label_smoothing = real_argument<T>(label_smoothing_value, name, "label_smoothing");
  if (label_smoothing < 0 || label_smoothing > 1)
    throw value_error(name, unfit(label_smoothing_value, "label_smoothing", "in 0 .. 1"));
  const auto logits = kernels.array(logits_value, name, "logits", 2);
  const int64_t rows = logits.rows(), cols = logits.cols();
  if (cols == 0)
    throw value_error(name, "logits has shape " + shape_text(shape_of(logits.array)) + ", without a class");
  const auto weights = [&](py::handle value, int64_t size, const char* argument, const char* why) {
    if (value.is_none()) return Input<T>{};
    Input<T> given = kernels.array(value, name, argument, 1);
    require_shape(given.array, {size}, name, argument, why);
    kernels.require_weights(given, name, argument);
    return given;
  };
  const Input<T> class_weight = weights(class_weight_value, cols, "class_weight", "(one for each class)");
  const Input<T> row_weight = weights(sample_weight_value, rows, "sample_weight", "(one for each row)");
  if (!class_weight_value.is_none() && !sample_weight_value.is_none())
    kernels.require_products(class_weight, row_weight, name);
  const auto labels = kernels.labels(labels_value, rows, cols, ignore_index, name);
  py::array out = kernels.output(out_value, {rows, cols}, name, {class_weight.given, row_weight.given, labels.given},
                                 {logits.given});
  const py::object loss = kernels.cross_entropy(
      {rows, cols, logits.data(), class_weight_value.is_none() ? nullptr : class_weight.data(),
       sample_weight_value.is_none() ? nullptr : row_weight.data(), label_smoothing, reduction, pointer<T>(out)},
      labels);
  return py::make_tuple(loss, kernels.result(out, out_value));
}

}  // namespace mlpfast::bindings
