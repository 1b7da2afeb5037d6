#include "cpu/run.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

namespace mlpfast::cpu {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// A chunk's outputs and metrics, copied to their place in the whole.
template <class T>
void keep(const ForwardRun<T>& run, const Workspace<T>& work, Range rows) {
  const auto count = static_cast<std::size_t>(rows.size());
  const int64_t width = run.spec.sizes.back();
  if (run.loss) {
    std::memcpy(run.loss + rows.begin, work.loss, count * sizeof(T));
    std::memcpy(run.correct + rows.begin, work.correct, count);
  }
  for (int64_t i = 0; run.outputs && i < rows.size(); ++i)
    std::memcpy(run.outputs + (rows.begin + i) * width, work.activation.back().row(i),
                static_cast<std::size_t>(width) * sizeof(T));
}

}  // namespace

int step_threads(const network::Spec& spec, int64_t batch) {
  // Weights that fit into a core's L2 stay there while one thread updates them: with few rows, sending them from cache
  // to cache takes longer than the step (784-256-10 at batch 1: 60 us on one core, 120 on two).
  constexpr int64_t cached_parameters = 1 << 18, few_rows = 2 * rows_per_thread;
  if (batch < few_rows && spec.parameters() <= cached_parameters) return 1;
  return threads_for(3.0 * static_cast<double>(spec.parameters()) * static_cast<double>(batch));
}

template <class T>
TrainingResult train(typename Backend<T>::Job& job, const TrainingRun& run) {
  const int64_t end = run.drop_last ? run.rows / run.batch * run.batch : run.rows;
  const double deadline = now() + run.seconds;
  TrainingResult result{run.first, false};
  bool expired[2] = {false, false};  // of even and odd steps: written in one, read after its last barrier
  const int threads = step_threads(job.spec, run.batch);
  job.finite.assign(static_cast<std::size_t>(threads), 1);
  run_team(threads, [&](Team& team) {
    Backend<T> backend(team, job);
    int64_t next = run.first;
    for (int parity = 0; next < end; parity ^= 1) {
      const int64_t rows = std::min(run.batch, end - next);
      if (team.rank() == 0) expired[parity] = now() > deadline;
      const bool finite = network::train_step(backend, {next, rows}, run.mode);
      if (finite) next += rows;
      if (team.rank() == 0) result = {next, !finite};
      if (!finite || expired[parity]) break;
    }
  });
  return result;
}

template <class T>
void gradients(typename Backend<T>::Job& job, int64_t rows) {
  const int threads = step_threads(job.spec, rows);
  job.finite.assign(static_cast<std::size_t>(threads), 1);
  run_team(threads, [&](Team& team) {
    Backend<T> backend(team, job);
    network::gradients(backend, {0, rows});
    backend.loss_is_finite();
  });
}

template <class T>
void forward(const ForwardRun<T>& run) {
  if (run.rows == 0) return;
  const int64_t chunks = (run.rows + chunk_rows - 1) / chunk_rows, size = std::min(run.rows, chunk_rows);
  const double work = static_cast<double>(run.spec.parameters()) * static_cast<double>(run.rows);
  const int threads = static_cast<int>(std::min<int64_t>(chunks, threads_for(work)));
  const int64_t first = Workspace<T>::size(run.spec, size, Purpose::evaluation),
                other = Workspace<T>::size(run.spec, size, Purpose::member);
  const std::unique_ptr<T[]> block(new T[static_cast<std::size_t>(first + other * (threads - 1))]);
  std::vector<typename Backend<T>::Job> jobs;  // made here, because nothing may throw inside a team
  for (int t = 0; t < threads; ++t) {
    Workspace<T> workspace(run.spec, size, t == 0 ? Purpose::evaluation : Purpose::member,
                           t == 0 ? block.get() : block.get() + first + other * (t - 1));
    for (std::size_t l = 0; t > 0 && l < workspace.images.size(); ++l)
      workspace.images[l].weights = jobs[0].workspace.images[l].weights;
    jobs.push_back({run.spec,
                    run.examples,
                    std::move(workspace),
                    const_cast<T*>(run.parameters),
                    nullptr,
                    nullptr,
                    active_table<T>(),
                    active_isa().tiles,
                    {},
                    {1}});
  }
  run_team(threads, [&](Team& team) {
    Team::Meeting meeting;
    Team alone(0, 1, meeting);
    auto& job = jobs[static_cast<std::size_t>(team.rank())];
    Backend<T>(team, job).split_weights({0, size});
    Backend<T> backend(alone, job);
    const Range share = team.share(chunks);
    for (int64_t c = share.begin; c < share.end; ++c) {
      const Range rows{c * chunk_rows, std::min(run.rows, (c + 1) * chunk_rows)};
      const typename Backend<T>::Batch batch{rows.begin, rows.size()};
      if (run.loss) {
        network::evaluate(backend, batch);
      } else {
        network::predict(backend, batch);
      }
      keep(run, job.workspace, rows);
    }
  });
}

template TrainingResult train<float>(Backend<float>::Job&, const TrainingRun&);
template void gradients<float>(Backend<float>::Job&, int64_t);
template void forward<float>(const ForwardRun<float>&);
template TrainingResult train<double>(Backend<double>::Job&, const TrainingRun&);
template void gradients<double>(Backend<double>::Job&, int64_t);
template void forward<double>(const ForwardRun<double>&);

}  // namespace mlpfast::cpu
