// Which process an object was made in. A forked child has the memory of its parent, but none of its
// threads.
#pragma once

#include <condition_variable>
#include <stdexcept>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace ersd {

class Process {
 public:
  // Whether the object that has this member was made in the running process.
  bool is_current() const { return id_ == current(); }

  // Throws std::runtime_error in a forked child.
  void check() const {
    if (!is_current())
      throw std::runtime_error(
          "this Generator belongs to the process from which this one was forked, and its threads "
          "are missing here: make a Generator in the child process");
  }

 private:
#ifdef _WIN32
  static int current() { return 0; }  // Windows has no fork
#else
  static int current() { return static_cast<int>(getpid()); }
#endif

  int id_ = current();
};

// A condition variable that is left alone in a forked child: to destroy it would wait for threads
// of the parent.
class Condition {
 public:
  Condition() = default;
  ~Condition() {
    if (process_.is_current()) delete condition_;
  }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  std::condition_variable* operator->() { return condition_; }

 private:
  Process process_;
  std::condition_variable* condition_ = new std::condition_variable;
};

}  // namespace ersd
