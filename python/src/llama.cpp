// Bindings of the room llama: models, the teacher and llama.cpp as a whole. Calls that run a model
// release the GIL.
#include <nanobind/stl/array.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "bind.h"
#include "ersd/decode/options.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/context.h"
#include "ersd/llama/cores.h"
#include "ersd/llama/gguf_check.h"
#include "ersd/llama/host_memory.h"
#include "ersd/llama/samplers.h"
#include "ersd/llama/teacher.h"
#include "ersd/race/logprobs.h"
#include "ersd/race/race.h"
#include "gil.h"
#include "load_options.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using llama::Teacher;
using NoGil = nb::call_guard<ReleasedGil>;

// The values as an array of shape [n_rows, values.size() / n_rows].
template <class T>
auto table(std::vector<T> values, int32_t n_rows) {
  const auto rows = static_cast<size_t>(n_rows);
  const size_t columns = values.size() / std::max<size_t>(rows, 1);
  return array_of(std::move(values), rows, columns);
}

// A row of logits after the processors and the grammar, f32[n_vocab].
auto process_logits(const llama::Model& model, const GenerationOptions& options,
                    const std::vector<Token>& history, size_t n_prompt, const Floats& row) {
  LogitsProcessorList processors = llama::make_logits_processors(
      model, options.processors, n_prompt, static_cast<int32_t>(history.size()));
  const DraftTree tree(history.back());
  const std::span<const Token> committed(history.data(), history.size() - 1);
  return to_numpy(processors.process_target(committed, tree, 0, view(row)));
}

std::vector<Token> sample(const Teacher& teacher, const std::vector<float>& temperatures,
                          const std::vector<uint64_t>& seeds) {
  Race race;
  std::vector<Token> out;
  for (int32_t row = 0; row < teacher.n_rows(); ++row) {
    const auto i = static_cast<size_t>(row);
    const Clock clock(seeds.at(i), static_cast<uint32_t>(teacher.position(row) + 1));
    out.push_back(race.winner(teacher.logits(row), {temperatures.at(i), 0, 1, 0}, clock).token);
  }
  return out;
}

auto top(const Teacher& teacher, int32_t n) {
  Logprobs logprobs;
  std::vector<Token> tokens;
  std::vector<float> values;
  n = std::min(n, teacher.n_vocab());
  for (int32_t row = 0; row < teacher.n_rows(); ++row)
    for (const auto& [token, value] : logprobs(teacher.logits(row), 0, n).top) {
      tokens.push_back(token);
      values.push_back(value);
    }
  return std::pair(table(std::move(tokens), teacher.n_rows()),
                   table(std::move(values), teacher.n_rows()));
}

auto states(const Teacher& teacher) {
  std::vector<float> out;
  for (int32_t row = 0; row < teacher.n_rows(); ++row) {
    const auto state = teacher.state(row);
    out.insert(out.end(), state.begin(), state.end());
  }
  return table(std::move(out), teacher.n_rows());
}

void bind_model_file(nb::module_& m) {
  nb::class_<llama::Model>(m, "Model", "A GGUF file loaded by llama.cpp; see ersd.Generator.")
      .def(
          "__init__",
          [](llama::Model* self, const std::string& path, const nb::kwargs& given) {
            llama::ModelOptions options;
            Keywords keywords(given);
            read_model_options(keywords, options);
            keywords.read("vocab_only", options.vocab_only);
            keywords.read("any_kind", options.any_kind);
            keywords.refuse_unread();
            const ReleasedGil no_gil;
            new (self) llama::Model(path, options);
          },
          nb::sig("def __init__(self, path: str, **options: object) -> None"))
      .def_prop_ro("path", &llama::Model::path)
      .def_prop_ro("description", &llama::Model::description)
      .def_prop_ro("architecture", &llama::Model::architecture)
      .def_prop_ro("n_vocab", &llama::Model::n_vocab)
      .def_prop_ro("n_ctx_train", &llama::Model::n_ctx_train)
      .def_prop_ro("n_params", &llama::Model::n_params)
      .def_prop_ro("size", &llama::Model::size)
      .def_prop_ro("can_branch", &llama::Model::can_branch)
      .def_prop_ro("bos", &llama::Model::bos)
      .def_prop_ro("eos", &llama::Model::eos)
      .def_prop_ro("fim", &llama::Model::fim)
      .def("is_end", &llama::Model::is_end, "token"_a)
      .def("metadata", &llama::Model::metadata, "key"_a)
      .def("chat_prompt", &llama::Model::chat_prompt, "message"_a)
      .def("tokenize", &llama::Model::tokenize, "text"_a, "add_special"_a = true,
           "parse_special"_a = true, NoGil())
      .def(
          "piece",
          [](const llama::Model& model, Token token, bool special) {
            const std::string text = model.piece(token, special);
            return nb::bytes(text.data(), text.size());
          },
          "token"_a, "special"_a = false)
      .def("process_logits", &process_logits, "options"_a, "history"_a, "n_prompt"_a, "row"_a,
           "Returns what the options make of a row of logits after these tokens, before "
           "truncation; f32[n_vocab].");
}

void bind_context(nb::module_& m) {
  nb::class_<llama::Context, LanguageModel>(m, "Context", "A model with its cache, for tests.")
      .def(
          "__init__",
          [](llama::Context* self, const llama::Model& model, int32_t n_ctx, int32_t n_batch,
             int32_t n_threads, bool exact, bool ordered_cells, int32_t max_nodes,
             int32_t n_sequences, int32_t n_ctx_total, std::function<bool()> interrupted) {
            llama::ContextOptions options;
            options.n_ctx = n_ctx;
            options.n_batch = n_batch;
            options.n_threads = n_threads;
            options.exact = exact;
            options.ordered_cells = ordered_cells;
            options.max_nodes = max_nodes;
            options.n_sequences = n_sequences;
            options.n_ctx_total = n_ctx_total;
            new (self) llama::Context(model, options, std::move(interrupted));
          },
          "model"_a, nb::kw_only(), "n_ctx"_a = 512, "n_batch"_a = 512, "n_threads"_a = 1,
          "exact"_a = true, "ordered_cells"_a = true, "max_nodes"_a = kMaxDraftNodes,
          "n_sequences"_a = 1, "n_ctx_total"_a = 0, "interrupted"_a = nb::none(),
          nb::keep_alive<1, 2>())
      .def(
          "set_widths",
          [](llama::Context& context, int32_t step, int32_t most) {
            context.set_widths({step, most});
          },
          "step"_a, "most"_a = 0, "Pads the calls to come.")
      .def_prop_ro("n_buried", &llama::Context::n_buried)
      .def_prop_ro("n_decoded", &llama::Context::n_decoded)
      .def(
          "save_state",
          [](llama::Context& context, int32_t sequence) {
            llama::Context::State state = context.save_state(sequence);
            return std::pair(std::move(state.tokens),
                             nb::bytes(state.data.data(), state.data.size()));
          },
          "sequence"_a = 0)
      .def(
          "load_state",
          [](llama::Context& context, std::vector<Token> tokens, const nb::bytes& data,
             int32_t sequence) {
            const auto* begin = static_cast<const uint8_t*>(data.data());
            context.load_state({std::move(tokens), {begin, begin + data.size()}}, sequence);
          },
          "tokens"_a, "data"_a, "sequence"_a = 0);
}

void bind_teacher(nb::module_& m) {
  nb::class_<Teacher>(
      m, "Teacher",
      "A model that reads many texts side by side and predicts the next token of each.")
      .def(
          "__init__",
          [](Teacher* self, const llama::Model& model, int32_t n_texts, int32_t n_ctx,
             int32_t n_threads) { new (self) Teacher(model, {n_texts, n_ctx, n_threads}); },
          "model"_a, nb::kw_only(), "n_texts"_a = llama::TeacherOptions{}.n_texts,
          "n_ctx"_a = llama::TeacherOptions{}.n_ctx,
          "n_threads"_a = llama::TeacherOptions{}.n_threads, nb::keep_alive<1, 2>())
      .def_prop_ro("n_texts", &Teacher::n_texts)
      .def("length", &Teacher::length, "text"_a)
      .def(
          "decode",
          [](Teacher& t, const std::vector<int32_t>& texts, const std::vector<Token>& tokens) {
            t.decode(texts, tokens);
          },
          "texts"_a, "tokens"_a, NoGil(),
          "Appends each token to its text, all in one call. Row i then belongs to token i.")
      .def("sample", &sample, "temperatures"_a, "seeds"_a, NoGil(),
           "Returns the next token of each row: the winner of its seed's race over the whole "
           "vocabulary.")
      .def("top", &top, "n"_a,
           "Returns the n most probable tokens of each row, the most probable first, and their "
           "log-probabilities; i32[n_rows, n], f32[n_rows, n].")
      .def("states", &states,
           "Returns the hidden states, the input of the output matrix; f32[n_rows, n_embd].")
      .def("clear", &Teacher::clear, "text"_a)
      .def("copy", &Teacher::copy, "from_text"_a, "to_text"_a,
           "Makes text to_text a copy of text from_text.");
}

}  // namespace

void bind_llama(nb::module_& m) {
  bind_model_file(m);
  bind_context(m);
  bind_teacher(m);
  m.def(
      "devices",
      [] {
        std::vector<std::tuple<std::string, std::string, bool>> found;
        for (const auto& d : llama::devices()) found.emplace_back(d.name, d.description, d.gpu);
        return found;
      },
      "Returns the devices that llama.cpp found: (name, description, whether it is a GPU).");
  m.def(
      "cgroup_cores", &llama::cgroup_cores, "root"_a = "",
      "Returns the cores that the CPU quota of this process's control group pays for; 0 for none.");
  m.def("free_host_memory", &llama::free_host_memory, "root"_a = "",
        "Returns the bytes that this process may still take of the host's memory.");
  m.def("features", &llama::features,
        "Returns the features of llama.cpp's build as it lists them.");
  m.def("take_log", &llama::init_backend,
        "Routes llama.cpp's log to this library, whoever has set it before.");
  m.def("set_verbose", &llama::set_verbose, "verbose"_a, "Sets whether llama.cpp logs to stderr.");
  m.def(
      "check_model_file",
      [](const std::string& path) { llama::check_gguf(path, llama::GgufKind::kModel); }, "path"_a,
      NoGil(), "Raises ValueError unless the file is a GGUF model that can be loaded.");
  m.def("quantize", &llama::quantize, "path"_a, "out_path"_a, "type"_a, "n_threads"_a = 0, NoGil());
}
