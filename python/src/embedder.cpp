// Bindings of what a model gives beside generated text: facts, embeddings and rows of logits.
#include "ersd/llama/embedder.h"

#include <nanobind/stl/vector.h>

#include <string>

#include "bind.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/model_facts.h"
#include "ersd/llama/row_reader.h"
#include "gil.h"
#include "load_options.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using llama::Embedder;
using llama::RowReader;

void make_embedder(Embedder* self, const llama::Model& model, const nb::kwargs& given) {
  llama::EmbedderOptions options;
  Keywords keywords(given);
  read_context_options(keywords, options.context);
  keywords.read("n_ubatch", options.n_ubatch);
  keywords.read("pooling_type", options.pooling_type);
  keywords.read("attention_type", options.attention_type);
  keywords.refuse_unread();
  const ReleasedGil no_gil;
  new (self) Embedder(model, options);
}

void make_row_reader(RowReader* self, const llama::Model& model, const nb::kwargs& given) {
  llama::ContextOptions options;
  Keywords keywords(given);
  read_context_options(keywords, options);
  keywords.refuse_unread();
  const ReleasedGil no_gil;
  new (self) RowReader(model, options);
}

// Rows of n numbers as an array of shape [n_rows, n].
auto rows_of(std::vector<float> values, int32_t n) {
  const auto columns = static_cast<size_t>(n);
  const size_t rows = values.size() / columns;
  return array_of(std::move(values), rows, columns);
}

auto embed(Embedder& embedder, const std::vector<std::vector<Token>>& texts) {
  std::vector<float> rows;
  {
    const ReleasedGil no_gil;
    rows = embedder.embed(texts);
  }
  return rows_of(std::move(rows), embedder.n_columns());
}

auto read_rows(RowReader& reader, const std::vector<Token>& tokens, int32_t n_past) {
  std::vector<float> rows;
  {
    const ReleasedGil no_gil;
    rows = reader.read(tokens, n_past);
  }
  return rows_of(std::move(rows), reader.n_vocab());
}

auto text_logprobs(RowReader& reader, const std::vector<Token>& tokens, int32_t n) {
  const nb::gil_scoped_release no_gil;
  return reader.logprobs(tokens, n);
}

nb::typed<nb::dict, nb::str, nb::str> metadata(const llama::ModelFacts& facts) {
  nb::typed<nb::dict, nb::str, nb::str> found;
  for (const auto& [key, value] : facts.metadata)
    found[nb::str(key.c_str(), key.size())] = nb::steal<nb::str>(
        PyUnicode_DecodeUTF8(value.data(), static_cast<Py_ssize_t>(value.size()), "replace"));
  return found;
}

void bind_facts(nb::module_& m) {
  nb::class_<llama::ModelFacts>(m, "ModelFacts", "What a model file says of itself.")
      .def_ro("address", &llama::ModelFacts::address)
      .def_ro("n_embd", &llama::ModelFacts::n_embd)
      .def_ro("nl", &llama::ModelFacts::nl)
      .def_ro("is_recurrent", &llama::ModelFacts::is_recurrent)
      .def_ro("is_hybrid", &llama::ModelFacts::is_hybrid)
      .def_prop_ro("metadata", &metadata, "All metadata that are no arrays, as text.");
  m.def("model_facts", &llama::model_facts, "model"_a);
  m.def(
      "tokenize_bytes",
      [](const llama::Model& model, const nb::bytes& text, bool add_special, bool parse_special) {
        return model.tokenize({text.c_str(), text.size()}, add_special, parse_special);
      },
      "model"_a, "text"_a, "add_special"_a, "parse_special"_a,
      "Tokenises a text whose bytes need not be UTF-8.");
}

}  // namespace

void bind_embedder(nb::module_& m) {
  bind_facts(m);
  nb::class_<Embedder>(m, "Embedder", "Embeddings of texts, pooled as llama.cpp does.")
      .def("__init__", &make_embedder,
           nb::sig("def __init__(self, model: Model, **options: object) -> None"),
           nb::keep_alive<1, 2>())
      .def_prop_ro("pooling_type", &Embedder::pooling_type)
      .def_prop_ro("n_batch", &Embedder::n_batch)
      .def_prop_ro("n_texts", &Embedder::n_texts)
      .def("embed", &embed, "texts"_a,
           "Returns the embeddings of texts, given as tokens, in one call; f32[n, n_columns]. "
           "Without pooling there is a row for each token, otherwise for each text.");
  nb::class_<RowReader>(m, "RowReader", "A text with the logits of every token.")
      .def("__init__", &make_row_reader,
           nb::sig("def __init__(self, model: Model, **options: object) -> None"),
           nb::keep_alive<1, 2>())
      .def("read", &read_rows, "tokens"_a, "n_past"_a,
           "Keeps the first n_past tokens, reads these after them, and returns their logits; "
           "f32[n, n_vocab].")
      .def("logprobs", &text_logprobs, "tokens"_a, "n"_a,
           "Reads a text, and returns the log-probability of each token but the first with those "
           "of the n most probable tokens in its place.");
}
