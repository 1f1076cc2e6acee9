// Which prompts a step reads, and how much of them, so that the step does not become long for
// others.
#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "ersd/decode/engine.h"

namespace ersd {
namespace {

// A step counts half as much as one that is 11 steps later.
constexpr double kRecentStep = 1.0 / 16;

}  // namespace

// Finds out which sequences read prompts in this step, how much, and which generate. Without a
// draft, the root goes into the same call as the end of the prompt, as llama.cpp's own programs
// have it.
void Engine::choose_readers(std::span<Sequence* const> sequences) {
  step_.clear();
  n_prompt_rows_ = 0;
  int32_t n_generating = 0;
  for (Sequence* s : sequences) {
    s->verified_.emitted.clear(), s->verified_.path.clear(), s->logprobs_.clear();
    if (!s->failure_) s->failure_ = std::exchange(s->verified_.failure, nullptr);
    s->n_read_ = s->failure_ ? 0 : n_missing(target_, *s);
    s->generates_ = !s->failure_ && s->n_read_ == 0;
    n_generating += s->generates_;
  }
  int32_t budget = target_.n_batch() - 1;
  if (n_generating > 0) budget = n_to_read(sequences, n_generating);
  for (Sequence* s : sequences) {
    const int32_t n_missing = s->n_read_;
    s->n_read_ = std::min(n_missing, budget);
    budget -= s->n_read_;
    n_prompt_rows_ += s->n_read_;
    if (n_missing > 0 && s->n_read_ == n_missing && !s->uses_model()) s->generates_ = true;
    if (s->generates_ || s->n_read_ > 0) step_.push_back(s);
  }
  load_ = {0, n_prompt_rows_, target_.abilities().n_rollback == 0};
  int64_t n_cached = 0;  // of each row
  for (const Sequence* s : step_) {
    load_.n_sequences += s->generates_, load_.n_rows += s->generates_;
    n_cached += static_cast<int64_t>(s->generates_ + s->n_read_) * target_.n_cached(s->place_);
  }
  set_n_cached(load_.n_rows > 0 ? n_cached / load_.n_rows : 0);
  load_.n_sequences = std::max(load_.n_sequences, 1);
  may_draft_ = load_.n_sequences == 1 || trials_.drafts(load_.n_sequences);
}

void Engine::set_n_cached(int64_t n_cached) {
  cost_.set_n_cached(static_cast<int32_t>(n_cached));
  drafter_.cost().set_n_cached(static_cast<int32_t>(n_cached));
}

// Returns how many tokens of prompts the step may read beside those sequences that generate.
int32_t Engine::n_to_read(std::span<Sequence* const> sequences, int32_t n_generating) {
  int64_t n_generated = 0;  // cached tokens of those that generate
  bool reads = false, draft_reads = false;
  n_read_before_ = 0;
  for (const Sequence* s : sequences) {
    const int32_t n_cached = target_.n_cached(s->place_);
    if (s->generates_) {
      n_generated += n_cached;
    } else if (s->n_read_ > 0) {
      reads = true;
      n_read_before_ = std::max(n_read_before_, n_cached);
      draft_reads = draft_reads || s->uses_model();
    }
  }
  if (!reads) return 0;
  if (!cost_.measured()) return pacer_.n_tokens(n_generating, n_read_before_);
  const double rows = std::max(rows_per_sequence_, 1.0) * n_generating;
  const auto n_rows = static_cast<int32_t>(std::lround(rows));
  set_n_cached(n_generated / n_generating);
  const double ordinary_ms = cost_(n_rows);
  const auto expected = [&](int32_t n) {
    if (n_rows + n > CostCurve::kWidths.back()) return 0.0;  // the curve does not know it
    set_n_cached((n_generated / n_generating * n_rows + int64_t{n_read_before_} * n) /
                 (n_rows + n));
    return (cost_(n_rows + n) + (draft_reads ? drafter_.cost()(n) : 0)) / ordinary_ms - 1;
  };
  return pacer_.n_tokens(n_generating, n_read_before_, std::cref(expected));
}

// While the target reads the prompt, the draft reads as much, unless it holds more of it already.
// Beside others, a draft that lags behind reads in pieces, too.
Growth Engine::choose_reading(Sequence& s) {
  DraftedTree& tree = s.drafted_;
  const int32_t n_cached = drafter_.model()->n_cached(s.place_);
  const int32_t end = s.generates_ ? n_cached + kCatchUp : target_.n_cached(s.place_) + s.n_read_;
  const int32_t n = std::min(static_cast<int32_t>(tree.history.size()), end);
  tree.history = tree.history.first(static_cast<size_t>(n));
  return n > n_cached ? Growth::kRead : Growth::kNone;
}

// Learns how long steps are with and without reading. n_beside: sequences that generated and read
// nothing.
void Engine::learn_pace(int32_t n_beside, double ms) {
  if (n_beside == 0) return;
  pacer_.learn(n_beside, n_prompt_rows_, ms, n_read_before_);
  if (n_prompt_rows_ > 0) return;
  const double rows = static_cast<double>(n_target_rows_) / n_beside;
  rows_per_sequence_ += kRecentStep * (rows - rows_per_sequence_);
}

}  // namespace ersd
