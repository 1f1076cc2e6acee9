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
#include "keywords.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using NoGil = nb::call_guard<nb::gil_scoped_release>;

// Lets Python handle its signals and returns whether a handler raised an error, such as
// KeyboardInterrupt. The error stays set until the call returns to Python. Only the main thread may
// handle signals.
class SignalPoll {
 public:
  bool operator()() {
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
  keywords.read("n_ctx", o.context.n_ctx);
  keywords.read("n_batch", o.context.n_batch);
  keywords.read("n_threads", o.context.n_threads);
  keywords.read("n_gpu_layers", o.model.n_gpu_layers);
  keywords.read("draft_n_gpu_layers", o.draft_n_gpu_layers);
  keywords.read("main_gpu", o.model.main_gpu);
  keywords.read("split_mode", o.model.split_mode);
  keywords.read("tensor_split", o.model.tensor_split);
  keywords.read("use_mmap", o.model.use_mmap);
  keywords.read("use_mlock", o.model.use_mlock);
  keywords.read("flash_attn", o.context.flash_attn);
  keywords.read("offload_kqv", o.context.offload_kqv);
  keywords.read("type_k", o.context.type_k);
  keywords.read("type_v", o.context.type_v);
  keywords.read("exact", o.exact);
  keywords.read("width_that_differs", o.width_that_differs);
  keywords.read("context_shift", o.context_shift);
  keywords.read("n_keep", o.n_keep);
  keywords.read("lora_path", o.model.lora_path);
  keywords.read("lora_scale", o.model.lora_scale);
  keywords.refuse_unread();
  return o;
}

nb::typed<nb::dict, nb::str, nb::any> to_dict(const Stats& s) {
  nb::typed<nb::dict, nb::str, nb::any> d;
  d["generated"] = s.generated;
  d["target_calls"] = s.target_calls;
  d["draft_calls"] = s.draft_calls;
  d["drafted"] = s.drafted;
  d["accepted"] = s.accepted;
  d["tokens_per_call"] = s.tokens_per_call();
  d["acceptance_rate"] = s.acceptance_rate();
  d["acceptance_histogram"] = s.acceptance_histogram;
  d["rank_histogram"] = s.rank_histogram;
  d["nodes_histogram"] = s.nodes_histogram;
  d["expected_tokens"] = s.expected_tokens;
  d["expected_ms"] = s.expected_ms;
  d["target_tokens"] = s.target_tokens;
  d["draft_tokens"] = s.draft_tokens;
  d["cached_tokens"] = s.cached_tokens;
  d["prefill_ms"] = s.prefill_ms;
  d["draft_ms"] = s.draft_ms;
  d["target_ms"] = s.target_ms;
  d["race_ms"] = s.race_ms;
  d["total_ms"] = s.total_ms;
  d["tokens_per_second"] = s.tokens_per_second();
  return d;
}

// The tokens and the bytes of both caches, the target's first.
using StateTuple = std::tuple<std::vector<Token>, nb::bytes, std::vector<Token>, nb::bytes>;

StateTuple save_state(Generator& generator) {
  const auto to_bytes = [](const std::vector<uint8_t>& data) {
    return nb::bytes(data.data(), data.size());
  };
  const Generator::State state = generator.save_state();
  return {state.target.tokens, to_bytes(state.target.data), state.draft.tokens,
          to_bytes(state.draft.data)};
}

void load_state(Generator& generator, std::vector<Token> tokens, const nb::bytes& data,
                std::vector<Token> draft_tokens, const nb::bytes& draft_data) {
  const auto to_vector = [](const nb::bytes& bytes) {
    const auto* begin = reinterpret_cast<const uint8_t*>(bytes.c_str());
    return std::vector<uint8_t>(begin, begin + bytes.size());
  };
  generator.load_state(
      {{std::move(tokens), to_vector(data)}, {std::move(draft_tokens), to_vector(draft_data)}});
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

void bind_steps(nb::module_& m) {
  nb::class_<Stats>(m, "Stats", "The counts and times of one generation; see ersd.Stats.")
      .def("to_dict", &to_dict);

  nb::class_<GenerationStep>(m, "GenerationStep")
      .def_ro("text", &GenerationStep::text)
      .def_ro("tokens", &GenerationStep::tokens)
      .def_ro("logprobs", &GenerationStep::logprobs)
      .def_ro("n_accepted", &GenerationStep::n_accepted)
      .def_prop_ro("finish_reason",
                   [](const GenerationStep& s) { return to_string(s.finish_reason); });
}

void bind_generator_class(nb::module_& m) {
  nb::class_<Generator>(m, "Generator", "A target and an optional draft; see ersd.Generator.")
      .def(
          "__init__",
          [](Generator* self, const std::string& target, const std::string& draft,
             const nb::kwargs& given) {
            const Generator::Options options = read_options(given);
            const nb::gil_scoped_release no_gil;
            new (self) Generator(target, draft, options, SignalPoll());
          },
          nb::sig("def __init__(self, target: str, draft: str, **options: object) -> None"))
      .def("check_prompt", &Generator::check_prompt, "prompt"_a)
      .def("start", &Generator::start, "prompt"_a, "options"_a, NoGil())
      .def("step", &Generator::step, NoGil())
      .def(
          "step_with_rank",
          [](Generator& g) {
            const RankedToken position = g.step_with_rank();
            return std::pair(position.token, position.rank);
          },
          NoGil())
      .def("end", &Generator::end)
      .def("forget", &Generator::forget)
      .def("profile", &Generator::profile)
      .def_prop_ro("measured", &Generator::measured)
      .def_prop_ro("n_measurements", &Generator::n_measurements)
      .def("restore", &Generator::restore, "profile"_a)
      .def("forecast", &Generator::forecast, NoGil())
      .def("reset", &Generator::reset)
      .def("save_state", &save_state,
           "Returns the tokens and the bytes of the target's cache, then those of the draft's "
           "cache.")
      .def("load_state", &load_state, "tokens"_a, "data"_a, "draft_tokens"_a, "draft_data"_a)
      .def_prop_ro("n_remain", &Generator::n_remain)
      .def("target_row", [](const Generator& g) { return to_numpy(g.target_row()); })
      .def("draft_row", [](const Generator& g) { return to_numpy(g.draft_row()); })
      .def_prop_ro("stats", [](const Generator& g) { return to_dict(g.stats()); })
      .def_prop_ro("target", &Generator::target, nb::rv_policy::reference_internal)
      .def_prop_ro("draft", &Generator::draft, nb::rv_policy::reference_internal)
      .def_prop_ro("exact", [](const Generator& g) { return g.exactness().holds; })
      .def_prop_ro("exact_reason", [](const Generator& g) { return g.exactness().reason; })
      .def_prop_ro("width_that_differs", &Generator::width_that_differs)
      .def_prop_ro("n_ctx", &Generator::n_ctx)
      .def_prop_ro("n_threads", &Generator::n_threads);
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
  bind_steps(m);
  bind_generator_class(m);
  bind_text_stream(m);
}
