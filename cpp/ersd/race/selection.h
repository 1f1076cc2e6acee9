// Truncation that no cutoff expresses: typical-p keeps tokens by their surprise, XTC removes the
// most probable ones.
#pragma once

#include <span>
#include <vector>

#include "ersd/race/sampling.h"

namespace ersd {

class Selection {
 public:
  // A copy of the row with -infinity in place of every token that the options remove, by all of
  // truncation in its order: what is left needs no more than the temperature. coin: of (0, 1); XTC
  // acts where it is at most xtc_probability. Tokens that are equal stay or go together. logits:
  // f32[n_vocab]. Valid until the next call.
  std::span<const float> select(std::span<const float> logits, const SamplingOptions& options,
                                double coin);

 private:
  struct Candidate {
    size_t token;
    double probability, deviation;  // of its surprise from the expected one
  };
  void keep_from(float least);
  void keep_typical(float p);
  void exclude_top(float threshold);

  Row row_;
  Truncation truncation_;
  std::vector<float> kept_;  // f32[n_vocab]
  std::vector<Candidate> candidates_;
};

}  // namespace ersd
