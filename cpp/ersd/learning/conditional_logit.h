// The conditional logit: which of some alternatives is chosen, by a weighted sum of the features of
// each. It learns by Newton steps along the text.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace ersd {

template <size_t N>
class ConditionalLogit {
 public:
  using Features = std::array<double, N>;
  using Matrix = std::array<Features, N>;

  static constexpr double kMost = 10;  // no coefficient is beyond this

  // information: the Fisher information of what the coefficients were learnt from.
  ConditionalLogit(const Features& coefficients, const Matrix& information)
      : coefficients_(coefficients), information_(information) {}

  // The probability of each alternative, f64[features.size()]. Valid until the next call.
  std::span<const double> predict(std::span<const Features> features) {
    probabilities_.resize(features.size());
    double greatest = -std::numeric_limits<double>::infinity(), total = 0;
    for (size_t r = 0; r < features.size(); ++r) {
      double utility = 0;
      for (size_t f = 0; f < N; ++f) utility += coefficients_[f] * features[r][f];
      probabilities_[r] = utility;
      greatest = std::max(greatest, utility);
    }
    for (double& p : probabilities_) total += p = std::exp(p - greatest);
    for (double& p : probabilities_) p /= total;
    return probabilities_;
  }

  // Learns that alternative `hit` was chosen: one Newton step on the likelihood, with the
  // information of about the last 1,000 choices.
  void learn(std::span<const Features> features, size_t hit) {
    predict(features);
    const Features mean = mean_features(features);
    for (size_t i = 0; i < N; ++i)
      for (size_t j = 0; j < N; ++j) {
        double moment = 0;
        for (size_t r = 0; r < features.size(); ++r)
          moment += probabilities_[r] * (features[r][i] - mean[i]) * (features[r][j] - mean[j]);
        information_[i][j] = kFade * information_[i][j] + moment + (i == j ? kRidge : 0);
      }
    Features gradient{};
    for (size_t f = 0; f < N; ++f) gradient[f] = features[hit][f] - mean[f];
    const Features step = solve(information_, gradient);
    for (size_t f = 0; f < N; ++f)
      coefficients_[f] = std::clamp(coefficients_[f] + step[f], -kMost, kMost);
  }

  // Whether the coefficients are within bounds and the information is symmetric and positive
  // definite.
  bool is_sound() const {
    bool sound = true;
    for (size_t i = 0; i < N; ++i) {
      sound = sound && coefficients_[i] >= -kMost && coefficients_[i] <= kMost;
      for (size_t j = 0; j < i; ++j)
        sound = sound && std::abs(information_[i][j] - information_[j][i]) <=
                             kAsymmetry * std::abs(information_[i][j]);
    }
    // If a pivot is not positive, its root is NaN, and so is the solution.
    for (const double x : solve(information_, coefficients_)) sound = sound && std::isfinite(x);
    return sound;
  }

  const Features& coefficients() const { return coefficients_; }
  const Matrix& information() const { return information_; }

 private:
  static constexpr double kFade = 1 - 1.0 / 1000;  // of the information, per choice
  // A small term on the diagonal keeps the information positive definite.
  static constexpr double kRidge = 1e-4;
  static constexpr double kAsymmetry = 1e-9;  // relative difference that it may have

  Features mean_features(std::span<const Features> features) const {
    Features mean{};
    for (size_t r = 0; r < features.size(); ++r)
      for (size_t f = 0; f < N; ++f) mean[f] += probabilities_[r] * features[r][f];
    return mean;
  }

  // Solves a x = b for a symmetric positive definite matrix, by Cholesky's decomposition.
  static Features solve(Matrix a, Features b) {
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

  Features coefficients_;
  Matrix information_;
  std::vector<double> probabilities_;  // by alternative
};

}  // namespace ersd
