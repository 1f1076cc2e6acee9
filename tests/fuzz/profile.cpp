// Any numbers as a profile: they are refused, or everything that is computed from them is finite.
#include "ersd/learning/profile.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "input.h"

using namespace ersd;
using fuzz::Input, fuzz::require;

namespace {

double number(Input& input) {
  return input.up_to(3) == 0 ? input.raw<double>() : static_cast<double>(input.raw<int8_t>()) / 8;
}

void try_costs(Input& input) {
  CostCurve::Points points{};
  const double step = number(input), base = number(input);
  for (auto& curve : points)
    for (size_t i = 0; i < curve.size(); ++i)
      curve[i] = input.coin() ? base + step * static_cast<double>(i) : number(input);
  CostCurve curve;
  curve.set(points);
  for (const int32_t n : {1, 7, 300}) {
    curve.set_n_cached(input.up_to(5000));
    require(curve(n) >= 0);
    curve.learn(n, std::abs(static_cast<double>(input.raw<int16_t>())) + 0.01);
  }
}

void try_ranks(Input& input) {
  RankHistogram::Weights weights{};
  for (double& each : weights) each = number(input);
  RankHistogram ranks(weights);
  ranks.learn(static_cast<size_t>(input.up_to(100)));
  double sum = 0;
  for (const double p : ranks.probabilities()) require(p >= 0), sum += p;
  require(std::abs(sum - 1) < 1e-6);
}

void try_margins(Input& input) {
  MarginModel::Coefficients coefficients{};
  MarginModel::Matrix information{};
  for (double& each : coefficients) each = number(input);
  for (size_t i = 0; i < MarginModel::kFeatures; ++i)
    for (size_t j = 0; j <= i; ++j)
      information[i][j] = information[j][i] = number(input) + (i == j ? 40 : 0);
  MarginModel margins(coefficients, information);
  const std::vector<float> row{3, 2, -1, 0};
  const std::vector<Arrival> arrivals{{0, 3.5}, {1, 3.25}, {3, 0.5}};
  std::vector<double> hits;
  for (int32_t rank = 0; rank < 5; ++rank) {
    margins.predict(arrivals, row, 0.5f, hits);
    for (const double hit : hits) require(hit >= 0 && hit <= 1 + 1e-9);
    margins.learn(arrivals, row, 0.5f, rank);
  }
}

void try_correction(Input& input) {
  std::vector<Correction::Entry> entries;
  for (int32_t n = input.up_to(6); n > 0; --n)
    entries.push_back({input.coin() ? input.up_to(20) : input.raw<int32_t>(),
                       static_cast<float>(number(input)), static_cast<float>(number(input))});
  Correction correction;
  correction.set(input.coin() ? Correction::kAny : input.up_to(20), entries);
  std::vector<float> row(16, 1);
  for (Token before = 0; before < 20; ++before) {
    correction.apply(before, row);
    for (const float each : row) require(std::isfinite(each));
    row.assign(16, 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  using Try = void (*)(Input&);
  for (const Try each : {&try_costs, &try_ranks, &try_margins, &try_correction}) {
    try {
      each(input);
    } catch (const std::invalid_argument&) {
    }
  }
  return 0;
}
