// The end of the threads that are in the core when the interpreter ends.
#include "gil.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "ersd/model/language_model.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace std::chrono_literals;

// A model is interrupted between two operations. Other work, such as loading a model, may take
// longer than this; the process then ends while it goes on.
constexpr auto kLongestWait = 10s;
constexpr auto kPoll = 1ms;

// There is no mutex here, since a forked child would find it as some thread of its parent left it.
std::atomic<bool> ends{false};          // whether the interpreter ends
std::atomic<std::thread::id> ending{};  // by which thread
std::atomic<int> n_in_core{0};          // threads that have released the lock, or take it again

void end_threads() {
  ending = std::this_thread::get_id();
  ends = true;
  {
    const nb::gil_scoped_release released;  // some threads may be about to take it
    const auto deadline = std::chrono::steady_clock::now() + kLongestWait;
    while (n_in_core > 0 && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(kPoll);
  }
  // What other threads hold is never deleted, and is no leak that anybody could mend.
  if (nb::cast<int>(nb::module_::import_("threading").attr("active_count")()) > 1)
    nb::set_leak_warnings(false);
}

}  // namespace

bool interpreter_ends() { return ends && ending.load() != std::this_thread::get_id(); }

ReleasedGil::ReleasedGil() {
  ++n_in_core;
  state_ = PyEval_SaveThread();
}

// end_threads() waits for those that it has counted, so that they take the lock before the end.
ReleasedGil::~ReleasedGil() {
  if (interpreter_ends()) {
    --n_in_core;
    for (;;) std::this_thread::sleep_for(1h);
  }
  PyEval_RestoreThread(state_);
  --n_in_core;
}

HeldGil::Permission::Permission() {
  if (interpreter_ends()) throw ersd::Interrupted();
}

void end_threads_at_exit() {
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&end_threads));
  const nb::module_ os = nb::module_::import_("os");
  if (nb::hasattr(os, "register_at_fork"))  // a child has only the thread that has made it
    os.attr("register_at_fork")("after_in_child"_a = nb::cpp_function([] { n_in_core = 0; }));
}
