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

// Masks whole words of tokens, and returns the greatest logit that is left. Words that allow
// nothing are not read, and not written either where `before`, the last mask of `out`, allowed
// nothing.
ERSD_VECTORISED float mask_words(const float* logits, const uint32_t* mask, const uint32_t* before,
                                 size_t n_words, float* out) {
  float greatest[kMaskBits];
  std::fill_n(greatest, kMaskBits, kNone);
  for (size_t word = 0; word < n_words; ++word, logits += kMaskBits, out += kMaskBits) {
    const uint32_t bits = mask[word];
    if (bits == 0) {
      if (before == nullptr || before[word] != 0) std::fill_n(out, kMaskBits, kNone);
      continue;
    }
    for (size_t i = 0; i < kMaskBits; ++i) {
      const float kept = (bits & (1u << i)) != 0 ? logits[i] : kNone;
      greatest[i] = kept > greatest[i] ? kept : greatest[i];
      out[i] = kept;
    }
  }
  return *std::max_element(greatest, greatest + kMaskBits);
}

// Masks a row, which may be the same memory as `out`, and returns the greatest logit that is left;
// see mask_words().
float mask_row(std::span<const float> logits, TokenMask mask, const uint32_t* before, float* out) {
  const size_t n_words = logits.size() / kMaskBits;
  float greatest = mask_words(logits.data(), mask.data(), before, n_words, out);
  for (size_t token = n_words * kMaskBits; token < logits.size(); ++token) {
    out[token] = (mask[n_words] >> (token % kMaskBits) & 1u) != 0 ? logits[token] : kNone;
    if (out[token] > greatest) greatest = out[token];
  }
  return greatest;
}

void check_some_left(float greatest) {
  if (!(greatest > kNone))
    throw std::runtime_error(
        "the grammar and the other options leave no token: none that it allows has a probability");
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
  if (const auto found = masks_.find(path); found != masks_.end()) return found->second;
  if (spare_.empty()) {
    Masks fresh;
    fresh.try_emplace({}, n_words_);
    spare_.push_back(fresh.extract(fresh.begin()));
  }
  matcher_->write_mask(path, spare_.back().mapped());
  spare_.back().key().assign(path.begin(), path.end());
  const auto place = masks_.insert(std::move(spare_.back())).position;
  spare_.pop_back();
  return place->second;
}

void GrammarMasks::commit(std::span<const Token> history) {
  matcher_->commit(history.subspan(n_committed_));
  n_committed_ = history.size();
  while (!masks_.empty()) spare_.push_back(masks_.extract(masks_.begin()));
}

void mask_logits(std::span<float> logits, TokenMask mask) {
  check_some_left(mask_row(logits, mask, nullptr, logits.data()));
}

std::span<const float> MaskedRow::mask(std::span<const float> logits, TokenMask mask) {
  const bool is_same_size = row_.size() == logits.size();
  row_.resize(logits.size());
  mask_.resize(mask.size());
  const float greatest = mask_row(logits, mask, is_same_size ? mask_.data() : nullptr, row_.data());
  mask_.assign(mask.begin(), mask.end());
  check_some_left(greatest);
  return row_;
}

}  // namespace ersd
