// How a context is made, and what it says of itself.
#include "ersd/llama/context.h"

#include <llama.h>

#include <algorithm>

#include "ersd/check.h"
#include "ersd/llama/context_params.h"
#include "ersd/llama/cores.h"

namespace ersd::llama {
namespace {

constexpr int32_t kMaxPadding = 16;  // tokens that a call is padded with at most
constexpr int32_t kMaxPlaces = 128;  // so that at least half of the ids are left for branches

// Where sequences take much memory, a context begins with one place or so many branches, and is
// made anew when more are needed. That takes as long as some steps.
constexpr int32_t kFirstBranches = 7;
constexpr double kManyBytes = 16e6;

const ContextOptions& checked(const ContextOptions& options) {
  check_at_least("n_ctx", options.n_ctx, 1);
  check_at_least("n_batch", options.n_batch, 1);
  check_at_least("n_threads", options.n_threads, 0);
  check_between("n_sequences", options.n_sequences, 1, kMaxPlaces);
  if (options.flash_attn < -1 || options.flash_attn > 1)
    refuse("flash_attn", "-1 (automatic), 0 or 1", options.flash_attn);
  if (options.n_ctx_total != 0) check_at_least("n_ctx_total", options.n_ctx_total, options.n_ctx);
  return options;
}

}  // namespace

Context::~Context() = default;

Context::Context(const Model& model, const ContextOptions& options,
                 std::function<bool()> interrupted)
    : model_(model),
      options_(options),
      interrupted_(std::move(interrupted)),
      batch_(std::make_unique<llama_batch>()),
      places_(static_cast<size_t>(checked(options).n_sequences)),
      ledger_(options.n_sequences),
      n_vocab_(model.n_vocab()),
      n_ctx_(options.n_ctx),
      n_ctx_total_(std::max(options.n_ctx_total, options.n_ctx)),
      n_threads_(options.n_threads > 0 ? options.n_threads : default_n_threads()),
      window_(std::max(0, llama_model_n_swa(model.get()))),
      governor_(n_threads_),
      governs_(!model.on_gpu()),
      can_branch_(model.can_branch()),
      whole_trees_(options.whole_trees),
      owns_attention_(llama::owns_attention(model, options)),
      orders_cells_(options.ordered_cells && (options.exact || cache_on_cpu(model, options))) {
  // A row of logits for each sequence lies on the host, and a window in the cache.
  const auto take_much = [this](int32_t n) {
    return window_ > 0 || sizeof(float) * 1.0 * n_vocab_ * n > kManyBytes;
  };
  is_lazy_ = can_branch_ && whole_trees_ && take_much(std::min(options.max_nodes, kMaxIds));
  size_ = {options.max_nodes, n_sequences(), options.max_nodes};
  if (is_lazy_) size_.branches = std::min(options.max_nodes, kFirstBranches);
  if (is_lazy_ && take_much(n_sequences())) size_.places = 1;
  choose_rollback();
  create();
}

// Chooses whether layers with a sliding window keep all cells, as trees and the order of cells that
// exactness needs must have.
void Context::choose_window(int32_t n_sequences) {
  const int64_t n_window_cells =
      int64_t{window_} * n_sequences + std::max(options_.n_batch, n_rows_);
  const bool may_be_lean = size_.nodes == 0 || (options_.lean_window && can_branch_);
  keeps_window_ =
      options_.exact || window_ == 0 || !may_be_lean || n_ctx_total_ < 2 * n_window_cells;
  ordered_cells_ = orders_cells_ && keeps_window_;
}

// Makes llama.cpp's context with an empty cache, of the size that size_ says.
void Context::create() {
  const int32_t n_used_ids = can_branch_ ? first_branch_id(size_.places) : n_sequences();
  const bool drafts = size_.nodes > 0;
  // The trees of a step go into one call, which has a root for each of them.
  n_rows_ = size_.nodes + n_sequences();
  const int32_t n_padding = drafts ? kMaxPadding : 0;
  llama_context_params params = context_params(model_, options_);
  choose_window(n_used_ids);
  params.swa_full = keeps_window_;
  // Branches and one sequence for padding need an id each.
  const bool has_branches = drafts && can_branch_ && keeps_window_;
  const int32_t n_ids =
      has_branches ? std::min(n_used_ids + size_.branches + 1, kMaxIds) : n_used_ids;
  n_branch_ids_ = n_ids - n_used_ids;
  reset_branches();
  // llama.cpp aborts if a call has room for fewer tokens than there are ids, or the cache has.
  const int32_t n_call = std::max(n_rows_, n_ids);
  const int64_t n_cells = int64_t{n_ctx_total_} + size_.nodes + n_padding;
  params.n_ctx = static_cast<uint32_t>(std::max<int64_t>(n_cells, n_call));
  params.n_threads = params.n_threads_batch = n_threads_;
  params.n_batch = params.n_ubatch = static_cast<uint32_t>(std::max(options_.n_batch, n_call));
  params.n_seq_max = static_cast<uint32_t>(n_ids);
  params.n_outputs_max =
      std::min<uint32_t>(params.n_batch, static_cast<uint32_t>(n_call + n_padding));
  if (!can_branch_) {
    // Each place has cells of its own. With those of others between them, rejected tokens would
    // leave holes there.
    params.kv_unified = n_ids == 1;
    params.n_ctx = static_cast<uint32_t>(n_ids * std::max(n_ctx_ + kMaxChain + 1, n_call));
    params.n_rs_seq = static_cast<uint32_t>(n_rollback_);
  }
  can_shift_ = params.type_k != GGML_TYPE_BF16;  // llama.cpp aborts on shifting such keys
  context_ = make_context(model_, params);
  n_batch_ = static_cast<int32_t>(llama_n_batch(context_.get()));  // at most the cells
  n_cells_ = static_cast<int32_t>(llama_n_ctx(context_.get()));
  apply_lora();
  const auto poll = [](void* self) { return static_cast<Context*>(self)->interrupted_(); };
  if (interrupted_) llama_set_abort_callback(context_.get(), poll, this);
}

// Makes llama.cpp's context anew in another size, with what the cache holds.
void Context::remake(const Size& size) {
  if (has_trees())
    throw std::invalid_argument("decode: trees must end before other places or branches are used");
  const std::vector<Saved> all = save_all();
  const Size before = size_;
  const auto recreate = [&](const Size& new_size) {
    const bool kept_window = keeps_window_;
    size_ = new_size;
    context_.reset();
    create();
    if (padding_id_ >= 0) take_padding_id();
    restore_all(all);
    if (keeps_window_ == kept_window) return;
    for (Place& place : places_) place.checkpoints.clear();
  };
  try {
    recreate(size);
  } catch (const std::runtime_error&) {
    recreate(before);
    throw;
  }
}

void Context::reserve_nodes(int32_t n) {
  n = std::min(n, kMaxDraftNodes);
  if (n <= size_.nodes || size_.nodes == 0 || !can_branch_) return;
  remake({n, size_.places, is_lazy_ ? size_.branches : n});
}

// Sets an id apart for padding, and the width of calls that must be padded.
void Context::take_padding_id() {
  padding_id_ = first_branch_id(size_.places) + --n_branch_ids_;
  reset_branches();
  n_batch_ = static_cast<int32_t>(llama_n_batch(context_.get()));
  if (widths_.most > 0) n_batch_ = std::min(n_batch_, widths_.most);
  n_batch_ -= n_batch_ % widths_.step;
}

void Context::set_widths(const CallWidths& widths) {
  if (padding_id_ < 0 && n_branch_ids_ == 0)
    throw std::invalid_argument("only a context for drafts can pad its calls");
  check_between("set_widths: step", widths.step, 1, kMaxPadding);
  if (padding_id_ >= 0) ++n_branch_ids_;  // it is taken again
  clear();
  widths_ = widths;
  take_padding_id();
}

void Context::apply_lora() {
  llama_adapter_lora* adapter = model_.lora();
  float scale = model_.lora_scale();
  if (adapter && llama_set_adapters_lora(context_.get(), &adapter, 1, &scale) != 0)
    throw std::runtime_error("llama.cpp could not apply the LoRA adapter to '" + model_.path() +
                             "'");
}

llama_memory_i* Context::memory() const { return llama_get_memory(context_.get()); }

Place& Context::place(int32_t sequence) {
  check_between("sequence", sequence, 0, n_sequences() - 1);
  return places_[static_cast<size_t>(sequence)];
}

const Place& Context::place(int32_t sequence) const {
  check_between("sequence", sequence, 0, n_sequences() - 1);
  return places_[static_cast<size_t>(sequence)];
}

std::span<const Token> Context::cached(int32_t sequence) const { return place(sequence).cached; }

int32_t Context::n_free() const { return std::max(0, n_ctx_total_ - ledger_.n_live()); }

std::span<const float> Context::logits(int32_t node, int32_t sequence) const {
  const Place& p = place(sequence);
  const int32_t row = p.layout.row(node);
  const float* logits = row < 0 || p.row_offset < 0
                            ? nullptr
                            : llama_get_logits_ith(context_.get(), p.row_offset + row);
  if (!logits)
    throw std::runtime_error("llama.cpp has no logits for node " + std::to_string(node) +
                             " of sequence " + std::to_string(sequence));
  return {logits, static_cast<size_t>(n_vocab_)};
}

}  // namespace ersd::llama
