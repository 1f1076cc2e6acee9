// The command line of ersd-bench.
#pragma once

#include <string>
#include <vector>

#include "ersd/generator.h"

namespace ersd::bench {

enum class Format { kMarkdown, kCsv, kJson, kJsonLines };

// One way to generate, to be checked and timed.
struct Configuration {
  Method method;
  Strategy strategy;
  DraftSources sources;
  int32_t draft_nodes;  // 0 for ar
  float temperature;
};

struct Arguments {
  std::string target, draft;  // paths of GGUF files; draft: empty for none
  Generator::Options generator;
  std::vector<std::string> prompts;
  std::vector<Configuration> configurations;  // for each temperature, ar comes first
  SamplingOptions sampling{1.0f, 0, 1.0f, 0.0f};
  int32_t n_gen = 64, repetitions = 3, draft_depth = 64;
  uint64_t seed = 1;
  bool chat = false, adapt_draft = true;
  Format format = Format::kMarkdown;
};

// Throws std::invalid_argument for words that are no valid command line.
Arguments parse(const std::vector<std::string>& words);
const char* usage();

}  // namespace ersd::bench
