// What is known about a pair of models: what their calls cost on this machine, and what verified
// positions taught about the draft.
#pragma once

#include "ersd/learning/correction.h"
#include "ersd/learning/cost.h"
#include "ersd/learning/histogram.h"
#include "ersd/learning/margins.h"

namespace ersd {

// What verified positions taught about a draft. It changes how fast a text comes, never the text.
struct DraftKnowledge {
  RankHistogram ranks;
  MarginModel margins;
  Correction correction;
};

// Kept from one process to the next. The costs belong to a machine; the knowledge belongs to the
// pair and is right on every machine.
struct Profile {
  CostCurve target, draft;
  DraftKnowledge knowledge;  // of method kErsd
};

}  // namespace ersd
