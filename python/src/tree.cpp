// Bindings of the room tree: draft trees, their shapes and their batches.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bind.h"
#include "ersd/tree/batch.h"
#include "ersd/tree/draft_tree.h"
#include "ersd/tree/tree_shape.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

void bind_shapes(nb::module_& m) {
  nb::class_<TreeShape>(
      m, "TreeShape",
      "A draft tree of ranks instead of tokens: parent, rank and depth of each node, i32[k + 1]. "
      "Node 0 is the root; a node of rank r is the r-th token of the draft's order at its parent.")
      .def_ro("parent", &TreeShape::parent)
      .def_ro("rank", &TreeShape::rank)
      .def_ro("depth", &TreeShape::depth)
      .def("__len__", &TreeShape::size);
  m.def(
      "sequence_shape",
      [](int32_t k, int32_t max_depth) {
        return TreeShape(TreeShapeBuilder().build_sequence(k, max_depth));
      },
      "k"_a, "max_depth"_a, "A chain of k nodes; none is deeper than max_depth.");
  m.def(
      "batch_shape", [](int32_t k) { return TreeShape(TreeShapeBuilder().build_batch(k)); }, "k"_a,
      "k children of the root.");
  m.def(
      "optimal_shape",
      [](const std::vector<double>& p, int32_t k, int32_t max_depth) {
        return TreeShape(TreeShapeBuilder().build_optimal(p, k, max_depth));
      },
      "probabilities"_a, "k"_a, "max_depth"_a,
      "The shape of k nodes with the most expected tokens if ranks are i.i.d. with these "
      "probabilities.");
  m.def(
      "expected_tokens",
      [](const TreeShape& shape, const std::vector<double>& p) {
        std::vector<double> path;
        return expected_tokens(shape, p, path);
      },
      "shape"_a, "probabilities"_a,
      "Expected tokens per target call if ranks are i.i.d. with these probabilities.");
}

void bind_draft_tree(nb::module_& m) {
  nb::class_<DraftTree>(
      m, "DraftTree",
      "A tree of tokens as flat arrays in topological order. Node 0, the root, is the "
      "last committed token.")
      .def(nb::init<Token>(), "root"_a)
      .def("add", &DraftTree::add, "parent"_a, "token"_a, "sources"_a = 0,
           "Appends a child and returns its index.")
      .def("truncate", &DraftTree::truncate, "n"_a, "Drops the nodes from n on.")
      .def("child", &DraftTree::child, "node"_a, "token"_a,
           "The first child of a node with this token, or -1.")
      .def("__len__", &DraftTree::size)
      .def_prop_ro("n_branches", &DraftTree::n_branches)
      .def_prop_ro("tokens",
                   [](const DraftTree& t) {
                     return std::vector<Token>(t.tokens().begin(), t.tokens().end());
                   })
      .def_prop_ro("parents",
                   [](const DraftTree& t) {
                     return std::vector<int32_t>(t.parents().begin(), t.parents().end());
                   })
      .def_prop_ro("sources", [](const DraftTree& t) {
        return std::vector<int32_t>(t.sources().begin(), t.sources().end());
      });
}

void bind_lay_out(nb::module_& m) {
  m.def(
      "lay_out",
      [](const DraftTree& tree, const std::vector<Token>& history, int32_t max_sequences) {
        BatchLayout layout;
        const Batch& b = layout.lay_out(history, 0, tree, all_nodes(tree), max_sequences);
        std::vector<std::vector<int32_t>> sequences;
        for (int32_t i = 0; i < b.size(); ++i)
          sequences.emplace_back(b.sequence.begin() + b.offset[i],
                                 b.sequence.begin() + b.offset[i + 1]);
        return std::tuple(b.token, b.position, sequences);
      },
      "tree"_a, "history"_a = std::vector<Token>{}, "max_sequences"_a = kMaxDraftNodes,
      "The batch of a whole tree after the history: tokens, positions, and the sequences of each "
      "row.");
}

}  // namespace

void bind_tree(nb::module_& m) {
  bind_shapes(m);
  bind_draft_tree(m);
  bind_lay_out(m);
}
