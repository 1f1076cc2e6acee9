// Race margins: how safe the places of a realised race are. A draft may look at the clocks it
// shares with the target, so that a tree can be wide where the race was close and deep where it was
// not.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ersd/race/race.h"

namespace ersd {

// The probability that the target's token is a given one of the draft's first arrivals: a
// conditional logit over their score gaps, their logit gaps and their ranks, with one more
// alternative for all later arrivals. Its coefficients follow what the target accepts.
class MarginModel {
 public:
  static constexpr int32_t kArrivals = 32;
  static constexpr size_t kFeatures = 5;
  using Coefficients =
      std::array<double, kFeatures>;  // score gap times temperature, logit gap over it, log rank,
                                      // first, later than kArrivals

  using Matrix = std::array<Coefficients, kFeatures>;

  MarginModel();

  // Goes on from the coefficients and the information of another. Throws std::invalid_argument
  // unless the coefficients are between -10 and 10 and the matrix is symmetric and positive
  // definite.
  MarginModel(const Coefficients& coefficients, const Matrix& information);

  // hits[r]: probability of arrival r; f64[arrivals.size()], what is missing to 1 being that of
  // later ones. arrivals: up to kArrivals in order; row: the draft's logits, f32[n_vocab].
  void predict(std::span<const Arrival> arrivals, std::span<const float> row, float temperature,
               std::vector<double>& hits);

  // The target's token was arrival `rank`, or none of them. Newton's step on the likelihood with
  // the information of the last 1,000 positions or so, beginning as if the shipped coefficients had
  // come of 100.
  void learn(std::span<const Arrival> arrivals, std::span<const float> row, float temperature,
             int32_t rank);

  const Coefficients& coefficients() const { return coefficients_; }
  const Matrix& information() const {
    return information_;
  }  // of the positions that they come from, faded

 private:
  using Features = Coefficients;
  void evaluate(std::span<const Arrival> arrivals, std::span<const float> row, float temperature);

  Coefficients coefficients_;
  Matrix information_;
  std::vector<Features> features_;     // of each arrival, and of all later ones
  std::vector<double> probabilities_;  // of the same
};

}  // namespace ersd
