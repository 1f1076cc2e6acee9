// Bindings of the room draft: texts to draft from, and what they propose along a tree.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bind.h"
#include "ersd/draft/rejected_branches.h"
#include "ersd/draft/text_drafts.h"
#include "ersd/learning/agreement.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

void bind_automaton(nb::module_& m) {
  nb::class_<SuffixAutomaton::Match>(m, "Match", "A substring of a text.")
      .def(nb::init<>())
      .def_ro("length", &SuffixAutomaton::Match::length);
  nb::class_<SuffixAutomaton>(m, "SuffixAutomaton", "All substrings of a text that grows.")
      .def(nb::init<>())
      .def("append", &SuffixAutomaton::append, "token"_a)
      .def("__len__", &SuffixAutomaton::size)
      .def("repeated", &SuffixAutomaton::repeated,
           "The longest ending of the text that occurred before.")
      .def("follow", &SuffixAutomaton::follow, "match"_a, "token"_a,
           "The longest ending of a substring and one more token that occurs in the text.")
      .def("shorter", &SuffixAutomaton::shorter, "match"_a)
      .def("end", &SuffixAutomaton::end, "match"_a)
      .def(
          "continuations",
          [](const SuffixAutomaton& a, SuffixAutomaton::Match match, size_t most) {
            std::vector<SuffixAutomaton::Continuation> found;
            a.continuations(match, most, found);
            std::vector<std::tuple<Token, int32_t>> out;
            for (const auto& c : found) out.emplace_back(c.token, c.count);
            return out;
          },
          "match"_a, "most"_a, "Tokens that followed a substring, and how often.")
      .def_prop_ro("n_bytes", &SuffixAutomaton::n_bytes);
}

void bind_agreement(nb::module_& m) {
  using Pairs = std::vector<std::tuple<double, double>>;
  const auto opinions = [](const Pairs& given) {
    std::vector<AgreementModel::Opinion> out;
    for (const auto& [model, text] : given) out.push_back({model, text});
    return out;
  };
  nb::class_<AgreementModel>(
      m, "AgreementModel",
      "How probable tokens are that the draft model, a text or both propose. An opinion is what "
      "each of the two says of a token; 0 if it does not propose the token.")
      .def(nb::init<>())
      .def(
          "predict",
          [opinions](AgreementModel& a, const Pairs& given) {
            std::vector<double> hits;
            a.predict(opinions(given), hits);
            return hits;
          },
          "opinions"_a, "The probability of each token.")
      .def(
          "learn",
          [opinions](AgreementModel& a, const Pairs& given, size_t hit) {
            a.learn(opinions(given), hit);
          },
          "opinions"_a, "hit"_a, "Learns which of the tokens came; len(opinions) for another one.");
}

void begin(TextDrafts& d, const std::vector<Token>& tokens, bool looks_up,
           const std::vector<std::tuple<std::string, std::vector<Token>>>& others) {
  TextDrafts::Texts texts;
  for (const auto& [name, text] : others) {
    const Source source = name == "prediction" ? Source::kPrediction : Source::kHistory;
    texts.push_back(std::make_shared<TextSource>(source, text));
  }
  d.begin(tokens, looks_up, std::move(texts));
}

// Token, probability and sources of each candidate.
auto triples(const std::vector<Candidate>& candidates) {
  std::vector<std::tuple<Token, double, int32_t>> out;
  for (const auto& c : candidates) out.emplace_back(c.token, c.hit, c.sources);
  return out;
}

auto propose_by_grammar(TextDrafts& d, int32_t node, Token before, Token token, int32_t n_allowed,
                        size_t place, const HitRates& rates) {
  std::vector<Candidate> found;
  d.propose_by_grammar(node, before, token, n_allowed, place, rates, found);
  return triples(found);
}

void bind_texts(nb::module_& m) {
  nb::class_<HitRates>(m, "HitRates", "How often the tokens that texts propose come true.")
      .def(nb::init<>());
  nb::class_<TextDrafts>(m, "TextDrafts", "What texts propose along the paths of trees.")
      .def(nb::init<>())
      .def("begin", &begin, "tokens"_a, "looks_up"_a = true,
           "others"_a = std::vector<std::tuple<std::string, std::vector<Token>>>())
      .def("append", [](TextDrafts& d, const std::vector<Token>& tokens) { d.append(tokens); })
      .def("reset", &TextDrafts::reset)
      .def("add", &TextDrafts::add, "parent"_a, "token"_a)
      .def("truncate", &TextDrafts::truncate, "n"_a)
      .def(
          "made",
          [](const TextDrafts& d, int32_t node) {
            std::vector<std::tuple<Token, int, int, int, int, int>> out;
            for (const auto& p : d.made(node))
              out.emplace_back(p.token, p.cell.source, p.cell.form, p.cell.length, p.cell.share,
                               p.cell.luck);
            return out;
          },
          "node"_a,
          "What was proposed after a node: token, source, form, and classes of length, share and "
          "luck.")
      .def(
          "propose",
          [](TextDrafts& d, int32_t node, const HitRates& rates,
             std::optional<std::tuple<uint64_t, uint32_t>> clock) {
            std::vector<Candidate> found;
            std::optional<Clock> race;
            if (clock) race.emplace(std::get<0>(*clock), std::get<1>(*clock));
            d.propose(node, race ? &*race : nullptr, rates, found);
            return triples(found);
          },
          "node"_a, "rates"_a, "clock"_a = nb::none(),
          "Candidates for a node's children: token, probability and sources.")
      .def("propose_by_grammar", &propose_by_grammar, "node"_a, "before"_a, "token"_a,
           "n_allowed"_a, "place"_a, "rates"_a,
           "The candidate that a grammar proposes after a node and its token: one of n_allowed "
           "tokens, whose place among them counts from the longest one.")
      .def(
          "learn",
          [](TextDrafts& d, const std::vector<int32_t>& path, const std::vector<Token>& emitted,
             HitRates& rates) { d.learn(path, emitted, rates); },
          "path"_a, "emitted"_a, "rates"_a);
}

void bind_rejected(nb::module_& m) {
  nb::class_<RejectedBranches>(m, "RejectedBranches",
                               "What the target said in branches that were rejected.")
      .def(nb::init<>())
      .def("begin", &RejectedBranches::begin, "position"_a,
           "Begins with another tree, and forgets earlier positions.")
      .def(
          "add",
          [](RejectedBranches& r, uint32_t position, Token before, Token token,
             const std::vector<std::tuple<Token, float>>& differences) {
            std::vector<Correction::Difference> given;
            for (const auto& [of, logit] : differences) given.push_back({of, logit});
            r.add(position, before, token, given);
          },
          "position"_a, "before"_a, "token"_a, "differences"_a,
          "Remembers differences of logits, as (token, logit), after the last two tokens of a "
          "path.")
      .def(
          "correct",
          [](const RejectedBranches& r, uint32_t position, Token before, Token token,
             const Floats& row) {
            std::vector<float> out(row.data(), row.data() + row.size());
            r.correct(position, before, token, out);
            return array(std::move(out));
          },
          "position"_a, "before"_a, "token"_a, "row"_a,
          "The draft's logits with half of the nearest branch's differences added; f32[n_vocab].");
}

}  // namespace

void bind_draft(nb::module_& m) {
  bind_automaton(m);
  bind_agreement(m);
  bind_texts(m);
  bind_rejected(m);
}
