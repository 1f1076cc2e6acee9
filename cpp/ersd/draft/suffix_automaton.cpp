// Building and walking the automaton.
#include "ersd/draft/suffix_automaton.h"

#include <algorithm>

namespace ersd {

// The first of a state's further edges.
int32_t SuffixAutomaton::first_edge(int32_t s, bool& is_indexed) const {
  const int32_t edges = s >= 0 ? beginnings_[static_cast<size_t>(s)].edges : branching(s).edges;
  is_indexed = edges < kNone;
  return is_indexed ? -2 - edges : edges;
}

size_t SuffixAutomaton::slot(int32_t state, Token token) const {
  const auto key =
      static_cast<uint64_t>(static_cast<uint32_t>(state)) << 32 | static_cast<uint32_t>(token);
  return static_cast<size_t>(key * 0x9E3779B97F4A7C15u >> 20) & (index_.size() - 1);
}

// The further edge of a state with a token; kNone if there is none.
int32_t SuffixAutomaton::find(int32_t state, Token token) const {
  bool is_indexed = false;
  int32_t edge = first_edge(state, is_indexed);
  if (is_indexed) {
    for (size_t i = slot(state, token);; i = (i + 1) & (index_.size() - 1)) {
      const Indexed& found = index_[i];
      if (found.edge == kNone) return kNone;
      if (found.state == state && edges_[static_cast<size_t>(found.edge)].token == token)
        return found.edge;
    }
  }
  while (edge != kNone && edges_[static_cast<size_t>(edge)].token != token)
    edge = edges_[static_cast<size_t>(edge)].next;
  return edge;
}

// The state to which a token leads; kNoState if to none.
int32_t SuffixAutomaton::target(int32_t state, Token token) const {
  if (is_first(state, token)) return state + 1;
  const int32_t edge = find(state, token);
  return edge == kNone ? kNoState : edges_[static_cast<size_t>(edge)].to;
}

void SuffixAutomaton::grow_index() {
  std::vector<Indexed> old(std::max<size_t>(64, index_.size() * 2));
  old.swap(index_);
  for (const Indexed& entry : old) {
    if (entry.edge == kNone) continue;
    size_t i = slot(entry.state, edges_[static_cast<size_t>(entry.edge)].token);
    while (index_[i].edge != kNone) i = (i + 1) & (index_.size() - 1);
    index_[i] = entry;
  }
}

void SuffixAutomaton::index_edge(int32_t state, int32_t edge) {
  if (4 * ++n_indexed_ > 3 * index_.size()) grow_index();
  size_t i = slot(state, edges_[static_cast<size_t>(edge)].token);
  while (index_[i].edge != kNone) i = (i + 1) & (index_.size() - 1);
  index_[i] = {state, edge};
}

void SuffixAutomaton::add_edge(int32_t state, Token token, int32_t to, int32_t count) {
  bool is_indexed = false;
  const int32_t next = first_edge(state, is_indexed);
  const auto edge = static_cast<int32_t>(edges_.size());
  edges_.push_back({token, to, next, count});
  if (!is_indexed) {
    int32_t n = 0;
    for (int32_t e = edge; e != kNone && n <= kListed; e = edges_[static_cast<size_t>(e)].next) ++n;
    if (n <= kListed) {
      edges_of(state) = edge;
      return;
    }
    for (int32_t e = next; e != kNone; e = edges_[static_cast<size_t>(e)].next)
      index_edge(state, e);
  }
  index_edge(state, edge);
  edges_of(state) = -2 - edge;
}

// Makes a state for those substrings of `to` that are one token longer than `from` at most, and
// returns it.
int32_t SuffixAutomaton::split(int32_t from, int32_t to) {
  const int32_t made = -1 - static_cast<int32_t>(branchings_.size());
  branchings_.push_back(
      {length_of(from) + 1, link_of(to), kNone, to >= 0 ? to : branching(to).end});
  // The new state's edges come in the same order, the oldest of them first.
  if (to >= 0) {
    const Beginning& beginning = beginnings_[static_cast<size_t>(to)];
    add_edge(made, beginning.next, to + 1, beginning.count);
  }
  bool is_indexed = false;
  copied_.clear();
  for (int32_t e = first_edge(to, is_indexed); e != kNone; e = edges_[static_cast<size_t>(e)].next)
    copied_.push_back(edges_[static_cast<size_t>(e)]);
  for (size_t i = copied_.size(); i-- > 0;)
    add_edge(made, copied_[i].token, copied_[i].to, copied_[i].count);
  if (to >= 0)
    beginnings_[static_cast<size_t>(to)].link = made;
  else
    branchings_[static_cast<size_t>(-1 - to)].link = made;
  return made;
}

void SuffixAutomaton::count(int32_t state, Token token) {
  if (is_first(state, token)) {
    ++beginnings_[static_cast<size_t>(state)].count;
  } else if (const int32_t edge = find(state, token); edge != kNone) {
    ++edges_[static_cast<size_t>(edge)].count;
  }
}

void SuffixAutomaton::append(Token token) {
  const int32_t last = size(), made = last + 1;
  if (last > 0) count(link_of(last), token);
  beginnings_.back().next = token;
  beginnings_.back().count = 1;
  beginnings_.push_back({});
  int32_t state = link_of(last), to = kNoState;
  for (; state != kNoState && (to = target(state, token)) == kNoState; state = link_of(state))
    add_edge(state, token, made, 1);
  int32_t link = kRoot;
  if (state != kNoState) {
    link = to;
    if (length_of(to) != length_of(state) + 1) {
      link = split(state, to);
      for (; state != kNoState && target(state, token) == to; state = link_of(state))
        edges_[static_cast<size_t>(find(state, token))].to = link;
    }
  }
  beginnings_.back().link = link;
  if (link < 0) branchings_[static_cast<size_t>(-1 - link)].end = made;
}

SuffixAutomaton::Match SuffixAutomaton::follow(Match match, Token token) const {
  int32_t to = kNoState;
  match.state = state_of(match);
  while ((to = target(match.state, token)) == kNoState) {
    if (match.state == kRoot) return {};
    match = shorter(match);
  }
  return {to, match.length + 1};
}

void SuffixAutomaton::continuations(Match match, size_t most,
                                    std::vector<Continuation>& out) const {
  out.clear();
  const int32_t state = state_of(match);
  bool is_indexed = false;
  for (int32_t e = first_edge(state, is_indexed); e != kNone && out.size() < most;
       e = edges_[static_cast<size_t>(e)].next)
    out.push_back({edges_[static_cast<size_t>(e)].token, edges_[static_cast<size_t>(e)].count});
  if (state < 0 || state == size() || out.size() >= most) return;
  const Beginning& beginning = beginnings_[static_cast<size_t>(state)];
  out.push_back({beginning.next, beginning.count});
}

size_t SuffixAutomaton::n_bytes() const {
  return sizeof(*this) + beginnings_.size() * sizeof(Beginning) +
         branchings_.size() * sizeof(Branching) + edges_.size() * sizeof(Edge) +
         index_.capacity() * sizeof(Indexed);
}

}  // namespace ersd
