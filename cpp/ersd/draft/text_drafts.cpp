// Proposals of several texts, and what their success teaches.
#include "ersd/draft/text_drafts.h"

#include <algorithm>
#include <utility>

namespace ersd {
namespace {

constexpr double kLuckRate = 1.0 / 8;
constexpr size_t kMostContext = 256;  // tokens of a prompt that are looked for in other texts
constexpr double kMostTotal = 0.99;   // what candidates may sum to
constexpr int32_t kGrammar = -1;      // stands for a text

uint8_t luck_class(double luck) {
  return static_cast<uint8_t>(luck < 0.3 ? 0 : luck < 0.6 ? 1 : luck < 0.85 ? 2 : 3);
}

}  // namespace

void TextDrafts::begin(std::span<const Token> tokens, bool looks_up, Texts others) {
  texts_.clear();
  own_ = looks_up ? std::make_shared<TextSource>(Source::kLookup) : nullptr;
  if (own_) texts_.push_back({own_, {}});
  for (auto& text : others) {
    const auto start = text->start();
    texts_.push_back({std::move(text), start});
  }
  // Other texts may have the end of the prompt. An expected text begins with the answer.
  const auto end = tokens.last(std::min(tokens.size(), kMostContext));
  for (Text& text : texts_)
    if (text.source != own_ && text.source->source() != Source::kPrediction)
      for (const Token token : end) text.root = text.source->follow(text.root, token);
  for (const Token token : tokens) append_own(token);
  reset();
}

void TextDrafts::append(std::span<const Token> tokens) {
  for (const Token token : tokens) {
    for (Text& text : texts_)
      if (text.source != own_) text.root = text.source->follow(text.root, token);
    append_own(token);
  }
}

// The place of the sequence in its own tokens is found before they have the new one. The automaton
// then knows the match better, because its states may have been split.
void TextDrafts::append_own(Token token) {
  if (!own_) return;
  TextSource::Place& root = texts_.front().root;
  root = own_->follow(root, token);
  own_->append(token);
  root.match = own_->automaton().repeated();
}

void TextDrafts::reset() {
  places_.clear();
  for (const Text& text : texts_) places_.push_back(text.root);
  made_.clear();
}

void TextDrafts::add(int32_t parent, Token token) {
  const size_t first = static_cast<size_t>(parent) * texts_.size();
  for (size_t i = 0; i < texts_.size(); ++i)
    places_.push_back(texts_[i].source->follow(places_[first + i], token));
}

void TextDrafts::truncate(int32_t n) {
  places_.resize(static_cast<size_t>(n) * texts_.size());
  std::erase_if(made_, [n](const Made& made) { return made.node >= n; });
}

void TextDrafts::propose(int32_t node, const Clock* clock, const HitRates& rates,
                         std::vector<Candidate>& out) {
  out.clear();
  for (size_t i = 0; i < texts_.size(); ++i) {
    Text& text = texts_[i];
    text.source->propose(places_[static_cast<size_t>(node) * texts_.size() + i], clock, proposals_);
    for (size_t n = 0; n < proposals_.size(); ++n) {
      HitRates::Proposal& proposal = proposals_[n];
      proposal.cell.luck = luck_class(text.luck);
      made_.push_back({node, static_cast<int32_t>(i), n == 0, proposal});
      merge(out, proposal.token, rates(proposal), text.source->source());
    }
  }
  double total = 0;
  for (const Candidate& candidate : out) total += candidate.hit;
  if (total > kMostTotal)
    for (Candidate& candidate : out) candidate.hit *= kMostTotal / total;
}

std::vector<HitRates::Proposal> TextDrafts::made(int32_t node) const {
  std::vector<HitRates::Proposal> proposals;
  for (const Made& made : made_)
    if (made.node == node) proposals.push_back(made.proposal);
  return proposals;
}

void TextDrafts::merge(std::vector<Candidate>& out, Token token, double hit, Source source) {
  const auto same = std::ranges::find(out, token, &Candidate::token);
  if (same == out.end()) {
    out.push_back({token, hit, bit(source)});
  } else {
    same->hit = std::max(same->hit, hit);
    same->sources |= bit(source);
  }
}

void TextDrafts::propose_by_grammar(int32_t node, Token before, Token token, int32_t n_allowed,
                                    size_t place, const HitRates& rates,
                                    std::vector<Candidate>& out) {
  const HitRates::Cell cell{static_cast<uint8_t>(Source::kGrammar), 0,
                            HitRates::length_class(n_allowed), static_cast<uint8_t>(place)};
  const HitRates::Proposal proposal{cell, before, token};
  made_.push_back({node, kGrammar, false, proposal});
  merge(out, token, rates(proposal), Source::kGrammar);
}

void TextDrafts::learn(std::span<const int32_t> path, std::span<const Token> emitted,
                       HitRates& rates) {
  for (size_t i = 0; i < path.size(); ++i)
    for (const Made& made : made_) {
      if (made.node != path[i]) continue;
      const bool is_hit = made.proposal.token == emitted[i];
      rates.learn(made.proposal, is_hit);
      if (!made.is_first) continue;
      double& luck = texts_[static_cast<size_t>(made.text)].luck;
      luck += kLuckRate * (is_hit - luck);
    }
}

}  // namespace ersd
