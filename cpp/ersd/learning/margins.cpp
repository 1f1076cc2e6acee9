// The conditional logit and its Newton steps.
#include "ersd/learning/margins.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace ersd {
namespace {

constexpr double kShippedWeight = 100;  // positions that the shipped coefficients weigh as much as
constexpr double kShippedRidge = 1e-3;  // keeps the shipped matrix positive definite

// Fitted on SmolLM2-135M-Instruct Q4_1 and its Q2_K twin: about 2,450 positions of 24 chat, 8 prose
// and 8 code prompts at each of T = 0.3, 0.6 and 1. The coefficients lie between the three fits.
// The information of one position is that at T = 1.
constexpr MarginModel::Coefficients kShipped{1.08, 0.13, -0.56, -0.45, 1.8};
constexpr MarginModel::Matrix kInformation{{{0.802, 0.286, -0.530, 0.262, -0.020},
                                            {0.286, 3.248, -0.186, 0.067, 0.001},
                                            {-0.530, -0.186, 0.428, -0.208, 0.016},
                                            {0.262, 0.067, -0.208, 0.171, -0.003},
                                            {-0.020, 0.001, 0.016, -0.003, 0.006}}};

MarginModel::Matrix shipped_information() {
  MarginModel::Matrix information = kInformation;
  for (size_t i = 0; i < MarginModel::kFeatures; ++i)
    for (size_t j = 0; j < MarginModel::kFeatures; ++j)
      information[i][j] = kShippedWeight * (kInformation[i][j] + (i == j ? kShippedRidge : 0));
  return information;
}

}  // namespace

MarginModel::MarginModel() : logit_(kShipped, shipped_information()) {}

MarginModel::MarginModel(const Coefficients& coefficients, const Matrix& information)
    : logit_(coefficients, information) {
  if (!logit_.is_sound())
    throw std::invalid_argument(
        "a margin model needs coefficients between -10 and 10 and a symmetric positive definite "
        "information matrix");
}

// Writes features_.
void MarginModel::describe(std::span<const Arrival> arrivals, std::span<const float> row,
                           float temperature) {
  const size_t n = arrivals.size();
  features_.resize(n + 1);
  // A score gap times the temperature is the difference of logits that would close it. On this
  // scale one fit serves all temperatures.
  const double scale = temperature > 0 ? temperature : 1.0;
  const double first = row[static_cast<size_t>(arrivals[0].token)] / scale;
  const auto gap = [&](const Arrival& arrival) {
    return (arrival.score - arrivals[0].score) * scale;
  };
  for (size_t r = 0; r < n; ++r)
    features_[r] = {gap(arrivals[r]), row[static_cast<size_t>(arrivals[r].token)] / scale - first,
                    std::log(static_cast<double>(r + 1)), r == 0 ? 1.0 : 0.0, 0.0};
  features_[n] = {gap(arrivals[n - 1]), 0.0, std::log(static_cast<double>(n + 1)), 0.0, 1.0};
}

void MarginModel::predict(std::span<const Arrival> arrivals, std::span<const float> row,
                          float temperature, std::vector<double>& hits) {
  hits.clear();
  if (arrivals.empty()) return;
  describe(arrivals, row, temperature);
  const auto probabilities = logit_.predict(features_);
  hits.assign(probabilities.begin(), probabilities.end() - 1);
}

void MarginModel::learn(std::span<const Arrival> arrivals, std::span<const float> row,
                        float temperature, int32_t rank) {
  if (arrivals.empty()) return;
  describe(arrivals, row, temperature);
  logit_.learn(features_, std::min(static_cast<size_t>(rank), arrivals.size()));
}

}  // namespace ersd
