// Times races, arrivals and truncation, a bare maximum, and llama.cpp's sampler chain. It is a
// library that race.py loads, so that NumPy is timed in the same run.
#include <llama.h>

#include <chrono>
#include <vector>

#include "ersd/race/race.h"
#include "ersd/race/simd/lanes.h"

namespace {

using namespace ersd;

enum What {
  kMaximum,
  kWinner,
  kArrivals,
  kTruncation,
  kTruncatedWinner,
  kChain,
  kChainArray,
  kCount
};

// The greatest of n >= 8 * kLanes values.
ERSD_VECTORISED float bare_maximum(const float* x, size_t n) {
  Lanes m[8], next;
  for (Lanes& lanes : m) load(x, lanes);
  size_t j = 0;
  for (; j + 8 * kLanes <= n; j += 8 * kLanes)
    for (size_t k = 0; k < 8; ++k) load(x + j + k * kLanes, next), keep_greater(next, m[k]);
  for (Lanes& lanes : m) keep_greater(lanes, m[0]);
  float maximum = greatest(m[0]);
  for (; j < n; ++j) maximum = x[j] > maximum ? x[j] : maximum;
  return maximum;
}

constexpr SamplingOptions kWhole{1, 0, 1, 0}, kTruncated{1, 40, 0.95f, 0.05f};

class Bench {
 public:
  Bench() : chain_(llama_sampler_chain_init(llama_sampler_chain_default_params())) {
    for (llama_sampler* s :
         {llama_sampler_init_top_k(kTruncated.top_k), llama_sampler_init_top_p(kTruncated.top_p, 1),
          llama_sampler_init_min_p(kTruncated.min_p, 1), llama_sampler_init_temp(1),
          llama_sampler_init_dist(1)})
      llama_sampler_chain_add(chain_, s);
  }
  ~Bench() { llama_sampler_free(chain_); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // Runs the measured code once and returns a value that depends on its result.
  double run(What what, std::span<const float> row, uint32_t position) {
    const Clock clock(7, position * static_cast<uint32_t>(Race::kCachedPositions));
    switch (what) {
      case kMaximum:
        return bare_maximum(row.data(), row.size());
      case kWinner:
        return race_.winner(row, kWhole, clock).token;
      case kArrivals:
        return race_.arrivals(row, kWhole, clock, 64).back().token;
      case kTruncation:
        row_.read(row);
        return truncation_.cutoff(row_, kTruncated);
      case kTruncatedWinner:
        return race_.winner(row, kTruncated, clock).token;
      case kChain:
      case kChainArray:
        break;
      case kCount:
        return 0;
    }
    candidates_.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i)
      candidates_[i] = {static_cast<llama_token>(i), row[i], 0};
    llama_token_data_array array{candidates_.data(), candidates_.size(), -1, false};
    if (what == kChain) llama_sampler_apply(chain_, &array);
    return array.data[array.selected < 0 ? 0 : array.selected].id;
  }

 private:
  llama_sampler* chain_;
  std::vector<llama_token_data> candidates_;
  Race race_;
  Row row_;
  Truncation truncation_;
};

}  // namespace

// Measures the nanoseconds of each row in one pass over the rows. Each row is taken `repeats` times
// before the next one; with 1, the other rows replace it in the caches. The races of a row are the
// same in every pass. rows: f32[n_rows, n_vocab], ns: f64[n_rows].
extern "C" void race_bench(int what, const float* rows, size_t n_rows, size_t n_vocab,
                           size_t repeats, double* ns) {
  static Bench bench;
  [[maybe_unused]] static volatile double sink;
  for (size_t r = 0; r < n_rows; ++r) {
    const std::span row(rows + r * n_vocab, n_vocab);
    // Bench::run multiplies it by kCachedPositions, so that no race finds the draws of another.
    const auto position = static_cast<uint32_t>(r * repeats);
    if (repeats > 1) sink = bench.run(static_cast<What>(what), row, position);
    const auto started = std::chrono::steady_clock::now();
    for (size_t i = 0; i < repeats; ++i)
      sink = bench.run(static_cast<What>(what), row, position + static_cast<uint32_t>(i));
    ns[r] = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started)
                .count() /
            static_cast<double>(repeats);
  }
}
