// Counts the allocations of decoding steps over table models. After some steps there must be none;
// allocations of the table models themselves are not counted.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "ersd/decode/engine.h"
#include "ersd/model/table_model.h"

namespace {

using namespace ersd;

bool counting = false;
long n_allocations = 0;

void* allocate(size_t size, size_t alignment) {
  n_allocations += counting;
  void* p = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (!p) throw std::bad_alloc();
  return p;
}

constexpr int32_t kSequences = 2;

// A table model whose allocations are not counted.
class Uncounted : public LanguageModel {
 public:
  Uncounted(std::vector<float> table, int32_t n_vocab)
      : model_(std::move(table), n_vocab, 1 << 15, kSequences) {}
  using LanguageModel::commit;
  using LanguageModel::decode;
  int32_t n_vocab() const override { return model_.n_vocab(); }
  int32_t n_ctx() const override { return model_.n_ctx(); }
  int32_t n_sequences() const override { return model_.n_sequences(); }
  int32_t n_free() const override { return model_.n_free(); }
  std::span<const Token> cached(int32_t sequence = 0) const override {
    return model_.cached(sequence);
  }
  std::span<const float> logits(int32_t node, int32_t sequence = 0) const override {
    return model_.logits(node, sequence);
  }
  void decode(std::span<const Part> parts) override {
    const Pause pause;
    model_.decode(parts);
  }
  void commit(std::span<const Accepted> accepted) override {
    const Pause pause;
    model_.commit(accepted);
  }
  void rollback(int32_t n, int32_t sequence = 0) override {
    const Pause pause;
    model_.rollback(n, sequence);
  }
  bool share(int32_t from, int32_t to, int32_t n) override {
    const Pause pause;
    return model_.share(from, to, n);
  }

 private:
  struct Pause {
    bool before = std::exchange(counting, false);
    ~Pause() { counting = before; }
  };
  TableModel model_;
};

constexpr int32_t kVocab = 700, kFew = 40, kRows = 32, kWarm = 1500, kSteps = 300;

// A table of random logits, f32[kRows, n_vocab]: sums of four uniform variates by a linear
// congruential generator, times spread.
std::vector<float> noise(uint64_t state, float spread, int32_t n_vocab) {
  std::vector<float> x(static_cast<size_t>(kRows * n_vocab));
  for (float& value : x) {
    value = -2;
    for (int i = 0; i < 4; ++i)
      value +=
          static_cast<float>((state = state * 6364136223846793005u + 1442695040888963407u) >> 40) *
          0x1p-24f;
    value *= spread;
  }
  return x;
}

// Returns the number of allocations of kSteps steps, after kWarm others. measured: whether the
// costs of calls are known, so that the controller plans each call and learns from it.
long count(const char* name, const GenerationOptions& options, int32_t n_vocab = kVocab,
           bool measured = false) {
  const auto table = noise(1, 8, n_vocab);
  auto draft_table = noise(2, 2, n_vocab);
  for (size_t i = 0; i < table.size(); ++i) draft_table[i] += table[i];
  Uncounted target(table, n_vocab), draft(draft_table, n_vocab);
  Engine engine(target, &draft);
  if (measured) engine.measure();
  const std::vector<Token> prompt{3, 1, 4};
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<Sequence*> step;
  for (int32_t place = 0; place < kSequences; ++place) {
    GenerationOptions own = options;
    own.seed += static_cast<uint64_t>(place);
    sequences.push_back(
        std::make_unique<Sequence>(prompt, own, LogitsProcessorList(), target, &draft));
    step.push_back(sequences.back().get());
    step.back()->set_place(place);
    step.back()->set_limit(1000);
    engine.begin(*step.back());
  }
  size_t n_tokens = 0;
  n_allocations = 0;
  for (int i = 0; i < kWarm + kSteps; ++i) {
    counting = i >= kWarm;
    engine.step(step);
    counting = false;
    for (const Sequence* sequence : step) n_tokens += i >= kWarm ? sequence->emitted().size() : 0;
  }
  std::printf("%-24s %4ld allocations in %d steps of %.2f tokens\n", name, n_allocations, kSteps,
              static_cast<double>(n_tokens) / kSteps);
  return n_allocations;
}

}  // namespace

void* operator new(size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

int main() {
  GenerationOptions whole, cut;
  whole.seed = cut.seed = 7;
  whole.draft_nodes = cut.draft_nodes = 16;
  whole.adapt_draft = cut.adapt_draft = false;  // a correction grows
  whole.sampling = {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0};
  const auto with = [](GenerationOptions options, Method method, Strategy strategy) {
    options.method = method, options.strategy = strategy;
    return options;
  };
  long n = 0;
  n += count("plain", with(whole, Method::kAr, Strategy::kTree));
  n += count("plain, truncated", with(cut, Method::kAr, Strategy::kTree));
  n += count("sequence", with(whole, Method::kErsd, Strategy::kSequence));
  n += count("tree", with(whole, Method::kErsd, Strategy::kTree));
  n += count("tree, truncated", with(cut, Method::kErsd, Strategy::kTree));
  n += count("adaptive", with(whole, Method::kErsd, Strategy::kAdaptive));
  n += count("adaptive, truncated", with(cut, Method::kErsd, Strategy::kAdaptive));
  // A small vocabulary: after kWarm steps the correction has an entry for everything.
  whole.adapt_draft = true;
  n += count("adaptive, correcting", with(whole, Method::kErsd, Strategy::kAdaptive), kFew);
  // "auto" itself would choose k by the clock, and a new k may allocate.
  n += count("adaptive, planned", with(whole, Method::kErsd, Strategy::kAdaptive), kFew, true);
  return n > 0;
}
