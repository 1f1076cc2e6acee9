// Layouts of any trees in any number of calls: every path is one sequence.
#include "ersd/tree/batch.h"

#include <algorithm>
#include <stdexcept>

#include "input.h"

using namespace ersd;
using fuzz::Input, fuzz::require;

namespace {

bool has_sequence(const Batch& batch, int32_t row, int32_t sequence) {
  const auto begin = batch.sequence.begin();
  return std::find(begin + batch.offset[row], begin + batch.offset[row + 1], sequence) !=
         begin + batch.offset[row + 1];
}

void check(const Batch& batch, const BatchLayout& layout, const DraftTree& tree,
           const std::vector<int32_t>& nodes, int32_t max_sequences) {
  require(batch.n_sequences <= max_sequences);
  require(batch.offset.size() == batch.token.size() + 1);
  require(std::ranges::is_sorted(batch.offset));
  for (const int32_t sequence : batch.sequence)
    require(sequence >= 0 && sequence < batch.n_sequences);
  for (const int32_t node : nodes) {
    require(batch.token.at(static_cast<size_t>(layout.row(node))) == tree.token(node));
    // All nodes above that are in this batch, and all of its history, are seen by this node.
    for (int32_t above = node; above >= 0; above = tree.parent(above))
      if (std::ranges::find(nodes, above) != nodes.end())
        require(has_sequence(batch, layout.row(above), layout.sequence(node)));
    for (int32_t row = 0; row < batch.n_history; ++row)
      require(has_sequence(batch, row, layout.sequence(node)));
  }
  for (const Batch::Copy& copy : batch.copies)
    require(copy.from != copy.to && copy.begin <= copy.end && copy.to < batch.n_sequences);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  DraftTree tree(input.up_to(500));
  for (int32_t n = input.up_to(40); n > 0; --n)
    tree.add(input.up_to(tree.size() - 1), input.up_to(500));
  const int32_t max_sequences = 1 + input.up_to(20);
  const std::vector<Token> history(static_cast<size_t>(input.up_to(4)), 7);
  static BatchLayout layout;
  layout.reset();
  int32_t begin = input.up_to(100), first = 0;
  try {
    while (first < tree.size()) {
      const int32_t last = first + 1 + input.up_to(tree.size() - first - 1);
      std::vector<int32_t> nodes;
      for (int32_t node = first; node < last; ++node) nodes.push_back(node);
      if (input.up_to(50) == 0 && nodes.size() > 1) std::swap(nodes.front(), nodes.back());
      const std::span<const Token> before(history.data(), first == 0 ? history.size() : 0);
      check(layout.lay_out(before, begin, tree, nodes, max_sequences), layout, tree, nodes,
            max_sequences);
      begin += static_cast<int32_t>(before.size() + nodes.size()), first = last;
    }
  } catch (const std::invalid_argument&) {
  } catch (const std::length_error&) {
  }
  return 0;
}
