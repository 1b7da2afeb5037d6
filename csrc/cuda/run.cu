#include "cuda/run.h"

#include <algorithm>
#include <chrono>

#include "cuda/backend.h"
#include "cuda/feed.h"

namespace mlpfast::cuda {
namespace {

using network::Batch;
using network::Spec;

constexpr int64_t most_recorded = 32;  // steps: recording more takes longer than it saves in a short training

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// How many of the steps between two looks at the clock to record: such a number that none are left over, if there is.
int64_t unit_of(int64_t pace) {
  for (int64_t unit = std::min(pace, most_recorded); 2 * unit >= most_recorded; --unit)
    if (pace % unit == 0) return unit;
  return std::min(pace, most_recorded);
}

/// At a time, where not all can stay on the device; a multiple of the batch.
int64_t rows_fed(const GivenExamples& from, int64_t cols, int64_t batch) {
  const int64_t bytes = std::min<int64_t>(1 << 24, free_bytes() / 8);
  const int64_t batches = std::max<int64_t>(1, bytes / (cols * from.bytes_of_a_feature() * batch));
  return batch * std::min(batches, (from.rows + batch - 1) / batch);
}

template <class T>
Buffer<T> uploaded(const T* from, int64_t size, cudaStream_t stream) {
  Buffer<T> buffer(from ? size : 0, stream);
  buffer.upload(from, stream);
  return buffer;
}

}  // namespace

int64_t chunk_rows(const Spec& spec) {
  require_device();
  constexpr int64_t least = 16, most = 1 << 14, number = sizeof(float);
  int64_t width = 0;
  for (const int64_t size : spec.sizes) width += size;
  return std::clamp(std::min<int64_t>(1 << 26, free_bytes() / 4 / number) / width, least, most);
}

struct Session::State {
  Spec spec;
  const GivenExamples given;
  const int64_t batch;
  const bool training;
  const bool resident;  // the examples stay on the device, else they are fed
  const int device;     // of all this
  Stream stream;
  Workspace arrays;
  Buffer<std::uint8_t> features;
  Buffer<std::int32_t> labels;
  Buffer<float> sample_weight, class_weight, parameters, block;
  Buffer<float> gradient, slots[ops::max_slots];  // where a call needs them
  std::unique_ptr<Feed> feed;
  Buffer<Control> control;
  Control at;
  Update rule;           // of the run at hand
  double next_look = 0;  // at whether that goes on
  Backend::Job job;
  struct Recording {  // of several steps, and what they depend on besides the control
    Graph graph;
    int64_t steps = 0, batch = 0;
    ops::Optimizer optimizer;
    network::UpdateMode mode;
    bool possible = true;
    int64_t pace = 1;  // steps between two looks at the clock, which Ctrl-C waits for too
  } recording;

  State(const Spec& spec_, const GivenExamples& from, int64_t batch_, bool training_)
      : spec(spec_),
        given(from),
        batch(batch_),
        training(training_),
        resident(from.on_device || bytes() <= free_bytes() / 2),
        device(current_device()),
        arrays(spec, batch, training, training && resident && batch < from.rows),
        class_weight(uploaded(from.class_weight, spec.sizes.back(), stream)),
        parameters(spec.parameters(), stream),
        block(arrays.size(), stream),
        control(1, stream),
        job{spec, {}, arrays, parameters.data(), nullptr, nullptr, control.data(), stream} {
    arrays.place(block.data());
    const auto begin = [&](const GemmScratch& scratch) {
      if (scratch.arrived) clear(scratch.arrived, most_tiles * int64_t(sizeof *scratch.arrived), stream);
    };
    begin(arrays.scratch);
    std::ranges::for_each(arrays.of_weights, begin);
    std::ranges::for_each(arrays.of_biases, begin);
    if (!resident) {
      feed = std::make_unique<Feed>(given, spec.inputs(0), rows_fed(given, spec.inputs(0), batch), stream);
      return;
    }
    const void* there = given.features;
    if (given.on_device) {
      order(nullptr, stream);
    } else {
      features = uploaded(static_cast<const std::uint8_t*>(given.features), bytes(), stream);
      there = features.data();
    }
    labels = uploaded(given.labels, given.rows, stream);
    sample_weight = uploaded(given.sample_weight, given.rows, stream);
    job.examples = {there, given.bytes, spec.inputs(0), labels.data(), sample_weight.data(), class_weight.data(),
                    false};
  }
  int64_t bytes() const { return given.rows * spec.inputs(0) * given.bytes_of_a_feature(); }
  /// Rows `first` .. of the order, for the next work.
  void bring(int64_t first, int64_t rows, const ops::Shuffle* order) {
    job.examples = feed->bring(first, rows, order, stream);
    job.examples.class_weight = class_weight.data();
  }
  void need_gradient() {
    if (!gradient.data()) gradient = Buffer<float>(spec.parameters(), stream);
    job.parameter_gradient = gradient.data();
  }
  void keep_losses(float* loss, std::uint8_t* correct, int64_t count) const {
    const auto n = static_cast<std::size_t>(count);
    check(cudaMemcpyAsync(loss, arrays.loss, n * sizeof(float), cudaMemcpyDeviceToHost, stream), "copying");
    check(cudaMemcpyAsync(correct, arrays.correct, n, cudaMemcpyDeviceToHost, stream), "copying");
  }
  /// `at` as the device finds it, and as it leaves it.
  void set_control() { control.upload(&at, stream); }
  void get_control() {
    control.download(&at, stream);
    stream.synchronize();
  }
};

Session::Session(const Spec& spec, const GivenExamples& examples, int64_t batch, bool training) {
  require_device();
  const WhileCapturing allowed;
  state_ = std::make_unique<State>(spec, examples, batch, training);
  state_->stream.synchronize();  // the copies are made
}

Session::~Session() {
  if (!state_) return;
  try {
    const OnDevice here(state_->device);
    const bool large = state_->training || state_->features.size() > kept_bytes;
    state_.reset();
    if (large) trim();      // examples may have taken half of the device
  } catch (const Error&) {  // the process ends, or is not the one that had a GPU
  }
}

int64_t Session::rows() const { return state_->given.rows; }
int64_t Session::batch() const { return state_->batch; }

/// `steps` whole batches; false if recording took part of the time. Some steps are recorded the second time that as
/// many are asked for: kernels are loaded by then, and a short training never waits for it.
bool Session::train_steps(const TrainingRun& run, int64_t steps) {
  State& s = *state_;
  State::Recording& r = s.recording;
  const auto ask = [&](int64_t count) {
    Backend backend(s.job);
    for (int64_t step = 0; step < count; ++step) network::train_step(backend, {0, run.batch}, run.mode);
  };
  // As many as before, while that is not far from the pace, which changes with whether they are recorded.
  const int64_t best = unit_of(r.pace);
  const bool fits = r.steps == best || (r.steps <= r.pace && r.pace < 8 * r.steps);
  const int64_t unit = fits ? r.steps : best;
  if (steps < unit) return ask(steps), true;
  if (!fits || r.batch != run.batch || r.optimizer != run.rule.optimizer || r.mode != run.mode) {
    r.graph.clear();
    r.possible = true;
    r.steps = unit;
    r.batch = run.batch;
    r.optimizer = run.rule.optimizer;
    r.mode = run.mode;
    return ask(steps), true;
  }
  const bool before = !r.graph.empty();
  try {
    if (!before && r.possible) r.graph.record([&] { ask(unit); });
  } catch (const Error&) {  // there is no memory for it, say
    r.possible = false;
  }
  if (r.graph.empty()) return ask(steps), true;
  for (; steps >= unit; steps -= unit) r.graph.launch(s.stream);
  ask(steps);
  return before;
}

/// The number of steps that takes some milliseconds, at most an equal part of an epoch.
void Session::keep_pace(const TrainingRun& run, double seconds) {
  constexpr int64_t most = 256;
  constexpr double short_time = 0.01, wanted = 0.02, long_time = 0.04;
  if (seconds >= short_time && seconds <= long_time) return;
  int64_t& pace = state_->recording.pace;
  const int64_t epoch = std::max<int64_t>(1, state_->given.rows / run.batch), parts = (epoch + most - 1) / most;
  const double steps = static_cast<double>(pace) * wanted / seconds;
  pace = static_cast<int64_t>(std::clamp(steps, 1.0, static_cast<double>((epoch + parts - 1) / parts)));
}

bool Session::goes_on(const TrainingRun& run) {
  State& s = *state_;
  if (s.at.diverged) return false;
  if (now() < s.next_look) return true;
  const bool yes = run.goes_on();
  s.next_look = now() + run.seconds;
  check(cudaSetDevice(s.device), "changing the device");  // which it may have done
  return yes;
}

void Session::train_resident(const TrainingRun& run, int64_t end) {
  State& s = *state_;
  int64_t next = run.first;
  do {
    const int64_t pace = s.recording.pace, whole = std::min(pace, (end - next) / run.batch);
    const double start = now();
    bool typical = true;
    if (whole > 0) {
      typical = train_steps(run, whole);
    } else {
      Backend backend(s.job);
      network::train_step(backend, {0, end - next}, run.mode);
    }
    next = std::min(end, next + std::max<int64_t>(1, whole) * run.batch);
    s.get_control();
    if (whole == pace && typical) keep_pace(run, now() - start);
  } while (next < end && goes_on(run));
}

/// The next chunk is gathered while the device works on this one.
void Session::train_fed(const TrainingRun& run, int64_t end) {
  State& s = *state_;
  const ops::Shuffle* const order = run.shuffled ? &run.shuffle : nullptr;
  const int64_t chunk = s.feed->rows() / run.batch * run.batch;
  int64_t next = run.first, rows = std::min(chunk, end - next);
  s.bring(next, rows, order);
  do {
    Backend backend(s.job);
    for (int64_t i = 0; i < rows; i += run.batch)
      network::train_step(backend, {i, std::min(run.batch, rows - i)}, run.mode);
    next += rows;
    rows = std::min(chunk, end - next);
    if (rows > 0) s.bring(next, rows, order);
    s.get_control();
  } while (next < end && goes_on(run));
}

TrainingResult Session::train(const Spec& spec, const TrainingRun& run) {
  State& s = *state_;
  const OnDevice here(s.device);
  const WhileCapturing allowed;
  require_device();
  if (spec.input_scale != s.spec.input_scale || spec.input_shift != s.spec.input_shift) {
    s.spec.input_scale = spec.input_scale;
    s.spec.input_shift = spec.input_shift;
    s.recording.steps = 0;
  }
  s.rule = {run.rule.optimizer, nullptr, {}, s.control.data()};
  s.parameters.upload(run.parameters, s.stream);
  for (int i = 0; i < ops::max_slots; ++i) {
    if (!run.rule.slots[i]) continue;
    if (!s.slots[i].data()) s.slots[i] = Buffer<float>(s.spec.parameters(), s.stream);
    s.slots[i].upload(run.rule.slots[i], s.stream);
    s.rule.slots[i] = s.slots[i].data();
  }
  if (run.mode == network::UpdateMode::store) s.need_gradient();
  s.job.rule = &s.rule;
  const network::Metrics& before = run.metrics;
  s.at = {run.first,      0,           before.loss,      before.weight, {},
          before.correct, before.rows, run.rule.scalars, run.shuffled,  run.shuffled ? run.shuffle : s.at.shuffle};
  s.set_control();

  const int64_t end = run.drop_last ? s.given.rows / run.batch * run.batch : s.given.rows;
  s.next_look = now() + run.seconds;
  if (s.resident) {
    train_resident(run, end);
  } else {
    train_fed(run, end);
  }
  s.job.rule = nullptr;
  s.parameters.download(run.parameters, s.stream);
  for (int i = 0; i < ops::max_slots; ++i)
    if (run.rule.slots[i]) s.slots[i].download(run.rule.slots[i], s.stream);
  s.stream.synchronize();
  return {s.at.next, s.at.diverged != 0, {s.at.loss, s.at.weight, s.at.correct, s.at.rows}};
}

void Session::gradients(const float* parameters, float* gradient, float* loss, std::uint8_t* correct) {
  State& s = *state_;
  const OnDevice here(s.device);
  s.need_gradient();
  in_chunks(parameters, [&](Backend& backend, Batch batch, int64_t) {
    network::gradients(backend, batch);
    s.keep_losses(loss, correct, batch.rows);
    s.gradient.download(gradient, s.stream);
  });
}

/// pass(backend, batch, its first row)
template <class Pass>
void Session::in_chunks(const float* parameters, const Pass& pass) {
  State& s = *state_;
  const OnDevice here(s.device);
  const WhileCapturing allowed;
  require_device();
  s.parameters.upload(parameters, s.stream);
  s.at = {};
  s.set_control();
  Backend backend(s.job);
  for (int64_t row = 0; row < s.given.rows; row += s.batch) {
    const int64_t rows = std::min(s.batch, s.given.rows - row);
    if (!s.resident) s.bring(row, rows, nullptr);
    pass(backend, {s.resident ? row : 0, rows}, row);
  }
  s.stream.synchronize();
}

void Session::evaluate(const float* parameters, float* loss, std::uint8_t* correct) {
  const State& s = *state_;
  in_chunks(parameters, [&](Backend& backend, Batch batch, int64_t row) {
    network::evaluate(backend, batch);
    s.keep_losses(loss + row, correct + row, batch.rows);
  });
}

void Session::predict(const float* parameters, float* outputs) {
  const State& s = *state_;
  const int64_t cols = s.spec.sizes.back();
  in_chunks(parameters, [&](Backend& backend, Batch batch, int64_t row) {
    network::predict(backend, batch);
    const auto bytes = static_cast<std::size_t>(batch.rows * cols) * sizeof(float);
    check(cudaMemcpyAsync(outputs + row * cols, s.arrays.activation.back().data, bytes, cudaMemcpyDefault, s.stream),
          "copying");
  });
}

}  // namespace mlpfast::cuda
