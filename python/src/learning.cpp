// Bindings of the room learning: what verified positions and calls teach. choices.cpp has the rest.
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <stdexcept>
#include <tuple>

#include "bind.h"
#include "ersd/learning/profile.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using Tokens = nb::ndarray<const Token, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void bind_margins(nb::module_& m) {
  nb::class_<MarginModel>(
      m, "MarginModel",
      "Race margins: the probability that the target's token is the r-th of the draft's arrivals.")
      .def(nb::init<>())
      .def_prop_ro_static("n_arrivals", [](nb::handle) { return MarginModel::kArrivals; })
      .def(nb::init<const MarginModel::Coefficients&, const MarginModel::Matrix&>(),
           "coefficients"_a, "information"_a)
      .def_prop_ro("coefficients", &MarginModel::coefficients)
      .def_prop_ro("information", &MarginModel::information)
      .def(
          "predict",
          [](MarginModel& model, Race& race, const Floats& logits, const SamplingOptions& options,
             const Clock& clock) {
            const auto arrivals =
                race.arrivals(view(logits), options, clock, MarginModel::kArrivals);
            std::vector<double> hits;
            model.predict(arrivals, view(logits), options.temperature, hits);
            return array(std::move(hits));
          },
          "race"_a, "logits"_a, "options"_a, "clock"_a,
          "The probability that the target's token is arrival r; f64[n], one for each of the first "
          "32 arrivals.")
      .def(
          "learn",
          [](MarginModel& model, Race& race, const Floats& logits, const SamplingOptions& options,
             const Clock& clock, int32_t rank) {
            model.learn(race.arrivals(view(logits), options, clock, MarginModel::kArrivals),
                        view(logits), options.temperature, rank);
          },
          "race"_a, "logits"_a, "options"_a, "clock"_a, "rank"_a,
          "Learns that the target's token was the arrival of this rank.");
}

// The entries of a correction as arrays; Correction.state() describes them.
auto state_of(const Correction& c) {
  std::vector<Token> before, token;
  std::vector<float> bias, squares;
  for (const Token context : c.contexts())
    for (const auto& entry : c.entries(context)) {
      before.push_back(context);
      token.push_back(entry.token);
      bias.push_back(entry.bias);
      squares.push_back(entry.squares);
    }
  return std::tuple(array(std::move(before)), array(std::move(token)), array(std::move(bias)),
                    array(std::move(squares)));
}

void restore(Correction& c, const Tokens& before, const Tokens& token, const Floats& bias,
             const Floats& squares) {
  const size_t n = before.size();
  if (token.size() != n || bias.size() != n || squares.size() != n)
    throw std::invalid_argument("the arrays of a correction must be equally long");
  std::map<Token, std::vector<Correction::Entry>> entries;
  for (size_t i = 0; i < n; ++i) entries[before(i)].push_back({token(i), bias(i), squares(i)});
  Correction restored;
  for (auto& [context, mine] : entries) restored.set(context, std::move(mine));
  c = std::move(restored);
}

auto differences_of(const Correction& c) {
  std::vector<Token> tokens;
  std::vector<float> logits;
  for (const auto& difference : c.differences()) {
    tokens.push_back(difference.token), logits.push_back(difference.logit);
  }
  return std::tuple(array(std::move(tokens)), array(std::move(logits)));
}

void bind_correction(nb::module_& m) {
  nb::class_<Correction>(m, "Correction",
                         "Biases that a draft adds to its logits to correct itself.")
      .def(nb::init<>())
      .def(
          "learn",
          [](Correction& c, Token before, const Floats& target, const Floats& draft,
             float temperature) { c.learn(before, view(target), view(draft), temperature); },
          "before"_a, "target"_a, "draft"_a, "temperature"_a,
          "Learns from a verified position. target, draft: logits, f32[n_vocab] and "
          "f32[n_draft_vocab], the draft's with the correction in them.")
      .def(
          "apply",
          [](const Correction& c, Token before, const Floats& row) {
            std::vector<float> out(row.data(), row.data() + row.size());
            c.apply(before, out);
            return array(std::move(out));
          },
          "before"_a, "row"_a,
          "The draft's logits for the token after `before` with the correction added; "
          "f32[n_vocab].")
      .def("differences", &differences_of,
           "The tokens that the last learn() learnt from, and how far their logits were above the "
           "draft's; i32[n], f32[n].")
      .def("state", &state_of,
           "All entries as arrays (before, token, bias, squares), i32 and f32[n_entries], by the "
           "token before and the token; before is -1 for any token.")
      .def("restore", &restore, "before"_a, "token"_a, "bias"_a, "squares"_a,
           "Replaces all entries by those of a state().");
}

void bind_histogram(nb::module_& m) {
  nb::class_<RankHistogram>(m, "RankHistogram",
                            "How often the target's token was the r-th of the draft's order.")
      .def(nb::init<>())
      .def(nb::init<const RankHistogram::Weights&>(), "weights"_a)
      .def_prop_ro("weights", &RankHistogram::weights)
      .def("learn", &RankHistogram::learn, "rank"_a, "Counts one verified position.")
      .def(
          "probabilities",
          [](const RankHistogram& h) {
            const auto p = h.probabilities();
            return array(std::vector<double>(p.begin(), p.end()));
          },
          "P(rank = r), f64[65]; the last entry is that of all later ranks.");
}

void bind_cost(nb::module_& m) {
  nb::class_<CostCurve>(m, "CostCurve",
                        "Milliseconds of a call by its width, the number of tokens.")
      .def(nb::init<>())
      .def_prop_ro_static("widths", [](nb::handle) { return CostCurve::kWidths; })
      .def_prop_ro_static("lengths", [](nb::handle) { return CostCurve::kLengths; })
      .def_prop_ro("points", &CostCurve::points)
      .def("set", &CostCurve::set, "ms"_a)
      .def("measure", &CostCurve::measure, "model"_a, "budget_ms"_a,
           "Measures calls on an empty cache for about budget_ms.")
      .def("set_n_cached", &CostCurve::set_n_cached, "n_cached"_a)
      .def_prop_ro("ms_per_node", &CostCurve::ms_per_node)
      .def("learn", &CostCurve::learn, "n"_a, "ms"_a, "Learns from a call with n tokens.")
      .def_prop_ro("distrusted", &CostCurve::distrusted)
      .def("__call__", &CostCurve::operator(), "n"_a,
           "Expected milliseconds of a call with n tokens.");
}

void bind_profile(nb::module_& m) {
  nb::class_<Profile>(m, "Profile", "What is known about a pair of models; see ersd.profile.")
      .def(nb::init<>())
      .def_rw("target", &Profile::target)
      .def_rw("draft", &Profile::draft)
      .def_prop_rw(
          "ranks", [](const Profile& p) { return p.knowledge.ranks; },
          [](Profile& p, const RankHistogram& ranks) { p.knowledge.ranks = ranks; })
      .def_prop_rw(
          "margins", [](const Profile& p) { return p.knowledge.margins; },
          [](Profile& p, const MarginModel& margins) { p.knowledge.margins = margins; })
      .def_prop_rw(
          "correction", [](const Profile& p) { return p.knowledge.correction; },
          [](Profile& p, const Correction& correction) { p.knowledge.correction = correction; });
}

}  // namespace

void bind_learning(nb::module_& m) {
  bind_margins(m);
  bind_correction(m);
  bind_histogram(m);
  bind_cost(m);
  bind_profile(m);
}
