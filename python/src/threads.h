// Runs an operation of several threads, as llama.cpp does.
#pragma once

#include <barrier>
#include <cstddef>
#include <thread>
#include <vector>

#include "ersd/operation.h"

// Calls operation(thread, scratch, barrier) in every thread from 0 to n_threads - 1.
template <class Operation>
void run_threads(int n_threads, size_t scratch_size, Operation&& operation) {
  std::vector<std::max_align_t> scratch(scratch_size / sizeof(std::max_align_t) + 1);
  std::barrier barrier(n_threads);
  const auto wait = [](void* b) { static_cast<std::barrier<>*>(b)->arrive_and_wait(); };
  std::vector<std::thread> threads;
  for (int i = 0; i < n_threads; ++i)
    threads.emplace_back([&, i] { operation(i, scratch.data(), ersd::Barrier{wait, &barrier}); });
  for (std::thread& thread : threads) thread.join();
}
