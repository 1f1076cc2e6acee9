// Bindings of the room race: clocks, truncation and races.
#include "ersd/race/race.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "bind.h"
#include "ersd/race/logprobs.h"
#include "ersd/race/selection.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

void bind_race(nb::module_& m) {
  m.def("philox", &philox, "counter"_a, "key"_a,
        "Philox4x32-10: four words of a counter and two of a key to four random words.");

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
          "n"_a, "The clocks of tokens 0 to n - 1; f64[n].")
      .def(
          "bounds",
          [](const Clock& c, size_t n_blocks) {
            Clock::Draws blocks;
            c.draw_blocks(n_blocks, blocks);
            std::vector<Token> leaders(n_blocks);
            for (size_t b = 0; b < n_blocks; ++b) leaders[b] = Clock::leader(blocks, b);
            blocks.noise.resize(n_blocks);
            return std::pair(array(std::move(blocks.noise)), array(std::move(leaders)));
          },
          "n_blocks"_a,
          "An upper bound on -log(least clock) of each block, and the token that has it; f32, "
          "i32[n_blocks].")
      .def(
          "swept",
          [](const Clock& c, const std::vector<Token>& tokens) {
            Clock::Draws blocks, draws;
            c.draw_blocks(static_cast<size_t>(std::ranges::max(tokens)) / Clock::kBlock + 1,
                          blocks);
            c.draw_tokens(tokens, blocks, draws);
            std::vector<double> clocks(tokens.size());
            Clock::clocks(tokens, blocks, draws, clocks);
            return std::pair(array(std::move(clocks)), array(std::move(draws.noise)));
          },
          "tokens"_a,
          "The clocks of tokens, by the vectorised sweeps, and upper bounds on -log(clock); f64, "
          "f32[tokens].");

  m.def(
      "cutoff",
      [](const Floats& logits, const SamplingOptions& options) {
        Row row;
        row.read(view(logits));
        return Truncation().cutoff(row, options);
      },
      "logits"_a, "options"_a, "The least logit that truncation keeps; logits: f32[n_vocab].");

  m.def(
      "select",
      [](const Floats& logits, const SamplingOptions& options, double coin) {
        Selection selection;
        return to_numpy(selection.select(view(logits), options, coin));
      },
      "logits"_a, "options"_a, "coin"_a,
      "The row with -infinity for tokens that truncation removes, XTC where coin <= "
      "xtc_probability; f32[n_vocab].");

  m.def(
      "uniform",
      [](uint64_t seed, uint32_t position, uint32_t domain) {
        return uniform(seed, position, static_cast<Domain>(domain), 0);
      },
      "seed"_a, "position"_a, "domain"_a, "A uniform variate in (0, 1).");

  nb::class_<Race>(m, "Race", "Races over a row of logits, f32[n_vocab].")
      .def(nb::init<>())
      .def(
          "winner",
          [](Race& r, const Floats& logits, const SamplingOptions& options, const Clock& clock) {
            return r.winner(view(logits), options, clock).token;
          },
          "logits"_a, "options"_a, "clock"_a, "The token that wins.")
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
          "The first m tokens to arrive and their scores; i32[<= m], f64[<= m].")
      .def(
          "rank",
          [](Race& r, const Floats& logits, const SamplingOptions& options, const Clock& clock,
             Token token, size_t m) { return r.rank(view(logits), options, clock, token, m); },
          "logits"_a, "options"_a, "clock"_a, "token"_a, "m"_a,
          "The token's place among the first m arrivals; m where it is not among them.");

  nb::class_<TokenLogprob>(m, "TokenLogprob",
                           "A token's log-probability, and the most probable tokens.")
      .def_ro("token", &TokenLogprob::token)
      .def_ro("logprob", &TokenLogprob::logprob)
      .def_ro("top", &TokenLogprob::top);
}
