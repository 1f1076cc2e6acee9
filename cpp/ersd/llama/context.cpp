// Batches for llama_decode, and the upkeep of the cache.
#include "ersd/llama/context.h"

#include <llama.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <tuple>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/context_params.h"
#include "ersd/llama/cores.h"
#include "ersd/stopwatch.h"

namespace ersd::llama {
namespace {

constexpr int32_t kMaxSequences = 256;  // llama.cpp's limit: llama_max_parallel_sequences()
constexpr int32_t kAborted = 2;         // llama_decode's status if the abort callback stopped it

void check(const ContextOptions& options) {
  check_at_least("n_ctx", options.n_ctx, 1);
  check_at_least("n_batch", options.n_batch, 1);
  check_at_least("n_threads", options.n_threads, 0);
  if (options.flash_attn < -1 || options.flash_attn > 1)
    refuse("flash_attn", "-1 (automatic), 0 or 1", options.flash_attn);
}

}  // namespace

void Context::Free::operator()(llama_context* context) const { llama_free(context); }
Context::~Context() = default;

Context::Context(const Model& model, const ContextOptions& options,
                 std::function<bool()> interrupted)
    : interrupted_(std::move(interrupted)),
      batch_(std::make_unique<llama_batch>()),
      n_vocab_(model.n_vocab()),
      n_ctx_(options.n_ctx),
      n_threads_(options.n_threads > 0 ? options.n_threads : default_n_threads()),
      max_nodes_(model.can_branch() ? options.max_nodes : 0),
      n_batch_(std::max(options.n_batch, max_nodes_ + 1)),  // a tree goes into one call
      max_sequences_(max_nodes_ > 0 ? kMaxSequences : 1),
      governor_(n_threads_),
      governs_(!model.on_gpu()),
      ordered_cells_(options.ordered_cells && cache_on_cpu(model, options)) {
  check(options);
  create(model, options);
  apply_lora(model);
  const auto poll = [](void* self) { return static_cast<Context*>(self)->interrupted_(); };
  if (interrupted_) llama_set_abort_callback(context_.get(), poll, this);
}

void Context::create(const Model& model, const ContextOptions& options) {
  llama_context_params params = context_params(model, options);
  params.n_ctx = static_cast<uint32_t>(n_ctx_ + max_nodes_);
  params.n_threads = params.n_threads_batch = n_threads_;
  params.n_batch = params.n_ubatch = static_cast<uint32_t>(n_batch_);
  params.n_seq_max = static_cast<uint32_t>(max_sequences_);
  can_shift_ = params.type_k != GGML_TYPE_BF16;  // llama.cpp aborts on shifting such keys
  clear_error();
  context_.reset(llama_init_from_model(model.get(), params));
  if (!context_)
    throw std::runtime_error("llama.cpp could not make a context of " + std::to_string(n_ctx_) +
                             " tokens for '" + model.path() + "'" + error_suffix());
}

void Context::apply_lora(const Model& model) {
  llama_adapter_lora* adapter = model.lora();
  float scale = model.lora_scale();
  if (adapter && llama_set_adapters_lora(context_.get(), &adapter, 1, &scale) != 0)
    throw std::runtime_error("llama.cpp could not apply the LoRA adapter to '" + model.path() +
                             "'");
}

void Context::decode(std::span<const Token> history, const DraftTree& tree,
                     std::span<const int32_t> nodes) {
  // The rest of the history goes into the tree's batch if it fits, and into its own otherwise.
  const auto n_batch = static_cast<size_t>(n_batch_);
  const size_t room = nodes.empty() ? 0 : n_batch - nodes.size();
  while (history.size() - cached_.size() > room)
    decode_history(
        history.subspan(cached_.size(), std::min(history.size() - cached_.size(), n_batch)));
  if (nodes.empty()) return;
  const auto rest = history.subspan(cached_.size());
  const Batch& batch = layout_.lay_out(rest, n_cached(), tree, nodes, max_sequences_);
  share_prefix(batch.n_sequences);
  llama_memory_t memory = llama_get_memory(context_.get());
  for (const auto& copy : batch.copies)
    llama_memory_seq_cp(memory, copy.from, copy.to, copy.begin, copy.end);
  n_tree_ += static_cast<int32_t>(nodes.size());
  decode_batch(batch, true);
  cached_.insert(cached_.end(), rest.begin(), rest.end());
}

// Decodes the next tokens of the history, in all sequences that share the prefix.
void Context::decode_history(std::span<const Token> tokens) {
  Batch batch;
  batch.token.assign(tokens.begin(), tokens.end());
  batch.n_history = static_cast<int32_t>(tokens.size());
  batch.offset.push_back(0);
  for (int32_t i = 0; i < batch.n_history; ++i) {
    batch.position.push_back(n_cached() + i);
    for (int32_t s = 0; s < n_prefix_sequences_; ++s) batch.sequence.push_back(s);
    batch.offset.push_back(static_cast<int32_t>(batch.sequence.size()));
  }
  decode_batch(batch, false);
  cached_.insert(cached_.end(), tokens.begin(), tokens.end());
  n_prefix_ = n_cached();
}

void Context::decode_batch(const Batch& batch, bool with_logits) {
  const auto n = static_cast<size_t>(batch.size());
  batch_logits_.assign(n, with_logits ? 1 : 0);
  std::fill_n(batch_logits_.begin(), batch.n_history, int8_t{0});
  batch_n_seq_.resize(n);
  batch_token_.resize(n);
  batch_seq_id_.resize(n);
  for (size_t i = 0; i < n; ++i) {
    // A draft may lack the target's last tokens. Token 0 stands for them: the draft's logits may
    // be anything.
    batch_token_[i] = batch.token[i] < n_vocab_ ? batch.token[i] : 0;
    batch_n_seq_[i] = batch.offset[i + 1] - batch.offset[i];
    // llama_batch has no const pointers, but llama_decode() only reads.
    batch_seq_id_[i] = const_cast<int32_t*>(batch.sequence.data()) + batch.offset[i];
  }
  auto* position = const_cast<int32_t*>(batch.position.data());
  *batch_ = {batch.size(),         batch_token_.data(), nullptr, position, batch_n_seq_.data(),
             batch_seq_id_.data(), batch_logits_.data()};
  if (interrupted_ && interrupted_()) throw Interrupted();
  clear_error();
  run_batch();
  n_decoded_ += static_cast<int64_t>(n);
}

// Runs the batch by as many threads as are fastest while other processes compete for the cores.
void Context::run_batch() {
  const int32_t n_threads = governs_ ? governor_.n_threads() : n_threads_;
  if (n_threads != llama_n_threads(context_.get()))
    llama_set_n_threads(context_.get(), n_threads, n_threads);
  double ms = 0;
  const std::clock_t cpu_begin = std::clock();
  int32_t status;
  {
    const Stopwatch watch(ms);
    status = llama_decode(context_.get(), *batch_);
  }
  if (status == kAborted) throw Interrupted();
  if (status != 0)
    throw std::runtime_error("llama_decode failed with status " + std::to_string(status) + " on " +
                             std::to_string(batch_->n_tokens) + " tokens" + error_suffix());
  const double cpu_ms = 1000.0 * static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
  governor_.learn(batch_->n_tokens, ms, cpu_ms);
}

// Copies the shared prefix to more sequences, until n_sequences hold it.
void Context::share_prefix(int32_t n_sequences) {
  llama_memory_t memory = llama_get_memory(context_.get());
  for (; n_prefix_sequences_ < n_sequences; ++n_prefix_sequences_)
    llama_memory_seq_cp(memory, 0, n_prefix_sequences_, 0, n_prefix_);
}

std::span<const float> Context::logits(int32_t node) const {
  const float* row = llama_get_logits_ith(context_.get(), layout_.row(node));
  if (!row) throw std::runtime_error("llama.cpp has no logits for node " + std::to_string(node));
  return {row, static_cast<size_t>(n_vocab_)};
}

void Context::commit(const DraftTree& tree, int32_t node) {
  while (node >= 0 && layout_.sequence(node) < 0) node = tree.parent(node);
  if (node < 0) return;
  const int32_t sequence = layout_.sequence(node), begin = n_cached(),
                end = begin + tree.depth(node) + 1;
  tree.path(node, path_);
  const bool has_rejected = n_tree_ > tree.depth(node) + 1;
  if (n_prefix_sequences_ > 1 || has_rejected) {
    llama_memory_t memory = llama_get_memory(context_.get());
    for (int32_t s = 0; s < n_prefix_sequences_; ++s)
      llama_memory_seq_rm(memory, s, s == sequence ? end : n_prefix_, -1);
    const int32_t in_order = begin + n_path_in_order();
    if (ordered_cells_ && in_order < end) order_cells(sequence, in_order, end);
    for (int32_t s = 0; s < n_prefix_sequences_; ++s)
      if (s != sequence) llama_memory_seq_cp(memory, sequence, s, n_prefix_, end);
  }
  for (const int32_t accepted : path_) cached_.push_back(tree.token(accepted));
  n_prefix_ = end;
  forget_tree();
}

// How many nodes of the accepted path follow each other in the batch from the root on. These are
// already in the cells that plain decoding would give them.
int32_t Context::n_path_in_order() const {
  int32_t n = 0;
  while (n < static_cast<int32_t>(path_.size()) &&
         layout_.row(path_[static_cast<size_t>(n)]) == layout_.row(0) + n)
    ++n;
  return n;
}

void Context::forget_tree() {
  n_tree_ = 0;
  layout_.reset();
}

void Context::rollback(int32_t n) {
  llama_memory_t memory = llama_get_memory(context_.get());
  n = std::clamp(n, 0, n_prefix_);  // positions that not all sequences hold go with the tree
  // A recurrent state cannot be cut, only kept or dropped as a whole.
  const bool cut = n > 0 && llama_memory_seq_rm(memory, max_sequences_ > 1 ? -1 : 0, n, -1) &&
                   llama_memory_seq_pos_max(memory, 0) == n - 1;
  if (!cut) {
    llama_memory_clear(memory, false);
    n_prefix_sequences_ = 1;
    n = 0;
  }
  cached_.resize(static_cast<size_t>(n));
  n_prefix_ = n;
  forget_tree();
}

}  // namespace ersd::llama
