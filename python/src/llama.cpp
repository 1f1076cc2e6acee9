// Bindings of the room llama: models, teachers and llama.cpp itself. Calls that run a model release
// the GIL.
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <utility>

#include "bind.h"
#include "ersd/decode/options.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/samplers.h"
#include "ersd/llama/teacher.h"
#include "ersd/race/logprobs.h"
#include "ersd/race/race.h"
#include "ersd/verify/filtered_race.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using NoGil = nb::call_guard<nb::gil_scoped_release>;

// [n_rows, values.size() / n_rows]
template <class T>
auto table(std::vector<T> values, int32_t n_rows) {
  const auto rows = static_cast<size_t>(n_rows),
             columns = values.size() / std::max<size_t>(rows, 1);
  return array_of(std::move(values), rows, columns);
}

}  // namespace

void bind_llama(nb::module_& m) {
  using llama::Teacher;
  nb::class_<llama::Model>(m, "Model", "A loaded GGUF file; see ersd.Generator.")
      .def(
          "__init__",
          [](llama::Model* self, const std::string& path, int32_t n_gpu_layers) {
            const nb::gil_scoped_release no_gil;
            llama::ModelOptions options;
            options.n_gpu_layers = n_gpu_layers;
            new (self) llama::Model(path, options);
          },
          "path"_a, "n_gpu_layers"_a = -1)
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
      .def(
          "process_logits",
          [](const llama::Model& model, const GenerationOptions& options,
             const std::vector<Token>& history, size_t n_prompt, const Floats& row) {
            LogitsProcessorList processors = llama::make_logits_processors(
                model, options.processors, n_prompt, static_cast<int32_t>(history.size()));
            const DraftTree tree(history.back());
            const std::span<const Token> committed(history.data(), history.size() - 1);
            auto shaped = processors.process_target(committed, tree, 0, view(row));
            FilteredRace race;
            if (const Allowed allowed = processors.allowed(committed, tree, 0))
              shaped = race.mask(shaped, allowed);
            return to_numpy(shaped);
          },
          "options"_a, "history"_a, "n_prompt"_a, "row"_a,
          "A row of logits as the options shape it after these tokens, before truncation; "
          "f32[n_vocab].");

  nb::class_<Teacher>(m, "Teacher",
                      "A model beside many texts at once, saying of each what comes next.")
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
          "One call: each token goes to the end of its text. What follows has a row for each.")
      .def(
          "sample",
          [](const Teacher& t, const std::vector<float>& temperatures,
             const std::vector<uint64_t>& seeds) {
            Race race;
            std::vector<Token> out;
            for (int32_t row = 0; row < t.n_rows(); ++row) {
              const auto i = static_cast<size_t>(row);
              const Clock clock(seeds.at(i), static_cast<uint32_t>(t.position(row) + 1));
              out.push_back(race.winner(t.logits(row), {temperatures.at(i), 0, 1, 0}, clock).token);
            }
            return out;
          },
          "temperatures"_a, "seeds"_a, NoGil(),
          "The next token of each row, by the races of its seed over the whole vocabulary.")
      .def(
          "top",
          [](const Teacher& t, int32_t n) {
            Logprobs logprobs;
            std::vector<Token> tokens;
            std::vector<float> values;
            n = std::min(n, t.n_vocab());
            for (int32_t row = 0; row < t.n_rows(); ++row)
              for (const auto& [token, value] : logprobs(t.logits(row), 0, n).top)
                tokens.push_back(token), values.push_back(value);
            return std::pair(table(std::move(tokens), t.n_rows()),
                             table(std::move(values), t.n_rows()));
          },
          "n"_a,
          "The n most probable tokens of each row, the most probable first, and their "
          "log-probabilities; i32, f32[n_rows, n].")
      .def(
          "states",
          [](const Teacher& t) {
            std::vector<float> out;
            for (int32_t row = 0; row < t.n_rows(); ++row) {
              const auto state = t.state(row);
              out.insert(out.end(), state.begin(), state.end());
            }
            return table(std::move(out), t.n_rows());
          },
          "What the output matrix is applied to; f32[n_rows, n_embd].")
      .def("clear", &Teacher::clear, "text"_a)
      .def("copy", &Teacher::copy, "from_text"_a, "to_text"_a,
           "Text to_text becomes a copy of text from_text.");

  m.def(
      "devices",
      [] {
        std::vector<std::tuple<std::string, std::string, bool>> found;
        for (const auto& d : llama::devices()) found.emplace_back(d.name, d.description, d.gpu);
        return found;
      },
      "The devices that llama.cpp found: (name, description, whether it is a GPU).");
  m.def("features", &llama::features, "What llama.cpp's build uses, in its own words.");
  m.def("take_log", &llama::start, "Takes llama.cpp's log back from whoever set it last.");
  m.def("set_verbose", &llama::set_verbose, "verbose"_a);
  m.def("quantize", &llama::quantize, "path"_a, "out_path"_a, "type"_a, "n_threads"_a = 0, NoGil());
}
