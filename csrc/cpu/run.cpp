#include "cpu/run.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/spare.h"
#include "cpu/thread_count.h"

namespace mlpfast::cpu {
namespace {

/// Outputs and metrics of some rows of the chunk that begins with row `first`, copied to their place in the whole.
template <class T>
void keep(const ForwardRun<T>& run, const Workspace<T>& work, int64_t first, Range rows) {
  const int64_t width = run.spec.sizes.back();
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    if (run.loss) {
      run.loss[first + i] = work.loss[i];
      run.correct[first + i] = work.correct[i];
    }
    if (run.outputs)
      std::memcpy(run.outputs + (first + i) * width, work.activation.back().row(i),
                  static_cast<std::size_t>(width) * sizeof(T));
  }
}

/// Members of a team for a batch that goes through each weight `passes` times.
int batch_threads(const network::Spec& spec, int64_t batch, double passes) {
  // Weights that fit into a core's L2 stay there: with few rows, sending them and activations from cache to cache takes
  // longer than the work (a step of 784-256-10 at batch 1 where L2 has 2 MB: 60 us on one core, 120 on two; where it
  // has 512 KB: 76 and 51).
  constexpr int64_t few_rows = 2 * rows_per_thread;
  if (batch < few_rows && spec.parameters() <= l2_bytes() / 8) return 1;
  return threads_for(passes * static_cast<double>(spec.parameters()) * static_cast<double>(batch));
}

int step_threads(const network::Spec& spec, int64_t batch) { return batch_threads(spec, batch, 3); }

/// Rows that a team evaluates or predicts at a time: enough that splitting weights for them is little, in memory that
/// very wide layers do not make large.
int64_t chunk_rows(const network::Spec& spec) {
  constexpr int64_t least = 128, most = 1024, most_numbers = 1 << 24;
  int64_t width = 0;
  for (const int64_t size : spec.sizes) width += size;
  return std::clamp(most_numbers / width / strip_size * strip_size, least, most);
}

}  // namespace

template <class T>
TrainingResult train(Job<T>& job, const TrainingRun& run) {
  const int64_t end = run.drop_last ? run.rows / run.batch * run.batch : run.rows;
  TrainingResult result{run.first, false};
  const int threads = step_threads(job.spec, run.batch);
  constexpr int64_t least_rows = 32, least_steps = 8;  // for which moving columns is little
  const bool owns = threads > 1 && job.workspace.blocks && run.mode == network::UpdateMode::fused &&
                    end - run.first >= std::max(least_rows, least_steps * run.batch);
  job.deadline = now() + run.seconds;
  job.seat(threads);
  run_team(threads, [&](Team& team) {
    Backend<T> backend(team, job);
    if (owns) backend.own_columns();
    int64_t next = run.first;
    while (next < end) {
      const int64_t rows = std::min(run.batch, end - next);
      const bool finite = network::train_step(backend, {next, rows}, run.mode);
      if (finite) next += rows;
      if (team.rank() == 0) result = {next, !finite};
      if (!finite || job.expired) break;
    }
    backend.end();
  });
  return result;
}

template <class T>
void gradients(Job<T>& job, int64_t rows) {
  const int threads = step_threads(job.spec, rows);
  job.seat(threads);
  run_team(threads, [&](Team& team) {
    Backend<T> backend(team, job);
    network::gradients(backend, {0, rows});
    if (team.rank() == 0) backend.add_metrics();
  });
}

template <class T>
int64_t forward(const ForwardRun<T>& run, int64_t first) {
  const int64_t chunk = chunk_rows(run.spec), size = std::min(run.rows, chunk);
  const int threads = batch_threads(run.spec, size, 1);
  Workspace<T> workspace(run.spec, size, Purpose::evaluation);
  const Spare memory(static_cast<std::size_t>(workspace.size()) * sizeof(T));
  workspace.place(memory.as<T>());
  Job<T> job{.spec = run.spec,
             .examples = run.examples,
             .workspace = std::move(workspace),
             .parameters = const_cast<T*>(run.parameters),
             .table = active_table<T>(),
             .tiles = active_isa().tiles};
  job.deadline = now() + run.seconds;
  job.seat(threads);
  run_team(threads, [&](Team& team) {
    Backend<T> backend(team, job);
    backend.prepare_weights({0, size});
    for (int64_t next = first; next < run.rows && !job.expired; next += chunk) {
      const int64_t rows = std::min(run.rows - next, chunk);
      if (run.loss) {
        network::evaluate(backend, {next, rows});
      } else {
        network::predict(backend, {next, rows});
      }
      keep(run, job.workspace, next, team.share(rows));
      if (team.rank() == 0) {
        first = next + rows;
        job.expired = now() > job.deadline;
      }
      team.barrier();
    }
  });
  return first;
}

template TrainingResult train<float>(Job<float>&, const TrainingRun&);
template void gradients<float>(Job<float>&, int64_t);
template int64_t forward<float>(const ForwardRun<float>&, int64_t);
template TrainingResult train<double>(Job<double>&, const TrainingRun&);
template void gradients<double>(Job<double>&, int64_t);
template int64_t forward<double>(const ForwardRun<double>&, int64_t);

}  // namespace mlpfast::cpu
