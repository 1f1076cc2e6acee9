// Trials of one thread fewer or more.
#include "ersd/learning/thread_governor.h"

#include <algorithm>

namespace ersd {
namespace {

// A call stalled if its threads ran for less of its time than the first share, and stalled badly if
// for less than the second one.
constexpr double kShare = 0.85, kBadShare = 0.6;

// So many stalled calls start a trial of fewer threads. A bad one counts for all of them. Whenever
// such a trial was in vain, the next one needs twice as many.
constexpr int32_t kStalls = 3, kMostStalls = 96;

constexpr size_t kTrial = 3;          // calls of a trial that are compared
constexpr double kGain = 1.25;        // how much faster fewer threads must be
constexpr double kHopeless = 0.5;     // a trial of more ends at once if it is slower than this
constexpr double kNewest = 0.3;       // weight of the last call in averages
constexpr double kTrialShare = 0.03;  // of the time, what trials of more threads may cost
constexpr double kShortWaitMs = 500, kLongWaitMs = 30000;  // until more threads are tried

}  // namespace

ThreadGovernor::ThreadGovernor(int32_t most)
    : most_(most), kept_(most), stalls_for_trial_(kStalls), wait_ms_(kShortWaitMs) {}

void ThreadGovernor::learn(int32_t width, double ms, double cpu_ms) {
  if (most_ == 1 || width < 1 || width > kWidths || !(ms > 0)) return;
  double& typical_ms = typical_ms_[static_cast<size_t>(width)];
  if (trying_) {
    if (typical_ms > 0) learn_from_trial(typical_ms / ms, ms - typical_ms / speed_);
    return;
  }
  if (typical_ms > 0) speed_ += kNewest * (typical_ms / ms - speed_);
  typical_ms = typical_ms > 0 ? typical_ms + kNewest * (ms - typical_ms) : ms;
  since_trial_ms_ += ms;
  const double share = cpu_ms / (kept_ * ms);
  stalls_ = std::max(0, stalls_ + (share < kBadShare ? kStalls : share < kShare ? 1 : -1));
  if (stalls_ >= stalls_for_trial_ && kept_ > 1)
    start_trial(kept_ - 1);
  else if (kept_ < most_ && since_trial_ms_ >= wait_ms_)
    start_trial(kept_ + 1);
}

void ThreadGovernor::start_trial(int32_t n_threads) {
  trying_ = true;
  tried_ = n_threads;
  stalls_ = 0;
  trial_.clear();
  trial_lost_ms_ = 0;
}

// The first call with more threads wakes them, so it is compared only if it is hopeless. Fewer
// threads are given up with the first call that is not faster.
void ThreadGovernor::learn_from_trial(double speed, double lost_ms) {
  trial_lost_ms_ += std::max(lost_ms, 0.0);
  trial_.push_back(speed);
  const double least = tried_ < kept_ ? 1 : kHopeless;
  if (speed < least * speed_) return end_trial(false, speed);
  if (trial_.size() <= kTrial) return;
  std::nth_element(trial_.begin() + 1, trial_.begin() + 1 + kTrial / 2, trial_.end());
  const double median = trial_[1 + kTrial / 2];
  end_trial(median > (tried_ > kept_ ? 1 : kGain) * speed_, median);
}

void ThreadGovernor::end_trial(bool is_faster, double speed) {
  trying_ = false;
  since_trial_ms_ = 0;
  if (is_faster) {
    kept_ = tried_;
    speed_ = speed;
    stalls_for_trial_ = kStalls;
    wait_ms_ = kShortWaitMs;
  } else if (tried_ > kept_) {
    wait_ms_ = std::clamp(trial_lost_ms_ / kTrialShare, wait_ms_, kLongWaitMs);
  } else {
    stalls_for_trial_ = std::min(2 * stalls_for_trial_, kMostStalls);
  }
}

}  // namespace ersd
