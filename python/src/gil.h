// Python's lock (the GIL) around calls of the core, until the interpreter ends. Python then ends
// every other thread that takes the lock, in a way that C++ does not survive: destructors meet an
// exception that must not be caught, and the process aborts. So at the end no thread of the core
// takes it any more.
#pragma once

#include <nanobind/nanobind.h>

// Releases the lock for a call of the core. While the interpreter ends, a thread that returns from
// the core stays here for ever, without the lock. Only the thread that ends it goes on.
class ReleasedGil {
 public:
  ReleasedGil();
  ~ReleasedGil();
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* state_;
};

// Whether the interpreter ends and the thread is not the one that ends it.
bool interpreter_ends();

// Holds the lock for calls of Python in the core, in any thread. Throws Interrupted where
// interpreter_ends().
class HeldGil {
 private:
  struct Permission {
    Permission();
  };
  Permission permission_;
  nanobind::gil_scoped_acquire held_;
};

// Lets Python's atexit end the threads that are in the core: those that run a model are
// interrupted, and none takes the lock from then on. Call it once, when the module is made.
void end_threads_at_exit();
