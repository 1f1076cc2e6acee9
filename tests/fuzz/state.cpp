// Saved states with any damage, on models with all kinds of caches: a state is refused, or the
// context decodes on. Afterwards the context gives the logits that it gave at first.
//
// ERSD_FUZZ_MODELS names a folder with GGUF files; bench/fuzz.py writes small ones.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <vector>

#include "ersd/llama/context.h"
#include "input.h"

using namespace ersd;
using fuzz::Input, fuzz::require;

namespace {

using State = llama::Context::State;

// A model, the states of two texts, and the logits after the first.
class Subject {
 public:
  explicit Subject(const std::string& path) : model_(path, {}), context_(model_, options(), {}) {
    for (const int32_t n : {3, 21}) {
      logits_ = logits(std::vector<Token>(static_cast<size_t>(n), 7));
      states_.push_back(context_.save_state());
      context_.rollback(0);
      const State& state = states_.back();
      auto& marks = marks_.emplace_back();
      // Where counts, positions, types and sizes may stand.
      for (size_t at = 0; at + 4 <= state.data.size(); at += 4) {
        int32_t value = 0;
        std::memcpy(&value, &state.data[at], sizeof(value));
        if (value >= 0 && value < 4096) marks.push_back(at);
      }
    }
  }

  void run(Input& input) {
    State state = damaged(input);
    try {
      context_.load_state(state);
      state.tokens.push_back(7);
      if (state.tokens.size() < 60) logits(state.tokens);
    } catch (const std::invalid_argument&) {
      require(context_.cached().empty());
    }
    context_.rollback(0);
    require(logits(std::vector<Token>(21, 7)) == logits_);
    context_.rollback(0);
  }

 private:
  // Two places, so that a recurrent model has two cells.
  static llama::ContextOptions options() {
    llama::ContextOptions options;
    options.n_ctx = 64, options.n_batch = 64, options.n_threads = 1;
    options.max_nodes = 4, options.n_sequences = 2;
    return options;
  }
  State damaged(Input& input) const {
    const auto which = static_cast<size_t>(input.up_to(1));
    State state = states_[which];
    for (int32_t n = 1 + input.up_to(3); n > 0 && !state.data.empty(); --n)
      damage(input, marks_[which], state);
    return state;
  }
  static void damage(Input& input, const std::vector<size_t>& marks, State& state) {
    std::vector<uint8_t>& data = state.data;
    const size_t at = input.coin() ? marks[input.raw<uint32_t>() % marks.size()] % data.size()
                                   : input.raw<uint32_t>() % data.size();
    const auto write = [&](auto value) {
      std::memcpy(&data[at], &value, std::min(sizeof(value), data.size() - at));
    };
    switch (input.up_to(6)) {
      case 0:
        return data.resize(at);
      case 1:
        return write(input.raw<uint64_t>());
      case 2:
        return write(static_cast<int32_t>(input.raw<int8_t>()));
      case 3:
        state.tokens.resize(static_cast<size_t>(input.up_to(70)), input.raw<int32_t>());
        return;
      case 4:
        if (!state.tokens.empty()) state.tokens.back() = input.raw<int32_t>();
        return;
      case 5: {
        const std::string more = input.text(60);
        data.insert(data.begin() + static_cast<std::ptrdiff_t>(at), more.begin(), more.end());
        return;
      }
      default:
        data[at] ^= static_cast<uint8_t>(1 << input.up_to(7));
    }
  }
  std::vector<float> logits(const std::vector<Token>& tokens) {
    DraftTree tree(tokens.back());
    const std::vector<int32_t> root{0};
    const Part part{0, {tokens.data(), tokens.size() - 1}, &tree, root};
    context_.decode({&part, 1});
    const auto row = context_.logits(0);
    return {row.begin(), row.end()};
  }

  llama::Model model_;
  llama::Context context_;
  std::vector<State> states_;
  std::vector<std::vector<size_t>> marks_;
  std::vector<float> logits_;
};

std::vector<std::unique_ptr<Subject>>& subjects() {
  static std::vector<std::unique_ptr<Subject>> all;
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const auto& all = subjects();
  all[static_cast<size_t>(input.up_to(static_cast<int32_t>(all.size()) - 1))]->run(input);
  return 0;
}

// The fuzzer calls this before the first input.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* folder = std::getenv("ERSD_FUZZ_MODELS");
  std::vector<std::filesystem::path> paths;
  if (folder)
    for (const auto& file : std::filesystem::directory_iterator(folder)) paths.push_back(file);
  if (paths.empty()) {
    std::fputs("ERSD_FUZZ_MODELS must name a folder with GGUF files\n", stderr);
    std::exit(1);
  }
  std::ranges::sort(paths);
  for (const auto& path : paths) subjects().push_back(std::make_unique<Subject>(path));
  return 0;
}
