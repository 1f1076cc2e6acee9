// Bindings of the race room: clocks, truncation, races, and the hand-written vector code.
#include "ersd/race/race.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "bind.h"
#include "ersd/check.h"
#include "ersd/race/indices_at_least.h"
#include "ersd/race/logprobs.h"
#include "ersd/race/selection.h"
#include "ersd/race/simd/philox.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

void bind_simd(nb::module_& m) {
  m.def(
      "simd_variants",
      [] {
        std::vector<std::string> names;
        for (const simd::Variant& v : simd::supported_variants()) names.emplace_back(v.name);
        return names;
      },
      "Returns the names of the vector code that this processor supports, the fastest one last.");

  m.def(
      "simd_philox",
      [](std::string_view variant, const std::vector<uint32_t>& index,
         std::array<uint32_t, 3> counter, std::array<uint32_t, 2> key) {
        if (index.size() != simd::kCounters) refuse("len(index)", "32", index.size());
        const auto [position, domain, kind] = counter;
        std::vector<uint32_t> words(4 * simd::kCounters);
        simd::variant(variant).philox(
            {key[0], key[1], position, domain, kind}, index.data(),
            reinterpret_cast<uint32_t (*)[simd::kCounters]>(words.data()));
        return array_of(std::move(words), size_t{4}, size_t{simd::kCounters});
      },
      "variant"_a, "index"_a, "counter"_a, "key"_a,
      "Returns the random words of 32 counters by a variant, u32[4, 32]. index: u32[32], the first "
      "word of each counter; counter: u32[3], the other words.");

  m.def(
      "simd_indices_at_least",
      [](std::string_view variant, const Floats& x, float least, int32_t offset) {
        std::vector<int32_t> out(x.size() + kIndexSlack);
        out.resize(
            simd::variant(variant).indices_at_least(x.data(), x.size(), least, offset, out.data()));
        return array(std::move(out));
      },
      "variant"_a, "x"_a, "least"_a, "offset"_a,
      "Returns offset + i for each x[i] >= least by a variant, in ascending order; x: f32[n].");
}

void bind_random_bits(nb::module_& m) {
  m.def("philox", &philox, "counter"_a, "key"_a,
        "Returns the four random words that Philox4x32-10 makes of a counter and a key.");

  m.def(
      "uniform",
      [](uint64_t seed, uint32_t position, uint32_t domain) {
        return uniform(seed, position, static_cast<Domain>(domain), 0);
      },
      "seed"_a, "position"_a, "domain"_a, "Returns a uniform variate in (0, 1).");
}

void bind_clocks(nb::module_& m) {
  nb::class_<Clock>(m, "Clock", "The clocks of one position: an Exp(1) variate per token.")
      .def(nb::init<uint64_t, uint32_t>(), "seed"_a, "position"_a)
      .def(
          "__call__", [](const Clock& c, Token token) { return c(token); }, "token"_a)
      .def(
          "clocks",
          [](const Clock& c, int32_t n) {
            std::vector<double> out(static_cast<size_t>(n));
            for (int32_t t = 0; t < n; ++t) out[static_cast<size_t>(t)] = c(t);
            return array(std::move(out));
          },
          "n"_a, "Returns the clocks of tokens 0 to n - 1; f64[n].")
      .def(
          "draw_blocks",
          [](const Clock& c, size_t n_blocks) {
            Clock::Draws blocks;
            c.draw_blocks(n_blocks, blocks);
            std::vector<Token> tokens(n_blocks);
            for (size_t b = 0; b < n_blocks; ++b) tokens[b] = Clock::earliest_token(blocks, b);
            blocks.noise_bounds.resize(n_blocks);
            return std::pair(array(std::move(blocks.noise_bounds)), array(std::move(tokens)));
          },
          "n_blocks"_a,
          "Returns an upper bound on -log(least clock) of each block, f32[n_blocks], and the token "
          "that has the least clock, i32[n_blocks].")
      .def(
          "compute_clocks",
          [](const Clock& c, const std::vector<Token>& tokens) {
            Clock::Draws blocks, draws;
            c.draw_blocks(static_cast<size_t>(std::ranges::max(tokens)) / Clock::kBlock + 1,
                          blocks);
            c.draw_tokens(tokens, blocks, draws);
            std::vector<double> clocks(tokens.size());
            Clock::compute_clocks(tokens, blocks, draws, clocks);
            return std::pair(array(std::move(clocks)), array(std::move(draws.noise_bounds)));
          },
          "tokens"_a,
          "Returns the clocks of tokens as races compute them, by vectorised code, "
          "f64[len(tokens)], and upper bounds on -log(clock), f32[len(tokens)].");
}

void bind_truncation(nb::module_& m) {
  m.def(
      "cutoff",
      [](const Floats& logits, const SamplingOptions& options) {
        Row row;
        row.read(view(logits));
        return Truncation().cutoff(row, options);
      },
      "logits"_a, "options"_a,
      "Returns the least logit that truncation keeps; logits: f32[n_vocab].");

  m.def(
      "select",
      [](const Floats& logits, const SamplingOptions& options, double coin) {
        Selection selection;
        return to_numpy(selection.select(view(logits), options, coin));
      },
      "logits"_a, "options"_a, "coin"_a,
      "Returns the row, f32[n_vocab], with -infinity for the tokens that truncation removes. XTC "
      "acts if coin <= xtc_probability.");
}

void bind_races(nb::module_& m) {
  nb::class_<Race>(m, "Race", "Races over a row of logits, f32[n_vocab].")
      .def(nb::init<>())
      .def(
          "winner",
          [](Race& r, const Floats& logits, const SamplingOptions& options, const Clock& clock) {
            return r.winner(view(logits), options, clock).token;
          },
          "logits"_a, "options"_a, "clock"_a, "Returns the token that wins.")
      .def(
          "arrivals",
          [](Race& r, const Floats& logits, const SamplingOptions& options, const Clock& clock,
             size_t m) {
            std::vector<int32_t> tokens;
            std::vector<double> scores;
            for (const Arrival& a : r.arrivals(view(logits), options, clock, m))
              tokens.push_back(a.token), scores.push_back(a.score);
            return std::pair(array(std::move(tokens)), array(std::move(scores)));
          },
          "logits"_a, "options"_a, "clock"_a, "m"_a,
          "Returns the first m tokens to arrive, i32[<= m], and their scores, f64[<= m].")
      .def(
          "rank",
          [](Race& r, const Floats& logits, const SamplingOptions& options, const Clock& clock,
             Token token, size_t m) { return r.rank(view(logits), options, clock, token, m); },
          "logits"_a, "options"_a, "clock"_a, "token"_a, "m"_a,
          "Returns the token's place among the first m arrivals, or m if it is not among them.");

  nb::class_<TokenLogprob>(m, "TokenLogprob",
                           "The log-probability of a token, and the most probable tokens.")
      .def_ro("token", &TokenLogprob::token)
      .def_ro("logprob", &TokenLogprob::logprob)
      .def_ro("top", &TokenLogprob::top);
}

}  // namespace

void bind_race(nb::module_& m) {
  bind_random_bits(m);
  bind_clocks(m);
  bind_truncation(m);
  bind_races(m);
  bind_simd(m);
}
