// softmax and softmax_cross_entropy on arrays.
#include "cpu/softmax_xent.h"

#include <cmath>

#include "bindings/checks.h"
#include "bindings/register.h"
#include "bindings/scalars.h"

namespace mlpfast::bindings {
namespace {

using cpu::work_per_logit;

enum Reduction { mean, sum, none };
constexpr const char* reductions[] = {"mean", "sum", "none"};

template <class T>
py::array softmax(py::handle x_value, py::handle out_value) {
  constexpr const char* name = "softmax";
  const auto x = array_input<T>(x_value, name, "x", -1);
  if (x.array.ndim() == 0) throw value_error(name, "x must have at least 1 dimension");
  py::array out = output<T>(out_value, shape_of(x.array), name, {}, {x.given});
  const int64_t cols = x.array.shape(x.array.ndim() - 1), rows = cols ? x.size() / cols : 0;
  without_gil(work_per_logit * static_cast<double>(x.size()),
              [&] { cpu::softmax<T>(rows, cols, {x.data(), cols}, {pointer<T>(out), cols}); });
  return out;
}

/// A vector of weights >= 0, or nothing for None.
template <class T>
Input<T> weight_input(py::handle value, int64_t size, const char* function, const char* name, const char* why) {
  if (value.is_none()) return {};
  Input<T> weights = array_input<T>(value, function, name, 1);
  require_shape(weights.array, {size}, function, name, why);
  for (int64_t i = 0; i < size; ++i)
    if (const T w = weights.data()[i]; !(w >= 0) || std::isinf(w))
      throw value_error(function, std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(w) +
                                      "; weights must be finite and not negative");
  return weights;
}

template <class T>
py::tuple softmax_cross_entropy(py::handle logits_value, py::handle labels_value, py::handle label_smoothing_value,
                                py::handle ignore_index, py::handle class_weight_value, py::handle sample_weight_value,
                                py::handle reduction_name, py::handle out_value) {
  constexpr const char* name = "softmax_cross_entropy";
  const int reduction = choice_argument(reduction_name, reductions, name, "reduction");
  const T label_smoothing = real_argument<T>(label_smoothing_value, name, "label_smoothing");
  if (label_smoothing < 0 || label_smoothing > 1)
    throw value_error(name, unfit(label_smoothing_value, "label_smoothing", "in 0 .. 1"));
  const auto logits = array_input<T>(logits_value, name, "logits", 2);
  const int64_t rows = logits.rows(), cols = logits.cols();
  if (cols == 0)
    throw value_error(name, "logits has shape " + shape_text(shape_of(logits.array)) + ", without a class");
  const auto class_weight = weight_input<T>(class_weight_value, cols, name, "class_weight", "(one for each class)");
  const auto row_weight = weight_input<T>(sample_weight_value, rows, name, "sample_weight", "(one for each row)");
  const std::vector<std::int32_t> labels = label_input(labels_value, rows, cols, ignore_index, name, "labels");
  py::array out = output<T>(out_value, {rows, cols}, name, {class_weight.given, row_weight.given}, {logits.given});
  py::array_t<T> losses(rows);

  cpu::CrossEntropyArgs<T> args{};
  args.rows = rows;
  args.cols = cols;
  args.logits = logits.matrix();
  args.labels = labels.data();
  args.class_weight = class_weight_value.is_none() ? nullptr : class_weight.data();
  args.row_weight = sample_weight_value.is_none() ? nullptr : row_weight.data();
  args.label_smoothing = label_smoothing;
  args.class_weight_sum = static_cast<T>(cols);
  if (args.class_weight) {
    double sum = 0;
    for (int64_t j = 0; j < cols; ++j) sum += static_cast<double>(args.class_weight[j]);
    args.class_weight_sum = static_cast<T>(sum);
  }
  double divisor = 1;
  if (reduction == mean) divisor = cpu::weight_sum(rows, labels.data(), args.class_weight, args.row_weight);
  args.gradient_scale = divisor > 0 ? 1 / divisor : 0;
  args.d_logits = {pointer<T>(out), cols};
  args.loss = losses.mutable_data();
  without_gil(work_per_logit * static_cast<double>(logits.size()), [&] { cpu::cross_entropy(args); });
  if (reduction == none) return py::make_tuple(losses, out);
  const double total = cpu::lane_sum(rows, args.loss);
  return py::make_tuple(divisor > 0 ? total / divisor : 0.0, out);
}

}  // namespace

void register_softmax_xent(py::module_& m) {
  m.def("softmax", by_any_array(softmax<float>, softmax<double>));
  m.def("softmax_cross_entropy", by_any_array(softmax_cross_entropy<float>, softmax_cross_entropy<double>));
}

}  // namespace mlpfast::bindings
