// The comparison of calls with one token and with several.
#include "ersd/model/width_test.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

namespace ersd {
namespace {

constexpr int32_t kTokens = 12;  // decoded in each way

// Kernels change at these widths: llama.cpp's take 2, 4 or 8 rows at a time, and attention takes
// another path from 64 rows on. Rows beyond the twelve tokens fill the call and are dropped.
constexpr std::array<int32_t, 6> kWidths{2, 3, 4, 8, 12, 65};

class WidthTest {
 public:
  explicit WidthTest(LanguageModel& model) : model_(model) {}

  int32_t run(int32_t n_cached) {
    model_.occupy(n_cached);
    base_.assign(model_.cached().begin(), model_.cached().end());
    const std::vector<size_t> expected = decode_by(1);
    for (const int32_t width : kWidths)
      if (decode_by(std::min(width, model_.max_nodes())) != expected) return width;
    return 0;
  }

 private:
  // Returns a hash of each token's row of logits.
  std::vector<size_t> decode_by(int32_t width) {
    model_.rollback(static_cast<int32_t>(base_.size()));
    std::vector<Token> history = base_;
    std::vector<size_t> hashes;
    for (int32_t begin = 0; begin < kTokens; begin += width) {
      const int32_t n_chain = std::min(width, kTokens - begin);
      DraftTree tree(token(begin));
      for (int32_t i = 1; i < n_chain; ++i) tree.add(i - 1, token(begin + i));
      while (tree.size() < width && width > kTokens) tree.add(tree.size() - 1, token(tree.size()));
      std::vector<int32_t> nodes;
      for (int32_t i = 0; i < tree.size(); ++i) nodes.push_back(i);
      model_.decode(history, tree, nodes);
      for (int32_t i = 0; i < n_chain; ++i) hashes.push_back(hash(model_.logits(i)));
      model_.commit(tree, n_chain - 1);
      history.insert(history.end(), tree.tokens().begin(), tree.tokens().begin() + n_chain);
    }
    return hashes;
  }

  Token token(int32_t i) const { return (7919 * (i + 1)) % model_.n_vocab(); }

  static size_t hash(std::span<const float> row) {
    const auto* bytes = reinterpret_cast<const char*>(row.data());
    return std::hash<std::string_view>()({bytes, row.size_bytes()});
  }

  LanguageModel& model_;
  std::vector<Token> base_;  // what the cache holds before the test's own tokens
};

}  // namespace

int32_t find_width_that_differs(LanguageModel& model, int32_t n_long) {
  WidthTest test(model);
  int32_t width = test.run(0);
  if (width == 0) width = test.run(n_long);
  model.rollback(0);
  return width;
}

}  // namespace ersd
