// Bindings of models and generation. Calls into llama.cpp release the GIL.
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
#include "ersd/llama/backend.h"
#include "ersd/llama/samplers.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using NoGil = nb::call_guard<nb::gil_scoped_release>;

// Whether Python has a signal to handle, asked at most every 20 ms and only in the main thread,
// where signals are handled. The error that the handler raises (KeyboardInterrupt) stays set until
// the call returns.
class SignalPoll {
 public:
  bool operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (std::this_thread::get_id() != main_thread_ || now - last_ < std::chrono::milliseconds(20))
      return false;
    last_ = now;
    const nb::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }
  static void set_main_thread() { main_thread_ = std::this_thread::get_id(); }

 private:
  static inline std::thread::id main_thread_;
  std::chrono::steady_clock::time_point last_{};
};

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

}  // namespace

void bind_generator(nb::module_& m) {
  SignalPoll::set_main_thread();
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const Interrupted& e) {
      if (!PyErr_Occurred()) PyErr_SetString(PyExc_KeyboardInterrupt, e.what());
    } catch (const llama::FileNotFound& e) {
      PyErr_SetString(PyExc_FileNotFoundError, e.what());
    }
  });

  nb::class_<Stats>(m, "Stats", "Counts and times of one generation; see ersd.Stats.")
      .def("to_dict", &to_dict);

  nb::class_<GenerationStep>(m, "GenerationStep")
      .def_ro("text", &GenerationStep::text)
      .def_ro("tokens", &GenerationStep::tokens)
      .def_ro("logprobs", &GenerationStep::logprobs)
      .def_ro("n_accepted", &GenerationStep::n_accepted)
      .def_prop_ro("finish_reason",
                   [](const GenerationStep& s) { return to_string(s.finish_reason); });

  nb::class_<Generator>(m, "Generator", "A target and perhaps a draft; see ersd.Generator.")
      .def(
          "__init__",
          [](Generator* self, const std::string& target, const std::string& draft, int32_t n_ctx,
             int32_t n_batch, int32_t n_threads, int32_t n_gpu_layers, int32_t draft_n_gpu_layers,
             int32_t main_gpu, int32_t split_mode, std::vector<float> tensor_split, bool use_mmap,
             bool use_mlock, int32_t flash_attn, bool offload_kqv, std::string type_k,
             std::string type_v, bool context_shift, int32_t n_keep, std::string lora_path,
             float lora_scale) {
            Generator::Options options;
            options.target = {n_gpu_layers, main_gpu,  split_mode, std::move(tensor_split),
                              use_mmap,     use_mlock, {},         1};
            options.draft = options.target;
            options.draft.n_gpu_layers = draft_n_gpu_layers;
            options.target.lora_path = std::move(lora_path);
            options.target.lora_scale = lora_scale;
            options.context = {
                n_ctx,       n_batch, n_threads, flash_attn, std::move(type_k), std::move(type_v),
                offload_kqv, true};
            options.context_shift = context_shift;
            options.n_keep = n_keep;
            const nb::gil_scoped_release no_gil;
            new (self) Generator(target, draft, options, SignalPoll());
          },
          "target"_a, "draft"_a, nb::kw_only(), "n_ctx"_a, "n_batch"_a, "n_threads"_a,
          "n_gpu_layers"_a, "draft_n_gpu_layers"_a, "main_gpu"_a, "split_mode"_a, "tensor_split"_a,
          "use_mmap"_a, "use_mlock"_a, "flash_attn"_a, "offload_kqv"_a, "type_k"_a, "type_v"_a,
          "context_shift"_a, "n_keep"_a, "lora_path"_a, "lora_scale"_a)
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
      .def("restore", &Generator::restore, "profile"_a)
      .def("forecast", &Generator::forecast, NoGil())
      .def("reset", &Generator::reset)
      .def(
          "save",
          [](Generator& g) {
            const Generator::State state = g.save();
            const auto bytes = [](const std::vector<uint8_t>& data) {
              return nb::bytes(data.data(), data.size());
            };
            return std::tuple(state.target.tokens, bytes(state.target.data), state.draft.tokens,
                              bytes(state.draft.data));
          },
          "Tokens and bytes of the target's cache, then of the draft's.")
      .def(
          "load",
          [](Generator& g, std::vector<Token> tokens, const nb::bytes& data,
             std::vector<Token> draft_tokens, const nb::bytes& draft_data) {
            const auto copy = [](const nb::bytes& bytes) {
              const auto* begin = reinterpret_cast<const uint8_t*>(bytes.c_str());
              return std::vector<uint8_t>(begin, begin + bytes.size());
            };
            g.load({{std::move(tokens), copy(data)}, {std::move(draft_tokens), copy(draft_data)}});
          },
          "tokens"_a, "data"_a, "draft_tokens"_a, "draft_data"_a)
      .def_prop_ro("left", &Generator::left)
      .def("target_row", [](const Generator& g) { return to_numpy(g.target_row()); })
      .def("draft_row", [](const Generator& g) { return to_numpy(g.draft_row()); })
      .def_prop_ro("stats", [](const Generator& g) { return to_dict(g.stats()); })
      .def_prop_ro("target", &Generator::target, nb::rv_policy::reference_internal)
      .def_prop_ro("draft", &Generator::draft, nb::rv_policy::reference_internal)
      .def_prop_ro("n_ctx", &Generator::n_ctx)
      .def_prop_ro("n_threads", &Generator::n_threads);

  nb::class_<TextStream>(m, "TextStream", "Token bytes to text that can be shown.")
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
