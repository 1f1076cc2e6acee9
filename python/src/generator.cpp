// Bindings of Generator and TextStream. Calls that run a model release the GIL.
#include "ersd/generator.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <thread>

#include "bind.h"
#include "gil.h"
#include "keywords.h"
#include "load_options.h"
#include "request_handle.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using NoGil = nb::call_guard<ReleasedGil>;

// Lets Python handle its signals and returns whether a handler raised an error, such as
// KeyboardInterrupt. The error stays set until the call returns to Python. Only the main thread may
// handle signals. The end of the interpreter interrupts all other threads.
class SignalPoll {
 public:
  bool operator()() {
    if (interpreter_ends()) return true;
    const auto now = std::chrono::steady_clock::now();
    if (std::this_thread::get_id() != main_thread_ || now - last_ < kInterval) return false;
    last_ = now;
    const nb::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }
  static void set_main_thread() { main_thread_ = std::this_thread::get_id(); }

 private:
  static constexpr std::chrono::milliseconds kInterval{20};  // taking the GIL more often costs time
  static inline std::thread::id main_thread_;
  std::chrono::steady_clock::time_point last_{};
};

// Reads every option of a Generator from the keyword argument of its name.
Generator::Options read_options(const nb::kwargs& given) {
  Generator::Options o;
  Keywords keywords(given);
  read_model_options(keywords, o.model);
  read_context_options(keywords, o.context);
  keywords.read("draft_n_gpu_layers", o.draft_n_gpu_layers);
  keywords.read("n_parallel", o.n_parallel);
  keywords.read("n_ctx_total", o.n_ctx_total);
  keywords.read("prompt_share", o.prompt_share);
  keywords.read("n_history", o.n_history);
  keywords.read("drafts", o.drafts);
  keywords.read("exact", o.exact);
  keywords.read("width_that_differs", o.widths.differs);
  keywords.read("padding", o.widths.padding);
  keywords.read("context_shift", o.context_shift);
  keywords.read("n_keep", o.n_keep);
  keywords.refuse_unread();
  return o;
}

// The tokens and the bytes of both caches, the target's first.
using StateTuple = std::tuple<std::vector<Token>, nb::bytes, std::vector<Token>, nb::bytes>;

StateTuple save_state(Generator& generator) {
  const auto to_bytes = [](const std::vector<uint8_t>& data) {
    return nb::bytes(data.data(), data.size());
  };
  Generator::State state;
  {
    const ReleasedGil no_gil;
    state = generator.save_state();
  }
  return {state.target.tokens, to_bytes(state.target.data), state.draft.tokens,
          to_bytes(state.draft.data)};
}

void load_state(Generator& generator, std::vector<Token> tokens, const nb::bytes& data,
                std::vector<Token> draft_tokens, const nb::bytes& draft_data) {
  const auto to_vector = [](const nb::bytes& bytes) {
    const auto* begin = reinterpret_cast<const uint8_t*>(bytes.c_str());
    return std::vector<uint8_t>(begin, begin + bytes.size());
  };
  const Generator::State state{{std::move(tokens), to_vector(data)},
                               {std::move(draft_tokens), to_vector(draft_data)}};
  const ReleasedGil no_gil;
  generator.load_state(state);
}

void translate_exception(const std::exception_ptr& p, void*) {
  try {
    std::rethrow_exception(p);
  } catch (const Interrupted& e) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_KeyboardInterrupt, e.what());
  } catch (const llama::FileNotFound& e) {
    PyErr_SetString(PyExc_FileNotFoundError, e.what());
  }
}

void bind_requests(nb::class_<Generator>& generator) {
  generator.def("check_prompt", &Generator::check_prompt, "prompt"_a)
      .def(
          "submit",
          [](Generator& g, const std::vector<Token>& prompt, const GenerationOptions& options,
             bool wants_ranks) { return RequestHandle(g.submit(prompt, options, wants_ranks)); },
          "prompt"_a, "options"_a, "wants_ranks"_a = false, nb::keep_alive<0, 1>(), NoGil(),
          "Queues a request and returns at once.")
      .def(
          "next", [](Generator& g, RequestHandle& r) { return g.next(r.request()); }, "request"_a,
          NoGil(),
          "Waits for the next step of a request; None after its end. Raises the request's error.")
      .def(
          "cancel", [](Generator& g, RequestHandle& r) { g.cancel(r.request()); }, "request"_a,
          NoGil())
      .def("step_all", &Generator::step_all, "timeout_ms"_a, NoGil(),
           "Makes one step for all requests, or waits for another thread's step or for something "
           "to do. Returns whether anything was done.");
  const auto number = [&](const char* name, auto member) {
    generator.def_prop_ro(name, [member](Generator& g) { return g.snapshot().*member; }, NoGil());
  };
  number("n_active", &Generator::Snapshot::n_active);
  number("n_waiting", &Generator::Snapshot::n_waiting);
  number("n_free", &Generator::Snapshot::n_free);
  number("measured", &Generator::Snapshot::measured);
  number("n_measurements", &Generator::Snapshot::n_measurements);
  generator.def(
      "traffic",
      [](Generator& g) {
        Generator::Snapshot now;
        {
          const ReleasedGil no_gil;
          now = g.snapshot();
        }
        nb::typed<nb::dict, nb::str, nb::any> d;
        d["running"] = now.n_active;
        d["waiting"] = now.n_waiting;
        d["cells"] = g.models().n_ctx_total();
        d["cells_used"] = g.models().n_ctx_total() - now.n_free;
        d["target_calls"] = now.counts.calls;
        d["sequences"] = now.counts.sequences;
        d["rows"] = now.counts.rows;
        d["prompt_rows"] = now.counts.prompt_rows;
        d["tokens"] = now.counts.tokens;
        d["preemptions"] = now.n_preemptions;
        return d;
      },
      "Returns the fields of ersd.Traffic.");
}

void bind_models(nb::class_<Generator>& generator) {
  generator
      .def_prop_ro(
          "target", [](const Generator& g) -> const llama::Model& { return g.models().target(); },
          nb::rv_policy::reference_internal)
      .def_prop_ro(
          "draft", [](const Generator& g) { return g.models().draft(); },
          nb::rv_policy::reference_internal)
      .def_prop_ro("exact", [](const Generator& g) { return g.models().exactness().holds; })
      .def_prop_ro("exact_reason", [](const Generator& g) { return g.models().exactness().reason; })
      .def_prop_ro("width_that_differs",
                   [](const Generator& g) { return g.models().widths().differs; })
      .def_prop_ro("padding", [](const Generator& g) { return g.models().widths().padding; })
      .def(
          "memory_use",
          [](Generator& g) {
            const Generator::Memory memory = g.memory_use();
            std::vector<std::tuple<std::string, std::string, size_t, size_t, size_t>> rows;
            for (const auto& m : memory.target)
              rows.emplace_back("target", m.device, m.weights, m.cache, m.compute);
            for (const auto& m : memory.draft)
              rows.emplace_back("draft", m.device, m.weights, m.cache, m.compute);
            return rows;
          },
          NoGil(), "Returns (model, device, bytes of weights, cache and calls) for each device.")
      .def_prop_ro("n_ctx", [](const Generator& g) { return g.models().n_ctx(); })
      .def_prop_ro("n_ctx_total", [](const Generator& g) { return g.models().n_ctx_total(); })
      .def_prop_ro("n_cells", [](const Generator& g) { return g.models().n_ctx_total(); })
      .def_prop_ro("n_parallel", &Generator::n_parallel)
      .def_prop_ro("n_threads", &Generator::n_threads);
}

void bind_generator_class(nb::module_& m) {
  nb::class_<Generator> generator(m, "Generator",
                                  "A target and an optional draft; see "
                                  "ersd.Generator.");
  generator
      .def(
          "__init__",
          [](Generator* self, const std::string& target, const std::string& draft,
             const nb::kwargs& given) {
            const Generator::Options options = read_options(given);
            const ReleasedGil no_gil;
            new (self) Generator(target, draft, options, SignalPoll());
          },
          nb::sig("def __init__(self, target: str, draft: str, **options: object) -> None"))
      .def("forget", &Generator::forget, NoGil())
      .def("profile", &Generator::profile, NoGil())
      .def("restore", &Generator::restore, "profile"_a, NoGil())
      .def("forecast", &Generator::forecast, NoGil())
      .def("reset", &Generator::reset, NoGil())
      .def("history", &Generator::history, NoGil(),
           "The tokens of earlier requests that are kept to draft from, with -1 between texts.")
      .def("add_history", &Generator::add_history, "tokens"_a, NoGil())
      .def("save_state", &save_state,
           "Returns the tokens and the bytes of the target's cache, then those of the draft's "
           "cache.")
      .def("load_state", &load_state, "tokens"_a, "data"_a, "draft_tokens"_a, "draft_data"_a);
  bind_requests(generator);
  bind_models(generator);
}

void bind_text_stream(nb::module_& m) {
  nb::class_<TextStream>(m, "TextStream",
                         "Turns the bytes of tokens into text that can be shown at once.")
      .def(nb::init<std::vector<std::string>>(), "stop"_a = std::vector<std::string>{})
      .def(
          "push",
          [](TextStream& t, const nb::bytes& bytes) {
            std::string out;
            t.push({bytes.c_str(), bytes.size()}, out);
            return out;
          },
          "bytes"_a)
      .def("finish",
           [](TextStream& t) {
             std::string out;
             t.finish(out);
             return out;
           })
      .def_prop_ro("stopped", &TextStream::stopped);
}

}  // namespace

void bind_generator(nb::module_& m) {
  SignalPoll::set_main_thread();
  nb::register_exception_translator(translate_exception);
  bind_generator_class(m);
  bind_text_stream(m);
}
