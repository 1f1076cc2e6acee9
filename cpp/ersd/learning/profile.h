// What is known of a pair of models: what its calls cost on this machine, and what its texts taught
// of the draft.
#pragma once

#include "ersd/learning/correction.h"
#include "ersd/learning/cost.h"
#include "ersd/learning/histogram.h"
#include "ersd/learning/margins.h"

namespace ersd {

// What verified positions teach of a draft. It changes how soon a text comes, never the text.
struct Learnt {
  RankHistogram ranks;
  MarginModel margins;
  Correction correction;
};

// To be kept from one process to the next. The costs are those of a machine; the rest is the pair's
// wherever it runs.
struct Profile {
  CostCurve target, draft;
  Learnt learnt;  // of method kErsd
};

}  // namespace ersd
