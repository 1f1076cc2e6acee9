// Masks of a grammar, kept by path, and rows of logits under a mask.
#include "ersd/verify/grammar.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>

#include "ersd/race/simd/lanes.h"

namespace ersd {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

// Masks whole words of tokens, and returns the greatest logit that is left.
ERSD_VECTORISED float mask_words(const float* logits, const uint32_t* mask, size_t n_words,
                                 float* out) {
  float greatest[kMaskBits];
  std::fill_n(greatest, kMaskBits, kNone);
  for (size_t word = 0; word < n_words; ++word, logits += kMaskBits, out += kMaskBits)
    for (size_t i = 0; i < kMaskBits; ++i) {
      const float kept = (mask[word] & (1u << i)) != 0 ? logits[i] : kNone;
      greatest[i] = kept > greatest[i] ? kept : greatest[i];
      out[i] = kept;
    }
  return *std::max_element(greatest, greatest + kMaskBits);
}

}  // namespace

void list_tokens(TokenMask mask, size_t most, std::vector<Token>& out) {
  out.clear();
  for (size_t word = 0; word < mask.size(); ++word)
    for (uint32_t bits = mask[word]; bits != 0; bits &= bits - 1) {
      if (out.size() == most) return out.clear();
      out.push_back(static_cast<Token>(word * kMaskBits) + std::countr_zero(bits));
    }
}

TokenMask GrammarMasks::after(std::span<const Token> history) {
  const auto path = history.subspan(n_committed_);
  const auto [place, is_new] = masks_.try_emplace({path.begin(), path.end()});
  if (is_new) {
    try {
      place->second.resize(n_words_);
      matcher_->write_mask(path, place->second);
    } catch (...) {
      masks_.erase(place);
      throw;
    }
  }
  return place->second;
}

void GrammarMasks::commit(std::span<const Token> history) {
  matcher_->commit(history.subspan(n_committed_));
  n_committed_ = history.size();
  masks_.clear();
}

void mask_logits(std::span<const float> logits, TokenMask mask, std::span<float> out) {
  const size_t n_words = logits.size() / kMaskBits;
  float greatest = mask_words(logits.data(), mask.data(), n_words, out.data());
  for (size_t token = n_words * kMaskBits; token < logits.size(); ++token) {
    out[token] = (mask[n_words] >> (token % kMaskBits) & 1u) != 0 ? logits[token] : kNone;
    if (out[token] > greatest) greatest = out[token];
  }
  if (!(greatest > kNone))
    throw std::runtime_error(
        "the grammar and the other options leave no token: none that it allows has a probability");
}

}  // namespace ersd
