// How often the tokens that texts propose come true, by what is known of the proposal.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ersd/token.h"

namespace ersd {

// Counts of proposals and of those that came true, in cells. A cell with few of them leans on the
// wider cell around it, and that one on a guess that ships with the package. The log-odds of a cell
// are then moved by what the proposed token and the one before it taught: answers depart from texts
// rather at the beginning of a line than within a word. These biases learn by AdaGrad.
class HitRates {
 public:
  static constexpr size_t kSources = 4;  // kinds of texts; the last one is the grammar
  static constexpr size_t kForms = 6;    // why the token was proposed
  static constexpr size_t kLengths = 12, kShares = 4, kLucks = 4;

  // A proposal's cell.
  struct Cell {
    uint8_t source = 0, form = 0;
    uint8_t length = 0;  // class of the number of tokens that agree before it
    uint8_t share = 0;   // class of its rivals in the text
    uint8_t luck = 0;    // class of how often the text was right of late
  };

  // The class of a length, 0 or more: 0, 1, 2, 3, 4, 5 to 6, 7 to 9, ..., 48 and more.
  static uint8_t length_class(int32_t length);

  // A proposal: a token after another one.
  struct Proposal {
    Cell cell;
    Token before = 0, token = 0;
  };

  // The probability that a proposal comes true.
  double operator()(const Proposal& proposal) const;

  void learn(const Proposal& proposal, bool is_hit);

 private:
  struct Count {
    float hits = 0, all = 0;
    double mean(double guess, double weight) const {
      return (hits + weight * guess) / (all + weight);
    }
    void add(bool is_hit);
  };
  struct Bias {
    float value = 0, squares = 0;
  };
  static constexpr size_t kTokens = 4096;  // tokens share a bias by chance
  static size_t place(Token token) { return static_cast<size_t>(token) % kTokens; }

  static double guess(const Cell& cell);
  double rate(const Cell& cell) const;
  static size_t wide(const Cell& cell) {
    return (cell.form * kLengths + cell.length) * kShares + cell.share;
  }
  static size_t narrow(const Cell& cell) {
    return (wide(cell) * kSources + cell.source) * kLucks + cell.luck;
  }

  static constexpr size_t kWide = kForms * kLengths * kShares;
  std::array<Count, kWide> wide_{};
  std::array<Count, kWide * kSources * kLucks> narrow_{};
  std::array<Bias, kTokens> before_{}, token_{};
};

}  // namespace ersd
