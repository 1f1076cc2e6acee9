// Bindings of the room model: the table model.
#include <nanobind/stl/vector.h>

#include "bind.h"
#include "ersd/model/table_model.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using Table = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

}  // namespace

void bind_model(nb::module_& m) {
  nb::class_<LanguageModel>(m, "LanguageModel");
  nb::class_<TableModel, LanguageModel>(m, "TableModel",
                                        "A language model for tests. Its logits are rows of a "
                                        "table; a hash of all tokens so far chooses the row.")
      .def(
          "__init__",
          [](TableModel* self, const Table& table, int32_t n_ctx) {
            new (self) TableModel(std::vector<float>(table.data(), table.data() + table.size()),
                                  static_cast<int32_t>(table.shape(1)), n_ctx);
          },
          "table"_a, "n_ctx"_a = 4096, "table: f32[n_rows, n_vocab].")
      .def(
          "row",
          [](const TableModel& t, const std::vector<Token>& tokens) {
            const auto row = t.row(tokens);
            return array(std::vector<float>(row.begin(), row.end()));
          },
          "tokens"_a, "The logits that follow these tokens; f32[n_vocab].")
      .def_prop_ro("n_decoded", &TableModel::n_decoded)
      .def_prop_ro("n_calls", &TableModel::n_calls)
      .def_prop_ro("n_cached", [](const TableModel& t) { return t.n_cached(); });
}
