// Bindings of the room model: what tests need of language models, the table model and the ledger.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "bind.h"
#include "ersd/model/cell_ledger.h"
#include "ersd/model/table_model.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using Table = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using PartTuple = std::tuple<int32_t, std::vector<Token>, const DraftTree*, std::vector<int32_t>>;
using AcceptedTuple = std::tuple<int32_t, const DraftTree*, int32_t>;

void decode(LanguageModel& model, const std::vector<PartTuple>& tuples) {
  std::vector<Part> parts;
  for (const auto& [sequence, history, tree, nodes] : tuples)
    parts.push_back({sequence, history, tree, nodes});
  model.decode(parts);
}

void commit(LanguageModel& model, const std::vector<AcceptedTuple>& tuples) {
  std::vector<Accepted> accepted;
  for (const auto& [sequence, tree, node] : tuples) accepted.push_back({sequence, tree, node});
  model.commit(accepted);
}

void bind_language_model(nb::module_& m) {
  nb::class_<LanguageModel>(m, "LanguageModel", "A model that caches several sequences.")
      .def_prop_ro("n_vocab", &LanguageModel::n_vocab)
      .def_prop_ro("n_ctx", &LanguageModel::n_ctx)
      .def_prop_ro("n_sequences", &LanguageModel::n_sequences)
      .def_prop_ro("n_free", &LanguageModel::n_free)
      .def_prop_ro("max_nodes", &LanguageModel::max_nodes)
      .def_prop_ro("max_branches", &LanguageModel::max_branches)
      .def("reserve_nodes", &LanguageModel::reserve_nodes, "n"_a)
      .def(
          "cached",
          [](const LanguageModel& model, int32_t sequence) {
            const auto tokens = model.cached(sequence);
            return std::vector<Token>(tokens.begin(), tokens.end());
          },
          "sequence"_a = 0, "The committed tokens of a sequence.")
      .def("decode", &decode, "parts"_a,
           "Runs one call. A part is (sequence, history, tree, nodes).")
      .def(
          "logits",
          [](const LanguageModel& model, int32_t node, int32_t sequence) {
            return to_numpy(model.logits(node, sequence));
          },
          "node"_a, "sequence"_a = 0, "The logits of a node of the last call; f32[n_vocab].")
      .def("commit", &commit, "accepted"_a,
           "Ends the trees of sequences. An item is (sequence, tree, node).")
      .def("rollback", &LanguageModel::rollback, "n"_a, "sequence"_a = 0)
      .def("share", &LanguageModel::share, "from_sequence"_a, "to_sequence"_a, "n"_a)
      .def("occupy", &LanguageModel::occupy, "n"_a);
}

void bind_table_model(nb::module_& m) {
  nb::class_<TableModel, LanguageModel>(m, "TableModel",
                                        "A language model for tests. Its logits are rows of a "
                                        "table; a hash of all tokens so far chooses the row.")
      .def(
          "__init__",
          [](TableModel* self, const Table& table, int32_t n_ctx, int32_t n_sequences,
             int32_t n_ctx_total) {
            new (self)
                TableModel(std::vector<float>(table.data(), table.data() + table.size()),
                           static_cast<int32_t>(table.shape(1)), n_ctx, n_sequences, n_ctx_total);
          },
          "table"_a, "n_ctx"_a = 4096, "n_sequences"_a = 1, "n_ctx_total"_a = 0,
          "table: f32[n_rows, n_vocab]. n_ctx_total: 0 for n_ctx * n_sequences.")
      .def(
          "row",
          [](const TableModel& t, const std::vector<Token>& tokens) {
            const auto row = t.row(tokens);
            return array(std::vector<float>(row.begin(), row.end()));
          },
          "tokens"_a, "The logits that follow these tokens; f32[n_vocab].")
      .def_prop_ro("n_decoded", &TableModel::n_decoded)
      .def_prop_ro("n_calls", &TableModel::n_calls)
      .def_prop_ro("last_call",
                   [](const TableModel& t) {
                     const auto tokens = t.last_call();
                     return std::vector<Token>(tokens.begin(), tokens.end());
                   })
      .def_prop_ro("n_cached", [](const TableModel& t) { return t.n_cached(); });
}

void bind_cell_ledger(nb::module_& m) {
  nb::class_<CellLedger>(m, "CellLedger", "Which cells of a cache each place holds.")
      .def(nb::init<int32_t>(), "n_places"_a)
      .def("append", &CellLedger::append, "place"_a, "n"_a)
      .def("share", &CellLedger::share, "from_place"_a, "to_place"_a, "n"_a)
      .def("truncate", &CellLedger::truncate, "place"_a, "n"_a)
      .def("n_held", &CellLedger::n_held, "place"_a)
      .def("shared_prefix", &CellLedger::shared_prefix, "a"_a, "b"_a)
      .def_prop_ro("n_live", &CellLedger::n_live);
}

}  // namespace

void bind_model(nb::module_& m) {
  bind_language_model(m);
  bind_table_model(m);
  bind_cell_ledger(m);
}
