// Many threads that use one Generator, for ThreadSanitizer: they submit, take and cancel requests,
// look at the state, and change it. Prints how many requests ended.
//
// threads TARGET.gguf DRAFT.gguf
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <thread>
#include <vector>

#include "ersd/generator.h"

namespace {

using namespace ersd;

constexpr int kThreads = 8, kRequests = 25;  // of each thread

std::atomic<int> n_whole = 0, n_cancelled = 0;

void send(Generator& generator, int number) {
  std::mt19937 random(static_cast<unsigned>(number));
  GenerationOptions options;
  options.max_tokens = 1 + static_cast<int32_t>(random() % 24);
  options.seed = random();
  options.draft_nodes = random() % 2 ? kAuto : 4;
  std::vector<Token> prompt(1 + random() % 60, 5);
  for (Token& token : prompt) token = 3 + static_cast<Token>(random() % 250);
  const auto request = generator.submit(prompt, options);
  const int n_steps = random() % 3 ? 1000 : static_cast<int>(random() % 4);
  for (int i = 0; i < n_steps; ++i)
    if (!generator.next(*request)) {
      ++n_whole;
      return;
    }
  generator.cancel(*request);
  ++n_cancelled;
}

// What a thread does that makes the steps of others, as that of asyncio's requests.
void drive(Generator& generator, const std::atomic<bool>& ends) {
  while (!ends) generator.step_all(5);
}

// What other threads ask of a Generator under load.
void look(Generator& generator, const std::atomic<bool>& ends) {
  while (!ends) {
    generator.snapshot();
    generator.profile();
    generator.reset();
    generator.save_state();
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
}

void run(const char* target, const char* draft) {
  GeneratorOptions options;
  options.context.n_ctx = 256;
  options.context.n_threads = 1;  // a team of OpenMP is not known to ThreadSanitizer
  options.n_ctx_total = 600;
  options.n_parallel = 4;
  Generator generator(target, draft, options);
  std::atomic<bool> ends = false;
  std::vector<std::thread> senders, others;
  for (int i = 0; i < kThreads; ++i)
    senders.emplace_back([&, i] {
      for (int j = 0; j < kRequests; ++j) send(generator, i * kRequests + j);
    });
  others.emplace_back([&] { drive(generator, ends); });
  others.emplace_back([&] { look(generator, ends); });
  for (auto& sender : senders) sender.join();
  ends = true;
  for (auto& other : others) other.join();
  send(generator, 0);  // by the thread that made the Generator
}

}  // namespace

int main(int n, char** words) {
  if (n != 3) {
    std::fprintf(stderr, "usage: threads TARGET.gguf DRAFT.gguf\n");
    return 2;
  }
  try {
    run(words[1], words[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "threads: %s\n", error.what());
    return 1;
  }
  std::printf("%d requests ended whole, %d were cancelled\n", n_whole.load(), n_cancelled.load());
  return n_whole + n_cancelled == kThreads * kRequests + 1 ? 0 : 1;
}
