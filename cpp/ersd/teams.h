// Which thread calls llama.cpp for many threads.
#pragma once

#include <functional>
#include <thread>

#include "ersd/worker.h"

namespace ersd {

// llama.cpp keeps a team of helping threads for each thread that calls it. Where there are more
// helpers than cores, they sleep at every operation, and calls take up to twice as long. So there
// is one team at a time: that of the owner, which is the thread that made this object, or that of a
// worker.
class Teams {
 public:
  // The thread on which run() is to do the work of this thread: itself if it is the owner and no
  // other has work, else the worker.
  std::thread::id thread_for_work(bool is_alone);

  // Does work on a thread that thread_for_work() has returned to this one, and returns or throws as
  // the work does. One caller at a time.
  void run(std::thread::id thread, const std::function<void()>& work);

  // Ends the team of the owner if this is the owner. No other thread can do so, and it may be long
  // before the owner calls run() again, so it does this whenever it waits or has no work left.
  void release_owners();

 private:
  std::thread::id owner_ = std::this_thread::get_id();
  bool owner_has_team_ = false;   // only the owner uses this
  bool worker_has_team_ = false;  // only callers of run() use this
  Worker worker_;
};

}  // namespace ersd
