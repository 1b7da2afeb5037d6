// mlpfast._cuda: the training step, evaluation and prediction on an NVIDIA GPU. Private; mlpfast.model and
// mlpfast.trainer call it as they call _cpu, whose functions of the same names it has.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "bindings/device_array.h"
#include "bindings/register.h"
#include "bindings/spec.h"
#include "cuda/error.h"
#include "cuda/run.h"

namespace mlpfast::bindings {
namespace {

using cuda::Session;
using network::Spec;

/// Examples as a session takes them: bytes or float32 without gaps, on the device or in the host's memory. `keep`
/// holds what had to be copied, and what must stay.
struct Given {
  py::object keep[4];
  cuda::GivenExamples examples{};

  Given(const Spec& spec, const py::object& x, py::handle labels, py::handle sample_weight, py::handle class_weight) {
    examples.on_device = py::isinstance<DeviceArray>(x);
    const py::array header = examples.on_device ? x.cast<const DeviceArray&>().header() : x.cast<py::array>();
    if (header.ndim() != 2 || header.shape(1) != spec.sizes.front())
      throw value_error("network", "x has shape " + shape_text(shape_of(header)) + ", expected rows of " +
                                       std::to_string(spec.sizes.front()) + " features");
    examples.bytes = header.itemsize() == 1 && header.dtype().kind() != 'i';
    if (examples.on_device) {
      const auto& array = x.cast<const DeviceArray&>();
      cuda::require_device();
      if (array.device() != cuda::current_device())
        throw value_error("network", "x lies on GPU " + std::to_string(array.device()) +
                                         ", the model computes on GPU " + std::to_string(cuda::current_device()) +
                                         "; bring x there");
      array.bring({nullptr, array.device()});
      if (!examples.bytes && !header.dtype().equal(py::dtype::of<float>()))
        throw type_error("network", "x has dtype " + std::string(py::str(header.dtype())) +
                                        "; on a GPU it must be uint8, bool or float32");
    }
    const py::array read = examples.on_device ? header : as_they_are_read(header);
    keep[0] = py::make_tuple(x, read);
    examples.features = read.data();
    examples.rows = read.shape(0);
    examples.labels = column<std::int32_t>(1, labels, examples.rows, "y");  // from labels(), which checked the range
    examples.sample_weight = column<float>(2, sample_weight, examples.rows, "sample_weight");
    examples.class_weight = column<float>(3, class_weight, spec.sizes.back(), "class_weight");
  }

 private:
  /// Numbers beyond float32 become infinite without a word, as on a CPU.
  py::array as_they_are_read(const py::array& x) const {
    constexpr int flags = py::array::c_style | py::array::forcecast;
    if (examples.bytes) return py::array_t<std::uint8_t, flags>(x);
    const py::object quiet = py::module_::import("numpy").attr("errstate")(py::arg("over") = "ignore");
    quiet.attr("__enter__")();
    py::array_t<float, flags> cast = py::array_t<float, flags>::ensure(x);
    quiet.attr("__exit__")(py::none(), py::none(), py::none());
    if (!cast) throw py::error_already_set();
    return cast;
  }
  template <class T>
  const T* column(int i, py::handle value, int64_t size, const char* name) {
    if (value.is_none()) return nullptr;
    const py::array_t<T, py::array::c_style> array(py::reinterpret_borrow<py::object>(value));
    require_shape(array, {size}, "network", name, "");
    keep[i] = array;
    return array.data();
  }
};

/// What lasts from one call of a fit to the next.
struct Workspace {
  Given given;
  std::unique_ptr<Session> session;

  Workspace(const Spec& spec, Given&& given_, int64_t batch, bool training) : given(std::move(given_)) {
    cuda::require_device();
    const Place place{nullptr, cuda::current_device()};
    give_back(place);
    with_room(place, [&] {
      without_gil([&] { session = std::make_unique<Session>(spec, given.examples, batch, training); });
    });
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() {
    end_without_gil([&] { session.reset(); });
  }
};

std::unique_ptr<Workspace> workspace(py::handle, const py::tuple& plain_spec, int64_t batch, const py::object& x,
                                     py::handle labels, py::handle sample_weight, py::handle class_weight) {
  const Spec spec = spec_from(plain_spec);
  if (batch < 1) throw value_error("network", "batch must be positive");
  return std::make_unique<Workspace>(spec, Given(spec, x, labels, sample_weight, class_weight), batch, true);
}

/// Whether x still is what the workspace was made of.
Session& session_of(Workspace& workspace, const py::object& x, const Spec& spec) {
  const py::tuple shape = x.attr("shape");
  const py::tuple want = py::make_tuple(workspace.session->rows(), spec.sizes.front());
  if (!shape.equal(want))
    throw value_error("network", "x has shape " + std::string(py::str(shape)) + ", its workspace was made for " +
                                     std::string(py::str(want)));
  return *workspace.session;
}

/// As _cpu.train, whose arguments see; the examples are those of the workspace. It returns at the end of an epoch, and
/// runs the handlers of signals meanwhile: parameters cross to the device and back once.
bool train(py::handle parameters, const py::tuple& plain_spec, py::handle, const py::tuple& rule, const py::object& x,
           py::handle, py::handle, py::handle, py::handle order, Workspace& workspace, py::handle progress_value,
           const py::tuple& how) {
  const Spec spec = spec_from(plain_spec);
  const int64_t count = spec.parameters();
  Session& session = session_of(workspace, x, spec);
  Progress progress(progress_value);
  cuda::TrainingRun run{};
  run.first = progress.row();
  run.batch = how[0].cast<int64_t>();
  run.drop_last = how[1].cast<bool>();
  run.mode = how[2].cast<bool>() ? network::UpdateMode::fused : network::UpdateMode::store;
  run.seconds = how[3].cast<double>();
  run.rule = rule_from<float>(rule, count);
  run.parameters = flat_array<float>(parameters, count, "parameters");
  if (run.batch < 1 || run.batch > session.batch() || run.first < 0)
    throw value_error("network", "batch must be positive and at most the workspace's, the first row not negative");
  run.shuffled = !order.is_none();
  if (run.shuffled) {
    const auto [seed, epoch] = order.cast<std::pair<std::uint64_t, std::uint64_t>>();
    run.shuffle = ops::Shuffle(session.rows(), seed, epoch);
  }
  run.metrics = progress.metrics();
  std::optional<py::error_already_set> interrupt;
  run.goes_on = [&] {
    const py::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) interrupt.emplace();
    return !interrupt;
  };
  cuda::TrainingResult result{};
  without_gil([&] { result = session.train(spec, run); });
  progress.advance(result.next, result.metrics);
  if (interrupt) throw py::error_already_set(*interrupt);
  return !result.diverged;
}

/// (loss sum, weight, correct, rows), summed in order as on a CPU.
struct Losses {
  std::vector<float> loss;
  std::vector<std::uint8_t> correct;

  explicit Losses(int64_t rows) : loss(static_cast<std::size_t>(rows)), correct(static_cast<std::size_t>(rows)) {}
  py::tuple metrics() const {
    network::Metrics sums{0, static_cast<double>(loss.size()), 0, static_cast<int64_t>(loss.size())};
    for (const float l : loss) sums.loss += static_cast<double>(l);
    for (const std::uint8_t c : correct) sums.correct += c;
    return metrics_tuple(sums);
  }
};

py::tuple gradients(py::handle parameters, const py::tuple& plain_spec, py::handle gradient, const py::object& x,
                    py::handle, Workspace& workspace) {
  const Spec spec = spec_from(plain_spec);
  Session& session = session_of(workspace, x, spec);
  const float* weights = flat_array<float>(parameters, spec.parameters(), "parameters");
  float* out = flat_array<float>(gradient, spec.parameters(), "gradient");
  if (!out || session.rows() < 1 || session.batch() < session.rows())
    throw value_error("network", "gradients need a row, an array and a workspace for them");
  Losses losses(session.rows());
  without_gil([&] { session.gradients(weights, out, losses.loss.data(), losses.correct.data()); });
  return losses.metrics();
}

/// Where x lies: an array of NumPy, or a DeviceArray.
py::object predict(py::handle parameters, const py::tuple& plain_spec, const py::object& x) {
  const Spec spec = spec_from(plain_spec);
  Given given(spec, x, py::none(), py::none(), py::none());
  const int64_t rows = given.examples.rows;
  const float* weights = flat_array<float>(parameters, spec.parameters(), "parameters");
  const Shape shape{rows, spec.sizes.back()};
  py::object outputs;
  float* out = nullptr;
  if (given.examples.on_device) {
    const DeviceArray made(py::dtype::of<float>(), shape, {nullptr, cuda::current_device()});
    out = static_cast<float*>(const_cast<void*>(made.header().data()));
    outputs = py::cast(made);
  } else {
    py::array made = new_array<float>(shape, "MLP");
    out = pointer<float>(made);
    outputs = made;
  }
  if (rows == 0) return outputs;
  const Workspace made(spec, std::move(given), std::min(rows, cuda::chunk_rows(spec)), false);
  without_gil([&] { made.session->predict(weights, out); });
  return outputs;
}

py::tuple evaluate(py::handle parameters, const py::tuple& plain_spec, const py::object& x, py::handle labels) {
  const Spec spec = spec_from(plain_spec);
  Given given(spec, x, labels, py::none(), py::none());
  const int64_t rows = given.examples.rows;
  const float* weights = flat_array<float>(parameters, spec.parameters(), "parameters");
  Losses losses(rows);
  if (rows == 0) return losses.metrics();
  const Workspace made(spec, std::move(given), std::min(rows, cuda::chunk_rows(spec)), false);
  without_gil([&] { made.session->evaluate(weights, losses.loss.data(), losses.correct.data()); });
  return losses.metrics();
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const cuda::Error& error) {
    PyErr_SetString(py::module_::import("mlpfast.errors").attr("DeviceError").ptr(), error.what());
  }
}

}  // namespace
}  // namespace mlpfast::bindings

PYBIND11_MODULE(_cuda, m) {  // needs Python's lock: a DeviceArray's place, and what is kept for streams, have none
  using namespace mlpfast::bindings;
  py::register_local_exception_translator(translate);
  py::class_<Workspace>(m, "Workspace", py::module_local());
  m.def("why_unavailable", [] {
    std::string reason;
    without_gil([&] { reason = mlpfast::cuda::why_unavailable(); });
    return reason;
  });
  m.def("set_most_free_bytes", mlpfast::cuda::set_most_free_bytes);
  register_device_array(m);
  register_cuda_kernels(m);
  m.def("workspace", workspace);
  m.def("train", train);
  m.def("gradients", gradients);
  m.def("predict", predict);
  m.def("evaluate", evaluate);
}
