// Where the threads of one operation wait for each other.
#pragma once

namespace ersd {

// Waits until all threads of the operation have come to it.
struct Barrier {
  void (*wait)(void*);
  void* threads;
  void operator()() const { wait(threads); }
};

}  // namespace ersd
