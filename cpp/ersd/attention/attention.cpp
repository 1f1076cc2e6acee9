// How a call is divided into units of work, and among threads.
#include "ersd/attention/attention.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <new>
#include <utility>

#include "ersd/attention/seen_cells.h"
#include "ersd/attention/variants.h"

namespace ersd::attention {
namespace {

constexpr int64_t kRowsPerUnit = 48;         // enough to make up for turning keys into columns
constexpr int64_t kScoresPerUnit = 1 << 18;  // floats of scores, which should stay in the cache
constexpr int64_t kUnitsPerThread = 4;       // with fewer, threads work together on each unit
constexpr int64_t kSpareCells = 64;          // of a unit that one of its tokens may not see

#ifdef ERSD_X86_OPERATIONS
constexpr std::array<const Variant*, 2> kVariants{&avx2, &avx512};
#else
constexpr std::array<const Variant*, 0> kVariants{};
#endif

// Neighbouring tokens that see nearly the same cells.
struct Block {
  int64_t stream, token, n_tokens, n_cells;
};

// What all threads read.
struct Shared {
  std::atomic<int64_t> next;  // unit that no thread has taken
  int64_t n_blocks;
};

class Work {
 public:
  Work(const Call& call, int thread, int n_threads, void* scratch)
      : call_(call),
        variant_(*call.variant),
        thread_(thread),
        n_threads_(n_threads),
        scratch_(reinterpret_cast<uintptr_t>(scratch)) {
    group_ = call.n_heads / call.n_kv_heads;
    stride_ = round_up(call.n_cells, variant_.tile);
    const int64_t most = std::clamp(kScoresPerUnit / stride_, int64_t{1}, kRowsPerUnit);
    tokens_per_block_ = std::max<int64_t>(1, most / group_);
    rows_per_unit_ = tokens_per_block_ * group_;
    n_rows_ = call.n_tokens * call.n_streams * call.n_heads;
    shared_ = take<Shared>(1);
    blocks_ = take<Block>(call.n_tokens * call.n_streams);
    inverse_ = take<float>(kUnitsPerThread * n_threads * rows_per_unit_);
    const int64_t together = std::min(n_rows_, kUnitsPerThread * n_threads * rows_per_unit_);
    scores_ = take<float>(std::max(together, n_threads * rows_per_unit_) * stride_);
    for (int i = 0; i < n_threads; ++i) {
      auto* seen = take<uint16_t>(call.n_cells);
      auto* cells = take<int32_t>(call.n_cells + kMargin);
      auto* columns = take<float>(call.key_size * variant_.tile);
      auto* q = take<float>(rows_per_unit_ * call.key_size);
      auto* slopes = take<float>(group_);
      auto* out = take<float*>(rows_per_unit_);
      if (i != thread) continue;
      seen_ = seen, cells_ = cells, columns_ = columns, q_ = q, slopes_ = slopes, out_ = out;
    }
  }

  size_t size() const { return used_; }

  void run(const Barrier& barrier) {
    if (thread_ == 0) divide();
    barrier();
    const int64_t n_units = shared_->n_blocks * call_.n_kv_heads;
    if (n_units >= kUnitsPerThread * n_threads_)
      run_units(n_units);
    else
      run_together(n_units, barrier);
  }

 private:
  // The next n objects of the scratch, on cache lines of their own.
  template <typename T>
  T* take(int64_t n) {
    const uintptr_t at = scratch_ + used_;
    used_ += static_cast<size_t>(round_up(n * static_cast<int64_t>(sizeof(T)), kCacheLine));
    return reinterpret_cast<T*>(at);
  }

  const char* mask_of(int64_t stream, int64_t token) const {
    return call_.mask + static_cast<size_t>(stream) * call_.mask_strides.stream +
           static_cast<size_t>(token) * call_.mask_strides.row;
  }

  // Marks the cells that a token sees, beside those that are marked unless it is the first.
  Seen mark(int64_t stream, int64_t token, bool first) {
    const auto* mask = reinterpret_cast<const uint16_t*>(mask_of(stream, token));
    if (first) std::fill_n(seen_, call_.n_cells, uint16_t{0});
    return mark_cells(mask, call_.n_cells, seen_);
  }

  // Finds the blocks, for all threads.
  void divide() {
    int64_t n_blocks = 0;
    for (int64_t stream = 0; stream < call_.n_streams; ++stream)
      for (int64_t token = 0; token < call_.n_tokens;) {
        Block block{stream, token, 1, mark(stream, token, true).all};
        int64_t least = block.n_cells;
        while (block.n_tokens < tokens_per_block_ && token + block.n_tokens < call_.n_tokens) {
          const int64_t next = token + block.n_tokens;
          const Seen n = mark(stream, next, false);
          least = std::min(least, n.own);
          if (n.all > least + least / 4 + kSpareCells) break;
          block.n_cells = n.all;
          ++block.n_tokens;
        }
        token += block.n_tokens;
        blocks_[n_blocks++] = block;
      }
    new (shared_) Shared{n_threads_, n_blocks};
  }

  const Block& block_of(int64_t unit) const { return blocks_[unit / call_.n_kv_heads]; }

  // Writes the unit's queries and finds the cells that it sees.
  Unit prepare(int64_t index) {
    const Block& block = block_of(index);
    const int64_t kv_head = index % call_.n_kv_heads;
    if (&block != listed_) {
      for (int64_t i = 0; i < block.n_tokens; ++i) mark(block.stream, block.token + i, i == 0);
      int32_t n = 0;
      for (int64_t i = 0; i < call_.n_cells; ++i) {
        cells_[n] = static_cast<int32_t>(i);
        n += seen_[i];
      }
      std::fill_n(cells_ + n, kMargin, n > 0 ? cells_[n - 1] : 0);
      listed_ = &block;
      n_listed_ = n;
    }
    for (int64_t head = 0; head < group_; ++head) slopes_[head] = slope(kv_head * group_ + head);
    const float scale = call_.softcap == 0 ? call_.scale : call_.scale / call_.softcap;
    for (int64_t row = 0; row < block.n_tokens * group_; ++row) {
      const int64_t token = block.token + row / group_, head = kv_head * group_ + row % group_;
      const char* q = call_.q + static_cast<size_t>(block.stream) * call_.q_strides.stream +
                      static_cast<size_t>(token) * call_.q_strides.row +
                      static_cast<size_t>(head) * call_.q_strides.head;
      const auto* from = reinterpret_cast<const float*>(q);
      for (int64_t d = 0; d < call_.key_size; ++d) q_[row * call_.key_size + d] = scale * from[d];
      out_[row] = call_.out + ((block.stream * call_.n_tokens + token) * call_.n_heads + head) *
                                  call_.value_size;
    }
    const auto place = [&](const char* data, const Strides& strides) {
      return data + static_cast<size_t>(block.stream) * strides.stream +
             static_cast<size_t>(kv_head) * strides.head;
    };
    return {block.n_tokens,
            group_,
            block.n_tokens * group_,
            n_listed_,
            round_up(n_listed_, variant_.tile),
            call_.key_size,
            call_.value_size,
            q_,
            place(call_.k, call_.k_strides),
            place(call_.v, call_.v_strides),
            mask_of(block.stream, block.token),
            call_.k_strides.row,
            call_.v_strides.row,
            call_.mask_strides.row,
            slopes_,
            call_.softcap};
  }

  // ALiBi's slope of a head (Press et al., arXiv 2108.12409), or 1.
  float slope(int64_t head) const {
    if (call_.max_bias <= 0) return 1;
    const int64_t n = int64_t{1} << static_cast<int>(std::floor(std::log2(call_.n_heads)));
    const float base = head < n ? std::pow(2.0f, -call_.max_bias / static_cast<float>(n))
                                : std::pow(2.0f, -call_.max_bias / 2 / static_cast<float>(n));
    return std::pow(base, static_cast<float>(head < n ? head + 1 : 2 * (head - n) + 1));
  }

  float sink(int64_t unit, int64_t row) const {
    if (!call_.sinks) return -kInfinity;
    return call_.sinks[unit % call_.n_kv_heads * group_ + row % group_];
  }

  int64_t n_items(const Unit& unit) const {
    return round_up(unit.n_rows, variant_.rows) / variant_.rows * unit.value_size / variant_.width;
  }

  // Turns the scores of rows into weights, and writes 1 / their sums.
  void weigh(int64_t index, const Unit& unit, int64_t first, int64_t last, float* scores,
             float* inverse) const {
    for (int64_t row = first; row < last; ++row) {
      const float sum =
          variant_.weights(scores + row * unit.stride, unit.n_cells, sink(index, row));
      inverse[row] = sum == 0 ? 0 : 1 / sum;
    }
  }

  // Each thread takes whole units.
  void run_units(int64_t n_units) {
    float* scores = scores_ + thread_ * rows_per_unit_ * stride_;
    float* inverse = inverse_ + thread_ * rows_per_unit_;
    for (int64_t i = thread_; i < n_units; i = shared_->next.fetch_add(1)) {
      const Unit unit = prepare(i);
      variant_.scores(unit, cells_, 0, unit.stride / variant_.tile, columns_, scores);
      weigh(i, unit, 0, unit.n_rows, scores, inverse);
      variant_.values(unit, cells_, scores, 0, n_items(unit), inverse, out_);
    }
  }

  // All threads work on each step of all units.
  void run_together(int64_t n_units, const Barrier& barrier) {
    const auto each = [&](auto&& work) {
      int64_t row = 0, cost = 0, all = 0;
      const auto cost_of = [&](int64_t i) {
        return block_of(i).n_tokens * group_ * (block_of(i).n_cells + 1);
      };
      for (int64_t i = 0; i < n_units; ++i) all += cost_of(i);
      const int64_t begin = all * thread_ / n_threads_, end = all * (thread_ + 1) / n_threads_;
      float* scores = scores_;
      for (int64_t i = 0; i < n_units; ++i) {
        const int64_t own = cost_of(i);
        // This thread's share of n things of the unit.
        const auto share = [&](int64_t n) {
          const auto index = [&](int64_t at) {
            return n * std::clamp<int64_t>(at - cost, 0, own) / own;
          };
          return std::pair(index(begin), index(end));
        };
        if (cost < end && cost + own > begin) work(i, prepare(i), scores, inverse_ + row, share);
        cost += own;
        const int64_t n_rows = block_of(i).n_tokens * group_;
        row += n_rows;
        scores += n_rows * round_up(block_of(i).n_cells, variant_.tile);
      }
    };
    each([&](int64_t, const Unit& unit, float* scores, float*, auto&& share) {
      const auto [first, last] = share(unit.stride / variant_.tile);
      variant_.scores(unit, cells_, first, last, columns_, scores);
    });
    barrier();
    each([&](int64_t i, const Unit& unit, float* scores, float* inverse, auto&& share) {
      const auto [first, last] = share(unit.n_rows);
      weigh(i, unit, first, last, scores, inverse);
    });
    barrier();
    each([&](int64_t, const Unit& unit, float* scores, float* inverse, auto&& share) {
      const auto [first, last] = share(n_items(unit));
      variant_.values(unit, cells_, scores, first, last, inverse, out_);
    });
  }

  const Call& call_;
  const Variant& variant_;
  int thread_, n_threads_;
  uintptr_t scratch_;
  size_t used_ = 0;
  int64_t group_, stride_, tokens_per_block_, rows_per_unit_, n_rows_;
  Shared* shared_;
  Block* blocks_;
  float *inverse_, *scores_;
  uint16_t* seen_ = nullptr;
  int32_t* cells_ = nullptr;
  float *columns_ = nullptr, *q_ = nullptr, *slopes_ = nullptr;
  float** out_ = nullptr;
  const Block* listed_ = nullptr;
  int64_t n_listed_ = 0;
};

}  // namespace

std::span<const Variant* const> supported_variants() {
  size_t n = 0;
#ifdef ERSD_X86_OPERATIONS
  if (__builtin_cpu_supports("x86-64-v3")) n = 1;
  if (__builtin_cpu_supports("x86-64-v4")) n = 2;
#endif
  return std::span(kVariants).first(n);
}

size_t scratch_size(const Call& call, int n_threads) {
  return Work(call, 0, n_threads, nullptr).size();
}

void attend(const Call& call, int thread, int n_threads, void* scratch, const Barrier& barrier) {
  Work(call, thread, n_threads, scratch).run(barrier);
}

}  // namespace ersd::attention
