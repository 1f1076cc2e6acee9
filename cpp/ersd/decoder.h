// The decoding step: draft a tree, check it in one target call, keep what won.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ersd/drafter.h"
#include "ersd/language_model.h"
#include "ersd/options.h"
#include "ersd/verify.h"

namespace ersd {

class Decoder {
 public:
  // draft may be null: then every method is plain sampling by the same races. Both models must outlive the decoder.
  Decoder(LanguageModel& target, LanguageModel* draft);

  // Forgets the last generation and decodes the prompt but its last token. prompt: i32[1 or more].
  void start(std::span<const Token> prompt, const GenerationOptions& options);

  // One target call; the tokens it gave, at least one and at most `limit` (1 or more). Valid until the next step.
  // If a model throws, the tokens so far stand and the next start() sets everything right.
  std::span<const Token> step(int32_t limit);

  // How many of the next tokens the context can still take.
  int32_t room() const { return target_.n_ctx() - static_cast<int32_t>(tokens_.size()); }

  const Stats& stats() const { return stats_; }
  Stats& stats() { return stats_; }
  const RankHistogram& histogram() const { return histogram_; }

 private:
  bool drafting() const { return drafter_ && options_.method != Method::kAr; }
  TreeShape shape(int32_t max_depth) const;
  void count();

  LanguageModel& target_;
  std::unique_ptr<Drafter> drafter_;
  GenerationOptions options_;
  Race race_;
  RankHistogram histogram_;
  DraftTree tree_;
  Verified verified_;
  std::vector<Token> tokens_;   // prompt and answer; the last one is the next root
  std::vector<int32_t> nodes_;  // 0, 1, 2, ...
  Stats stats_;
};

}  // namespace ersd
