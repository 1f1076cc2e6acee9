// Bindings of the teacher of a draft.
#include "ersd/llama/teacher.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <utility>

#include "bind.h"
#include "ersd/logprobs.h"
#include "ersd/race.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using NoGil = nb::call_guard<nb::gil_scoped_release>;

// [n_rows, values.size() / n_rows]
template <class T>
auto table(std::vector<T> values, int32_t n_rows) {
  const auto rows = static_cast<size_t>(n_rows), columns = values.size() / std::max<size_t>(rows, 1);
  return array_of(std::move(values), rows, columns);
}

}  // namespace

void bind_teacher(nb::module_& m) {
  using llama::Teacher;
  nb::class_<Teacher>(m, "Teacher", "A model beside many texts at once, saying of each what comes next.")
      .def(
          "__init__",
          [](Teacher* self, const llama::Model& model, int32_t n_texts, int32_t n_ctx, int32_t n_threads) {
            new (self) Teacher(model, {n_texts, n_ctx, n_threads});
          },
          "model"_a, nb::kw_only(), "n_texts"_a = llama::TeacherOptions{}.n_texts, "n_ctx"_a = llama::TeacherOptions{}.n_ctx,
          "n_threads"_a = llama::TeacherOptions{}.n_threads, nb::keep_alive<1, 2>())
      .def_prop_ro("n_texts", &Teacher::n_texts)
      .def("length", &Teacher::length, "text"_a)
      .def(
          "decode", [](Teacher& t, const std::vector<int32_t>& texts, const std::vector<Token>& tokens) { t.decode(texts, tokens); }, "texts"_a,
          "tokens"_a, NoGil(), "One call: each token goes to the end of its text. What follows has a row for each.")
      .def(
          "sample",
          [](const Teacher& t, const std::vector<float>& temperatures, const std::vector<uint64_t>& seeds) {
            Race race;
            std::vector<Token> out;
            for (int32_t row = 0; row < t.n_rows(); ++row) {
              const auto i = static_cast<size_t>(row);
              const Clock clock(seeds.at(i), static_cast<uint32_t>(t.position(row) + 1));
              out.push_back(race.winner(t.logits(row), {temperatures.at(i), 0, 1, 0}, clock).token);
            }
            return out;
          },
          "temperatures"_a, "seeds"_a, NoGil(), "The next token of each row, by the races of its seed over the whole vocabulary.")
      .def(
          "top",
          [](const Teacher& t, int32_t n) {
            Logprobs logprobs;
            std::vector<Token> tokens;
            std::vector<float> values;
            n = std::min(n, t.n_vocab());
            for (int32_t row = 0; row < t.n_rows(); ++row)
              for (const auto& [token, value] : logprobs(t.logits(row), 0, n).top) tokens.push_back(token), values.push_back(value);
            return std::pair(table(std::move(tokens), t.n_rows()), table(std::move(values), t.n_rows()));
          },
          "n"_a, "The n most probable tokens of each row, the most probable first, and their log-probabilities; i32, f32[n_rows, n].")
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
      .def("copy", &Teacher::copy, "from_text"_a, "to_text"_a, "Text to_text becomes a copy of text from_text.");
}
