// Instruction sets, threads, and the lists that Python derives its names from.
#include <unistd.h>

#include <atomic>

#include "bindings/checks.h"
#include "bindings/register.h"
#include "cpu/team.h"
#include "cpu/thread_count.h"
#include "network/spec.h"

namespace mlpfast::bindings {
namespace {

/// Held by one `with` block at a time; what was held when the process forked is free in the child. In C++ because a
/// signal can strike between two instructions of Python, not between taking this and entering the block.
class Busy {
 public:
  void enter() {
    const pid_t self = getpid();
    pid_t owner = owner_;
    do {
      if (owner == self)
        throw std::runtime_error(
            "this model is being trained already, by another thread or by the fit that called this; train a copy, or "
            "wait");
    } while (!owner_.compare_exchange_weak(owner, self));
  }
  void exit(const py::args&) { owner_ = 0; }

 private:
  std::atomic<pid_t> owner_{0};
};

/// (name, whether it has kernels besides tile products)
py::list available_isas() {
  py::list names;
  cpu::visit_isas([](const char* name, bool vectors,
                     void* list) { static_cast<py::list*>(list)->append(py::make_tuple(name, vectors)); },
                  &names);
  return names;
}

py::dict activations() {
  py::dict table;
  for (const ops::ActivationInfo& info : ops::activations) {
    const char* saves = info.saves == ops::Saves::input ? "input" : "output";
    const py::object alpha = info.has_alpha ? py::object(py::float_(info.default_alpha)) : py::object(py::none());
    table[info.name] = py::make_tuple(saves, info.has_alpha, alpha);
  }
  return table;
}

py::list precisions() {
  py::list names;
  for (const char* name : network::precisions) names.append(name);
  return names;
}

}  // namespace

void register_config(py::module_& m) {
  py::class_<Busy>(m, "Busy").def(py::init<>()).def("__enter__", &Busy::enter).def("__exit__", &Busy::exit);
  m.def("isa", [] { return cpu::active_isa().name; });
  m.def("l2_bytes", cpu::l2_bytes);
  m.def("set_l2_bytes", cpu::set_l2_bytes);
  m.def("set_isa", [](const std::string& name) { cpu::set_isa(name.c_str()); });
  m.def("available_isas", available_isas);
  m.def("num_threads", cpu::num_threads);
  m.def("granted_cpus", cpu::granted_cpus);
  m.def("requested_threads", cpu::requested_threads);
  m.def("set_num_threads", cpu::set_num_threads);
  m.def("max_threads", [] { return cpu::max_threads; });
  m.def("activations", activations);
  m.def("precisions", precisions);
}

}  // namespace mlpfast::bindings
