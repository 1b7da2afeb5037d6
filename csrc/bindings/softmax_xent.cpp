// softmax and softmax_cross_entropy of NumPy's arrays on the CPU.
#include "bindings/softmax_xent.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "bindings/register.h"
#include "cpu/softmax_xent.h"
#include "cpu/spare.h"

namespace mlpfast::bindings {
namespace {

/// Of weights above 0, and of products of both kinds: they have an inverse, sums of them are finite.
template <class T>
constexpr T least_weight = std::numeric_limits<T>::min();
template <class T>
constexpr T most_weight = sizeof(T) == sizeof(float) ? T(0x1p100) : T(0x1p800);

std::string text_of_number(double x) { return py::str(py::float_(x)); }

template <class T>
struct HostSoftmaxXent : Host<T> {
  /// And room for the losses of their rows.
  struct Labels {
    cpu::Spare memory;
    Extent given;
    T* losses;
    std::int32_t* numbers;
  };

  Labels labels(py::handle value, int64_t rows, int64_t classes, py::handle ignore_index, const char* function) const {
    const Extent given = py::isinstance<py::array>(value) ? Extent(py::cast<py::array>(value)) : Extent{};
    const std::size_t losses = static_cast<std::size_t>(rows) * sizeof(T);
    cpu::Spare memory(losses + static_cast<std::size_t>(rows) * sizeof(std::int32_t));
    T* const first = memory.as<T>();
    std::int32_t* const numbers = memory.as<std::int32_t>(losses);
    label_input(value, rows, classes, ignore_index, function, "labels", numbers);
    return {std::move(memory), given, first, numbers};
  }
  void require_weights(const Input<T>& weights, const char* function, const char* name) const {
    for (int64_t i = 0; i < weights.size(); ++i)
      if (const T w = weights.data()[i]; w != 0 && !(w >= least_weight<T> && w <= most_weight<T>))
        throw value_error(function, std::string(name) + "[" + std::to_string(i) + "] is " + text_of_number(w) +
                                        "; weights must be finite and not negative: 0, or " +
                                        text_of_number(least_weight<T>) + " .. " + text_of_number(most_weight<T>));
  }
  void require_products(const Input<T>& a, const Input<T>& b, const char* function) const {
    T least = 1, most = 1;
    for (const Input<T>* weights : {&a, &b}) {
      T low = most_weight<T>, high = 0;
      for (int64_t i = 0; i < weights->size(); ++i)
        if (const T w = weights->data()[i]; w > 0) low = std::min(low, w), high = std::max(high, w);
      if (high == 0) return;
      least *= low;
      most *= high;
    }
    if (least < least_weight<T> || most > most_weight<T>)
      throw value_error(function, "class_weight times sample_weight is " + text_of_number(least) + " .. " +
                                      text_of_number(most) + "; products must be 0, or " +
                                      text_of_number(least_weight<T>) + " .. " + text_of_number(most_weight<T>));
  }
  void softmax(int64_t rows, int64_t cols, const T* x, T* y) const {
    without_gil(work(rows, cols), [&] { cpu::softmax<T>(rows, cols, {x, cols}, {y, cols}); });
  }
  py::object cross_entropy(const CrossEntropy<T>& p, const Labels& labels) const {
    cpu::CrossEntropyArgs<T> args{};
    args.rows = p.rows;
    args.cols = p.cols;
    args.logits = {p.logits, p.cols};
    args.labels = labels.numbers;
    args.class_weight = p.class_weight;
    args.row_weight = p.row_weight;
    args.label_smoothing = p.label_smoothing;
    args.class_weight_sum = static_cast<T>(p.cols);
    if (p.class_weight) {
      double total = 0;
      for (int64_t j = 0; j < p.cols; ++j) total += static_cast<double>(p.class_weight[j]);
      args.class_weight_sum = static_cast<T>(total);
    }
    double divisor = 1;
    if (p.reduction == Reduction::mean) divisor = cpu::weight_sum(p.rows, args.labels, p.class_weight, p.row_weight);
    args.gradient_scale = divisor > 0 ? 1 / divisor : 0;
    args.d_logits = {p.d_logits, p.cols};
    std::optional<py::array> losses;
    if (p.reduction == Reduction::none) losses = new_array<T>({p.rows}, "softmax_cross_entropy");
    args.loss = losses ? pointer<T>(*losses) : labels.losses;
    without_gil(work(p.rows, p.cols), [&] { cpu::cross_entropy(args); });
    if (losses) return *losses;
    const double total = cpu::lane_sum(p.rows, args.loss);
    return py::float_(divisor > 0 ? total / divisor : 0.0);
  }

 private:
  static double work(int64_t rows, int64_t cols) {
    return cpu::work_per_logit * static_cast<double>(rows) * static_cast<double>(cols);
  }
};

}  // namespace

void register_softmax_xent(py::module_& m) {
  m.def("softmax", by_any_array(softmax<HostSoftmaxXent<float>>, softmax<HostSoftmaxXent<double>>));
  m.def("softmax_cross_entropy",
        by_any_array(softmax_cross_entropy<HostSoftmaxXent<float>>, softmax_cross_entropy<HostSoftmaxXent<double>>));
}

}  // namespace mlpfast::bindings
