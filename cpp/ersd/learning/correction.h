// A draft that corrects itself: if the target's probabilities at a verified position differ from
// the draft's, later logits of the draft are moved towards the target. Races allow this, because
// the draft changes what is proposed, never what is emitted.
#pragma once

#include <cstddef>
#include <span>
#include <unordered_map>
#include <vector>

#include "ersd/race/noise.h"
#include "ersd/race/truncation.h"

namespace ersd {

// Two biases are added to the logit of a token in every row of the draft: one that is the same
// everywhere, and one for the token just before. Both are gradient steps on the divergence of the
// two distributions; steps get shorter the more of them there were (AdaGrad: Duchi, Hazan and
// Singer, 2011).
class Correction {
 public:
  // As the token before, it stands for any token.
  static constexpr Token kAny = -1;

  // The bias of a token, and the sum of the squared differences of probability behind it.
  struct Entry {
    Token token;
    float bias, squares;
  };

  // How far the target's logit of a token is above the draft's.
  struct Difference {
    Token token;
    float logit;
  };

  // Adds the biases for the token after `before` to a row of the draft's logits; f32[n_vocab].
  void apply(Token before, std::span<float> row) const;

  // Learns from a verified position. With d = target's probability - draft's probability of a
  // token,
  //   squares += d^2 and bias += 0.7 * T * d / sqrt(0.03 + squares)
  // for tokens with |d| > 0.001, and no bias goes beyond 4. T is the temperature, at least 0.5, and
  // probabilities are those at T. Tokens that only one of the models has are left out.
  // target: logits, f32[n_vocab]. draft: logits with the correction in them, f32[n_draft_vocab].
  void learn(Token before, std::span<const float> target, std::span<const float> draft,
             float temperature);

  // The tokens from whose probabilities learn() learnt last, with T log(target's probability /
  // draft's probability), between -3 T and 3 T. Valid until the next call.
  std::span<const Difference> differences() const { return logits_; }

  // The entries for the position after the token `before`, in ascending order of their tokens.
  std::span<const Entry> entries(Token before) const;

  // Every `before` that has entries, in ascending order; kAny may be among them.
  std::vector<Token> contexts() const;

  // Replaces the entries for the position after the token `before`. At most 2^20 entries are kept
  // in all. Throws std::invalid_argument unless tokens ascend from 0, biases are between -4 and 4,
  // and squares are finite and not negative.
  void set(Token before, std::vector<Entry> entries);

 private:
  void find_differences(std::span<const float> target, std::span<const float> draft,
                        float temperature);
  void step(std::vector<Entry>& entries, float rate);

  std::unordered_map<Token, std::vector<Entry>> entries_;  // by the token before
  size_t n_entries_ = 0;
  Row target_, draft_;
  std::vector<Token> differing_;            // tokens whose probabilities differ, ascending
  std::vector<float> difference_;           // the difference of each of differing_
  std::vector<Difference> logits_;          // of differing_
  std::vector<Token> found_, draft_found_;  // working memory of find_differences()
  std::vector<Entry> merged_;               // working memory of step()
};

}  // namespace ersd
