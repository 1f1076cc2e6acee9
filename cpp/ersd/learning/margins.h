// Race margins: by how much each arrival of the draft's race lost to the first one. The draft knows
// the clocks that it shares with the target, so a tree can be wide where the draft's race was close
// and deep where it was not.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ersd/learning/conditional_logit.h"
#include "ersd/race/race.h"

namespace ersd {

// Predicts the probability that the target's token is the r-th of the draft's first arrivals. It is
// a conditional logit over the score gaps, logit gaps and ranks of these arrivals, with one more
// alternative for all later arrivals. Its coefficients learn from verified positions.
class MarginModel {
 public:
  static constexpr int32_t kArrivals = 32;
  static constexpr size_t kFeatures = 5;

  // The coefficients of, in this order: score gap times temperature, logit gap over temperature,
  // log rank, being the first arrival, being later than kArrivals. Gaps are those to the first
  // arrival.
  using Coefficients = std::array<double, kFeatures>;
  using Matrix = std::array<Coefficients, kFeatures>;

  // Starts with the coefficients that ship with the package, which weigh as much as 100 positions.
  MarginModel();

  // Starts with the coefficients and the information of another model. Throws std::invalid_argument
  // unless the coefficients are between -10 and 10 and the matrix is symmetric and positive
  // definite.
  MarginModel(const Coefficients& coefficients, const Matrix& information);

  // Sets hits[r] to the probability that the target's token is arrival r; f64[arrivals.size()].
  // Later arrivals have the rest. arrivals: the first ones in order, kArrivals at most. row: the
  // draft's logits, f32[n_vocab].
  void predict(std::span<const Arrival> arrivals, std::span<const float> row, float temperature,
               std::vector<double>& hits);

  // Learns that the target's token was arrival `rank`, or a later one if there is no such arrival:
  // one Newton step on the likelihood, with the information of about the last 1,000 positions.
  void learn(std::span<const Arrival> arrivals, std::span<const float> row, float temperature,
             int32_t rank);

  const Coefficients& coefficients() const { return logit_.coefficients(); }

  // The faded sum of the Fisher information of the positions that it learnt from.
  const Matrix& information() const { return logit_.information(); }

 private:
  void describe(std::span<const Arrival> arrivals, std::span<const float> row, float temperature);

  ConditionalLogit<kFeatures> logit_;
  std::vector<Coefficients> features_;  // by alternative: each arrival, then all later ones
};

}  // namespace ersd
