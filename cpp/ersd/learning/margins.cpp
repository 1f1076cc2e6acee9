// The conditional logit and its Newton steps.
#include "ersd/learning/margins.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace ersd {
namespace {

constexpr double kFade = 1 - 1.0 / 1000;  // of the information, per position
constexpr double kMost = 10;              // no coefficient is beyond this
constexpr double kShippedWeight = 100;  // positions that the shipped coefficients weigh as much as

// Small terms on the diagonal keep the information positive definite: for the shipped matrix, and
// for each position that is learnt.
constexpr double kShippedRidge = 1e-3, kRidge = 1e-4;

constexpr double kAsymmetry = 1e-9;  // relative difference that a symmetric matrix may have

// Fitted on SmolLM2-135M-Instruct Q4_1 and its Q2_K twin: about 2,450 positions of 24 chat, 8 prose
// and 8 code prompts at each of T = 0.3, 0.6 and 1. The coefficients lie between the three fits.
// The information of one position is that at T = 1.
constexpr MarginModel::Coefficients kShipped{1.08, 0.13, -0.56, -0.45, 1.8};
constexpr MarginModel::Matrix kInformation{{{0.802, 0.286, -0.530, 0.262, -0.020},
                                            {0.286, 3.248, -0.186, 0.067, 0.001},
                                            {-0.530, -0.186, 0.428, -0.208, 0.016},
                                            {0.262, 0.067, -0.208, 0.171, -0.003},
                                            {-0.020, 0.001, 0.016, -0.003, 0.006}}};

// Solves a x = b for a symmetric positive definite matrix, by Cholesky's decomposition.
template <size_t N>
std::array<double, N> solve(std::array<std::array<double, N>, N> a, std::array<double, N> b) {
  for (size_t j = 0; j < N; ++j) {
    for (size_t k = 0; k < j; ++k)
      for (size_t i = j; i < N; ++i) a[i][j] -= a[i][k] * a[j][k];
    const double root = std::sqrt(a[j][j]);
    for (size_t i = j; i < N; ++i) a[i][j] /= root;
  }
  for (size_t i = 0; i < N; ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (size_t i = N; i-- > 0;) {
    for (size_t k = i + 1; k < N; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return b;
}

}  // namespace

MarginModel::MarginModel() : coefficients_(kShipped) {
  for (size_t i = 0; i < kFeatures; ++i)
    for (size_t j = 0; j < kFeatures; ++j)
      information_[i][j] = kShippedWeight * (kInformation[i][j] + (i == j ? kShippedRidge : 0));
}

MarginModel::MarginModel(const Coefficients& coefficients, const Matrix& information)
    : coefficients_(coefficients), information_(information) {
  bool sound = true;
  for (size_t i = 0; i < kFeatures; ++i) {
    sound = sound && coefficients[i] >= -kMost && coefficients[i] <= kMost;
    for (size_t j = 0; j < i; ++j)
      sound = sound && std::abs(information[i][j] - information[j][i]) <=
                           kAsymmetry * std::abs(information[i][j]);
  }
  // If a pivot is not positive, its root is NaN, and so is the solution.
  for (const double x : solve(information, coefficients)) sound = sound && std::isfinite(x);
  if (!sound)
    throw std::invalid_argument(
        "a margin model needs coefficients between -10 and 10 and a symmetric positive definite "
        "information matrix");
}

// Writes features_ and probabilities_.
void MarginModel::evaluate(std::span<const Arrival> arrivals, std::span<const float> row,
                           float temperature) {
  const size_t n = arrivals.size();
  features_.resize(n + 1);
  probabilities_.resize(n + 1);
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
  double greatest = -std::numeric_limits<double>::infinity(), total = 0;
  for (size_t r = 0; r <= n; ++r) {
    double utility = 0;
    for (size_t f = 0; f < kFeatures; ++f) utility += coefficients_[f] * features_[r][f];
    probabilities_[r] = utility;
    greatest = std::max(greatest, utility);
  }
  for (double& p : probabilities_) total += p = std::exp(p - greatest);
  for (double& p : probabilities_) p /= total;
}

void MarginModel::predict(std::span<const Arrival> arrivals, std::span<const float> row,
                          float temperature, std::vector<double>& hits) {
  hits.clear();
  if (arrivals.empty()) return;
  evaluate(arrivals, row, temperature);
  hits.assign(probabilities_.begin(), probabilities_.end() - 1);
}

MarginModel::Features MarginModel::mean_features() const {
  Features mean{};
  for (size_t r = 0; r < features_.size(); ++r)
    for (size_t f = 0; f < kFeatures; ++f) mean[f] += probabilities_[r] * features_[r][f];
  return mean;
}

void MarginModel::learn(std::span<const Arrival> arrivals, std::span<const float> row,
                        float temperature, int32_t rank) {
  if (arrivals.empty()) return;
  evaluate(arrivals, row, temperature);
  const size_t n = arrivals.size(), hit = std::min(static_cast<size_t>(rank), n);
  const Features mean = mean_features();
  for (size_t i = 0; i < kFeatures; ++i)
    for (size_t j = 0; j < kFeatures; ++j) {
      double moment = 0;
      for (size_t r = 0; r <= n; ++r)
        moment += probabilities_[r] * (features_[r][i] - mean[i]) * (features_[r][j] - mean[j]);
      information_[i][j] = kFade * information_[i][j] + moment + (i == j ? kRidge : 0);
    }
  Features gradient{};
  for (size_t f = 0; f < kFeatures; ++f) gradient[f] = features_[hit][f] - mean[f];
  const Features step = solve(information_, gradient);
  for (size_t f = 0; f < kFeatures; ++f)
    coefficients_[f] = std::clamp(coefficients_[f] + step[f], -kMost, kMost);
}

}  // namespace ersd
