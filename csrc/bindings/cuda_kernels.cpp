// The functions of the kernels on arrays of a GPU, on a stream of the caller's: _cpu's of the same names, with a tuple
// before their arguments that says where.
#include <pybind11/stl.h>

#include <atomic>
#include <deque>
#include <map>
#include <tuple>

#include "bindings/device_array.h"
#include "bindings/elementwise.h"
#include "bindings/gemm.h"
#include "bindings/optimizer.h"
#include "bindings/register.h"
#include "bindings/softmax_xent.h"
#include "cuda/elementwise.h"
#include "cuda/softmax_xent.h"
#include "cuda/tensor.h"

namespace mlpfast::bindings {
namespace {

cuda::Matrix<const float> on_device(Matrix<const float> m) { return {m.data, m.ld}; }

/// Arrays that a call's stream may still have to do with, of libraries that would reuse their memory in the order of
/// another; and their headers, by which libraries know that somebody has them. Those of ours need not be kept: their
/// memory is given back in the order of their last use.
struct Kept {
  cuda::Event done;
  py::list arrays;
};
constexpr std::size_t most_kept = 16;  // calls: enough for a GPU to have work, few enough for its memory

std::deque<std::unique_ptr<Kept>>& kept() {
  static auto* const calls = new std::deque<std::unique_ptr<Kept>>;  // the interpreter may end before the process
  return *calls;
}

/// Lets go of what streams are done with; where more calls are kept than so many, the host waits for the oldest.
void let_go(std::size_t most) {
  auto& calls = kept();
  while (!calls.empty() && (calls.size() > most || calls.front()->done.happened())) {
    const std::unique_ptr<Kept> oldest = std::move(calls.front());
    calls.pop_front();  // before what it held ends, which may be by code that comes here again
    if (!oldest->done.happened()) without_gil([&] { oldest->done.wait(); });
  }
}

/// What calls on a stream of a device found in their labels, one record for each that had labels, for ever: another
/// stream of the same address takes it over. Python's lock guards it.
using Faults = std::map<std::pair<int, cudaStream_t>, cuda::Fault*>;
Faults& label_faults() {
  static auto* const all = new Faults;  // the interpreter may end before the process
  return *all;
}

void keep(const py::list& arrays, cudaStream_t stream) {
  let_go(most_kept - 1);
  if (arrays.empty()) return;
  auto made = std::make_unique<Kept>();
  made->arrays = arrays;
  made->done.record(stream);
  kept().push_back(std::move(made));
}

/// Where blocks of threads leave so many sums to the last of them.
struct Sums {
  cuda::Buffer<float> partial;
  cuda::Buffer<unsigned> arrived;

  Sums(int64_t size, cudaStream_t stream) : partial(size, stream), arrived(size > 0 ? cuda::most_tiles : 0, stream) {
    cuda::clear(arrived.data(), arrived.size() * int64_t(sizeof(unsigned)), stream);
  }
  cuda::GemmScratch scratch(char* parts = nullptr) const { return {parts, partial.data(), arrived.data()}; }
};

class Gpu {
 public:
  using Number = float;
  struct Labels {
    py::array array;
    cuda::Labels labels;
    Extent given;
  };

  /// `make` makes arrays of the caller's library, or is None.
  Gpu(const Place& place, const py::object& make) : place_(place), make_(make) {}

  /// The arrays of other libraries that the call has to do with, and their headers.
  const py::list& foreign() const { return foreign_; }

  Input<float> array(py::handle value, const char* function, const char* name, int ndim = -1) const {
    const py::array header = numbers(value, function, name);
    return array_input<float>(header, function, name, ndim);
  }
  Input<float> matrix(py::handle value, const char* function, const char* name) const {
    return array(value, function, name, 2);
  }
  py::array output(py::handle out, const Shape& shape, const char* function, std::initializer_list<Extent> inputs,
                   std::initializer_list<Extent> same = {}) const {
    if (!out.is_none()) return bindings::output<float>(numbers(out, function, "out"), shape, function, inputs, same);
    py::array header;
    std::tie(made_, header) = fresh(shape);
    return header;
  }
  py::array in_place(py::handle value, const char* function, const char* name) const {
    return bindings::in_place<float>(numbers(value, function, name), function, name);
  }
  py::object result(const py::array&, py::handle out) const {
    return out.is_none() ? made_ : py::reinterpret_borrow<py::object>(out);
  }

  void gemm(const Product<float>& p, network::Precision precision, float alpha, float beta) const {
    cuda::GemmArgs args = product(p, beta == 0 ? cuda::Finish::store : cuda::Finish::combine);
    args.scale = alpha;
    args.beta = beta;
    multiply(args, p, precision);
  }
  void linear(const Product<float>& p, network::Precision precision, const float* bias, float scale,
              ops::Activation activation, float alpha) const {
    cuda::GemmArgs args = product(p, cuda::Finish::forward);
    args.bias = bias;
    args.scale = scale;
    args.alpha = alpha;
    args.activation = activation;
    multiply(args, p, precision);
  }
  void backward_input(const Product<float>& p, network::Precision precision, Matrix<const float> saved,
                      ops::Activation activation, float alpha) const {
    cuda::GemmArgs args = product(p, saved.data ? cuda::Finish::backward_input : cuda::Finish::store);
    args.saved = {const_cast<float*>(saved.data), saved.ld};
    args.alpha = alpha;
    args.activation = activation;
    multiply(args, p, precision);
  }
  void forward(ops::Activation which, int64_t rows, int64_t cols, const float* x, const float* bias, float alpha,
               float* y) const {
    cuda::forward({rows, cols, x, bias, which, alpha, y}, place_.stream);
  }
  void backward(ops::Activation which, int64_t n, const float* dy, const float* saved, float alpha, float* dx) const {
    cuda::backward({n, dy, saved, which, alpha, dx}, place_.stream);
  }
  void column_sums(int64_t rows, int64_t cols, const float* dy, float* db) const {
    const auto sums = with_room(place_, [&] { return Sums(cuda::bias_partial(rows, cols), place_.stream); });
    cuda::bias_gradient({rows, cols, {dy, cols}, db, {}, sums.scratch()}, place_.stream);
  }
  void update(const ops::UpdateRule<float>& rule, int64_t n, const float* dw, float* w) const {
    cuda::Update update{rule.optimizer, w, {}, nullptr, rule.scalars};
    std::copy(std::begin(rule.slots), std::end(rule.slots), update.slots);
    cuda::update_all(update, dw, n, place_.stream);
  }
  void softmax(int64_t rows, int64_t cols, const float* x, float* y) const {
    cuda::CrossEntropyArgs args{};
    args.rows = rows;
    args.cols = cols;
    args.logits = {x, cols};
    args.d_logits = {y, cols};
    cuda::cross_entropy(args, place_.stream);
  }

  /// Their values stay on the device: what lies outside the classes is found there, and told later.
  Labels labels(py::handle value, int64_t rows, int64_t, py::handle ignore_index, const char* function) const {
    const py::array header = header_of_any(value, function, "labels");
    const bool integers = header.dtype().kind() == 'i' && (header.itemsize() == 4 || header.itemsize() == 8);
    if (!integers)
      throw type_error(function,
                       "labels must be int32 or int64 on a GPU, got dtype " + std::string(py::str(header.dtype())));
    require_shape(header, {rows}, function, "labels", "(one label for each row)");
    Labels labels{header, {header.data(), header.itemsize() == 8}, Extent(header)};
    labels.labels.ignoring = !ignore_index.is_none();
    if (labels.labels.ignoring) labels.labels.ignored = integer_argument(ignore_index, function, "ignore_index");
    return labels;
  }
  void require_weights(const Input<float>&, const char*, const char*) const {}
  void require_products(const Input<float>&, const Input<float>&, const char*) const {}
  py::object cross_entropy(const CrossEntropy<float>& p, const Labels& labels) const {
    const cudaStream_t stream = place_.stream;
    const bool each = p.reduction == Reduction::none;
    const auto [loss, header] = fresh(each ? Shape{p.rows} : Shape{});
    float* const result = const_cast<float*>(static_cast<const float*>(header.data()));
    const auto rows = with_room(place_, [&] { return cuda::Buffer<float>(each ? 0 : p.rows, stream); });
    const auto totals = with_room(place_, [&] { return cuda::Buffer<cuda::Totals>(1, stream); });
    const bool weighted = p.reduction == Reduction::mean && (p.class_weight || p.row_weight || labels.labels.ignoring);
    if (weighted || p.class_weight)
      cuda::weigh_batch(labels.labels, p.cols, p.class_weight, p.row_weight, p.rows, false, totals.data(), stream);
    const double divisor = p.reduction == Reduction::mean ? static_cast<double>(p.rows) : 1;
    cuda::CrossEntropyArgs args{};
    args.rows = p.rows;
    args.cols = p.cols;
    args.logits = {p.logits, p.cols};
    args.labels = labels.labels;
    args.class_weight = p.class_weight;
    args.row_weight = p.row_weight;
    args.label_smoothing = p.label_smoothing;
    args.totals = totals.data();
    args.weighted = weighted;
    args.divisor = divisor;
    args.d_logits = {p.d_logits, p.cols};
    args.loss = each ? result : rows.data();
    if (p.rows > 0) cuda::cross_entropy(args, stream);
    cuda::reduce_losses(
        {p.rows, p.cols, args.loss, labels.labels, totals.data(), weighted, divisor, each ? nullptr : result, fault()},
        stream);
    return loss;
  }

 private:
  /// A new array of float32, as Python gets it, and its header.
  std::pair<py::object, py::array> fresh(const Shape& shape) const {
    if (make_.is_none()) {
      const auto make = [&] { return DeviceArray(py::dtype::of<float>(), shape, place_); };
      const DeviceArray made = with_room(place_, make);
      return {py::cast(made), made.header()};
    }
    const py::object made = with_room(place_, [&] { return made_by_library(shape); });
    return {made, header_of_any(made, "a new array", "out")};
  }
  /// Its own lack of memory is one of ours.
  py::object made_by_library(const Shape& shape) const {
    try {
      return make_(py::tuple(py::cast(shape)));
    } catch (const py::error_already_set& error) {
      const auto name = py::str(error.type().attr("__name__")).cast<std::string>();
      if (name.find("OutOfMemory") == std::string::npos) throw;
    }
    int64_t bytes = sizeof(float);
    for (const py::ssize_t n : shape) bytes *= n;
    throw cuda::out_of_memory(bytes);
  }
  py::array header_of_any(py::handle value, const char* function, const char* name) const {
    const py::array header = header_of(value, place_, function, name);
    if (!py::isinstance<DeviceArray>(value)) {
      foreign_.append(header);
      foreign_.append(value);
    }
    return header;
  }
  /// The header of an array of float32.
  py::array numbers(py::handle value, const char* function, const char* name) const {
    py::array header = header_of_any(value, function, name);
    const py::dtype dtype = header.dtype();
    if (dtype.kind() == 'f' && dtype.itemsize() == 8)
      throw cuda::Error(std::string(function) + ": " + name +
                        " has dtype float64; GPU kernels compute in float32: convert it, or compute on the CPU");
    if (dtype.kind() != 'f' || dtype.itemsize() != 4)
      throw type_error(function, std::string(name) + " has dtype " + std::string(py::str(dtype)) +
                                     "; GPU kernels take float32: convert it");
    return header;
  }
  cuda::Fault* fault() const {
    cuda::Fault*& its = label_faults()[{place_.device, place_.stream}];
    if (!its) its = new (cuda::allocate_pinned(sizeof(cuda::Fault))) cuda::Fault{};
    return its;
  }
  static cuda::GemmArgs product(const Product<float>& p, cuda::Finish finish) {
    return {p.m, p.n, p.k, on_device(p.a), on_device(p.b), finish, {p.c.data, p.c.ld}};
  }
  void multiply(cuda::GemmArgs args, const Product<float>& p, network::Precision precision) const {
    args.plan = cuda::plan_gemm(p.m, p.n, p.k, precision);
    const int64_t slices = args.plan.slices;
    const int64_t parts_bytes = cuda::tensor_bytes(p.m, p.n, p.k, args.plan.parts);
    const auto parts = with_room(place_, [&] { return cuda::Buffer<char>(parts_bytes, place_.stream); });
    const auto sums = with_room(place_, [&] { return Sums(slices > 1 ? slices * p.m * p.n : 0, place_.stream); });
    args.scratch = sums.scratch(parts.data());
    cuda::gemm(args, layout(p), place_.stream);
  }
  static cuda::Layout layout(const Product<float>& p) {
    return static_cast<cuda::Layout>(2 * int(p.transpose_a) + int(p.transpose_b));
  }

  Place place_;
  py::object make_;
  mutable py::object made_;  // the output, where none was given
  mutable py::list foreign_;
};

/// Of each row of x the class: int64.
DeviceArray classify(const DeviceArray& x) {
  cuda::require_device();
  const cuda::OnDevice here(x.device());
  const Place place{nullptr, x.device()};
  x.bring(place);
  const int64_t rows = x.header().shape(0), cols = x.header().shape(1);
  DeviceArray classes(py::dtype::of<int64_t>(), {rows}, place);
  auto* const out = static_cast<int64_t*>(const_cast<void*>(classes.header().data()));
  cuda::classify(rows, cols, {static_cast<const float*>(x.header().data()), cols}, out, place.stream);
  return classes;
}

/// Raises what a call found in its labels, once.
void raise_fault(volatile cuda::Fault* fault) {
  if (!fault || !fault->found) return;
  std::atomic_thread_fence(std::memory_order_acquire);  // the rest was written before `found`
  const int64_t index = fault->index, label = fault->label, classes = fault->classes;
  fault->found = 0;
  throw value_error("softmax_cross_entropy", "labels[" + std::to_string(index) + "] is " + std::to_string(label) +
                                                 ", outside 0 .. " + std::to_string(classes - 1) + " of the " +
                                                 std::to_string(classes) + " classes; a call before this one found it");
}

/// Ends a call: it keeps arrays of other libraries, and streams on which these work with them wait for it. Who replays
/// a graph sees to both.
void end_call(const Gpu& gpu, const Place& place, py::handle later) {
  if (cuda::is_capturing(place.stream)) return;
  keep(place.in_order ? py::list() : gpu.foreign(), place.stream);
  for (const py::handle stream : later) cuda::order(place.stream, stream_of(stream));
}

/// f for Python: ((stream, its owner, what makes arrays, whether all arrays are of the library whose stream it is now,
/// the streams that come after it), arguments ...).
template <class R, class... Args>
auto on_gpu(R (*f)(const Gpu&, Args...)) {
  return [f](const py::tuple& where, Args... args) {
    int device = -1;
    const auto look = [&](const auto& value) {
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, py::handle>) {
        try {
          if (device < 0) device = device_of(value);
        } catch (const py::error_already_set& error) {  // header_of() will say whose it is
          if (!error.matches(PyExc_Exception)) throw;
        } catch (const py::builtin_exception&) {
        }
      }
    };
    (look(args), ...);
    device = std::max(device, 0);
    cuda::require_device(device);
    const cuda::OnDevice here(device);
    const cuda::WhileCapturing allowed;
    const Place place{stream_of(where[0]), device, where[1], where[3].template cast<bool>()};
    give_back(place);
    raise_label_fault(place);
    const Gpu gpu(place, where[2]);
    if constexpr (std::is_void_v<R>) {
      f(gpu, args...);
      end_call(gpu, place, where[4]);
    } else {
      R result = f(gpu, args...);
      end_call(gpu, place, where[4]);
      return result;
    }
  };
}

}  // namespace

void make_room(const Place& place) {
  let_go(0);
  give_back(place, true);
  without_gil([] { cuda::trim(0); });
}

void raise_label_fault(const Place& place) {
  if (const auto its = label_faults().find({place.device, place.stream}); its != label_faults().end())
    raise_fault(its->second);
}

void register_cuda_kernels(py::module_& m) {
  m.def("gemm", on_gpu(gemm<Gpu>));
  m.def("linear", on_gpu(linear<Gpu>));
  m.def("linear_backward_input", on_gpu(linear_backward_input<Gpu>));
  m.def("linear_backward_weights", on_gpu(linear_backward_weights<Gpu>));
  m.def("activation", on_gpu(activation<Gpu>));
  m.def("activation_backward", on_gpu(activation_backward<Gpu>));
  m.def("relu", on_gpu(relu<Gpu>));
  m.def("relu_backward", on_gpu(relu_backward<Gpu>));
  m.def("bias_add", on_gpu(bias_add<Gpu>));
  m.def("bias_add_backward", on_gpu(bias_add_backward<Gpu>));
  m.def("softmax", on_gpu(softmax<Gpu>));
  m.def("softmax_cross_entropy", on_gpu(softmax_cross_entropy<Gpu>));
  m.def("sgd_step", on_gpu(sgd_step<Gpu>));
  m.def("classify", classify);
  m.def("synchronize", [] {
    without_gil(cuda::synchronize);
    let_go(0);
    give_back({nullptr, cuda::current_device()}, true);
    without_gil([] { cuda::trim(); });
    for (const auto& [stream, fault] : label_faults()) raise_fault(fault);
  });
}

}  // namespace mlpfast::bindings
