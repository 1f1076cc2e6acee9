// Whether drafting pays while several sequences share calls, by trying it.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace ersd {

// Costs of single calls do not tell what a step for many sequences takes, so steps with and without
// drafts are compared as they come, apart for each magnitude of the number of sequences. What steps
// bring is worth the time in which plain calls are expected to bring as much. The better way is
// used; the other one is tried again now and then, so rarely that this costs about one percent.
class DraftTrials {
 public:
  // Whether the next step for n_sequences, 1 or more, should draft.
  bool drafts(int32_t n_sequences) {
    Record& record = record_of(n_sequences);
    if (record.n_left == 0) choose(record);
    return record.drafts;
  }

  // Learns from such a step, which took ms milliseconds and brought what plain calls are expected
  // to bring in plain_ms.
  void learn(int32_t n_sequences, double plain_ms, double ms) {
    Record& record = record_of(n_sequences);
    if (record.n_left == 0 || plain_ms <= 0) return;
    Way& way = record.ways[record.drafts];
    way.worth_ms = kFade * way.worth_ms + plain_ms;
    way.ms = kFade * way.ms + std::min(ms, kStalled * plain_ms);
    way.n_steps_ago = 0;
    ++record.ways[!record.drafts].n_steps_ago;
    --record.n_left;
  }

 private:
  static constexpr int32_t kSteps = 6;           // of a trial
  static constexpr double kTrialShare = 0.01;    // of the time that trials may cost
  static constexpr int32_t kLeastPause = 60;     // steps between trials at least
  static constexpr double kFade = 1 - 1.0 / 64;  // means are over about 64 steps
  static constexpr double kStalled = 4;          // a stalled step counts no more than this

  // Steps without drafts, or with them.
  struct Way {
    double worth_ms = 0, ms = 0;  // fading sums of what steps were worth, and of their times
    int64_t n_steps_ago = 0;      // steps the other way since the last one this way
    double speed() const { return worth_ms / ms; }
  };
  struct Record {
    std::array<Way, 2> ways;  // by whether steps draft
    bool drafts = false;      // the way of the next n_left steps
    int32_t n_left = 0;
  };

  static void choose(Record& record) {
    record.n_left = kSteps;
    for (const bool way : {false, true})
      if (record.ways[way].ms == 0) {
        record.drafts = way;
        return;
      }
    const bool best = record.ways[true].speed() > record.ways[false].speed();
    const Way& other = record.ways[!best];
    // How many steps of the best way a step of the other one loses: it brings as much, but later.
    const double loss = record.ways[best].speed() / other.speed() - 1;
    const double pause = std::max<double>(kLeastPause, kSteps * loss / kTrialShare);
    record.drafts = static_cast<double>(other.n_steps_ago) >= pause ? !best : best;
  }

  Record& record_of(int32_t n_sequences) {
    return records_[static_cast<size_t>(std::bit_width(static_cast<uint32_t>(n_sequences) - 1))];
  }

  std::array<Record, 33> records_;  // for 1, 2, 3 to 4, 5 to 8, ... sequences
};

}  // namespace ersd
