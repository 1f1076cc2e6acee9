// How probable a token is that the draft model, or a text, or both propose.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "ersd/learning/conditional_logit.h"

namespace ersd {

// A conditional logit over the tokens that were proposed after one node, with one more alternative
// for all other tokens.
class AgreementModel {
 public:
  // What was said of a token. 0 stands for a proposer that did not propose it.
  struct Opinion {
    double model = 0, text = 0;  // probabilities
  };

  AgreementModel() : logit_({1, 0.25, 0}, {{{100, 0, 0}, {0, 50, 0}, {0, 0, 50}}}) {}

  // Sets hits[i] to the probability of token i; f64[opinions.size()].
  void predict(std::span<const Opinion> opinions, std::vector<double>& hits) {
    describe(opinions);
    const auto probabilities = logit_.predict(features_);
    hits.assign(probabilities.begin(), probabilities.end() - 1);
  }

  // Learns that token `hit` came, or another one if there is no such token.
  void learn(std::span<const Opinion> opinions, size_t hit) {
    describe(opinions);
    logit_.learn(features_, std::min(hit, opinions.size()));
  }

 private:
  using Logit = ConditionalLogit<3>;

  static constexpr double kLeast = 1e-4;  // a model is not surer than this that a token is wrong

  static Logit::Features features(double model, double text) {
    const double p = std::clamp(text, kLeast, 1 - kLeast);
    return {std::log(std::max(model, kLeast)), text > 0 ? std::log(p / (1 - p)) : 0.0,
            text > 0 ? 1.0 : 0.0};
  }

  void describe(std::span<const Opinion> opinions) {
    features_.clear();
    double rest = 1;
    for (const Opinion& opinion : opinions) {
      features_.push_back(features(opinion.model, opinion.text));
      rest -= opinion.model;
    }
    features_.push_back(features(rest, 0));
  }

  Logit logit_;
  std::vector<Logit::Features> features_;  // by alternative: each token, then all others
};

}  // namespace ersd
