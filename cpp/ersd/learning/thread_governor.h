// How many threads a model's calls should use while other processes compete for the cores.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace ersd {

// llama.cpp's threads wait for each other at every operation, so one thread that loses its core to
// another process stalls all of them. Fewer threads are then faster. The governor notices stalled
// calls, tries one thread fewer for a few calls, and keeps whichever number was faster; later it
// tries one thread more now and then. While nothing stalls it tries nothing.
class ThreadGovernor {
 public:
  static constexpr int32_t kWidths = 64;

  // most: threads of an undisturbed call, 1 or more.
  explicit ThreadGovernor(int32_t most);

  // Threads of the next call.
  int32_t n_threads() const { return trying_ ? tried_ : kept_; }

  // Learns from a call that used n_threads(). width: its tokens; calls of more than kWidths teach
  // nothing. ms: its wall-clock time. cpu_ms: the processor time that this process spent
  // meanwhile, summed over threads; an undisturbed call spends n_threads() * ms.
  void learn(int32_t width, double ms, double cpu_ms);

 private:
  void learn_from_trial(double speed, double lost_ms);
  void start_trial(int32_t n_threads);
  void end_trial(bool is_faster, double speed);

  int32_t most_, kept_, tried_ = 0;
  bool trying_ = false;
  int32_t stalls_ = 0;  // how badly the last calls stalled, less those that did not
  int32_t stalls_for_trial_;
  double since_trial_ms_ = 0;
  double wait_ms_;  // until more threads are tried

  // Typical milliseconds of a call by its width, f64[kWidths + 1], 0 where there was none yet. They
  // make calls of different widths comparable: a call's speed is typical over actual time.
  std::array<double, kWidths + 1> typical_ms_{};
  double speed_ = 1;           // of recent calls with kept_ threads
  std::vector<double> trial_;  // speeds of this trial's calls
  double trial_lost_ms_ = 0;   // how much longer they took than with kept_ threads
};

}  // namespace ersd
