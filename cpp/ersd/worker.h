// A thread that runs one function after another.
#pragma once

#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "ersd/process.h"

namespace ersd {

class Worker {
 public:
  Worker() = default;
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Starts the thread if it does not run yet, and returns its id.
  std::thread::id start();

  // Runs a function on the thread, and returns or throws as it does. One caller at a time, after
  // start().
  void run(const std::function<void()>& work);

 private:
  void run_all();

  std::mutex mutex_;
  Condition changed_;
  const std::function<void()>* work_ = nullptr;  // null: nothing is to be run
  std::exception_ptr error_;                     // of the last function
  bool ends_ = false;
  Process process_;
  std::thread thread_;
};

}  // namespace ersd
