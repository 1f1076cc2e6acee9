// Batches into llama_decode, and the upkeep of the cache.
#include "ersd/llama/context.h"

#include <llama.h>

#include <algorithm>
#include <cctype>

#include "ersd/check.h"
#include "ersd/llama/backend.h"

namespace ersd::llama {
namespace {

constexpr int32_t kMaxSequences = 256;  // llama.cpp's limit: llama_max_parallel_sequences()

ggml_type cache_type(const char* option, std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const ggml_type type :
       {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
        GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1})
    if (name == ggml_type_name(type)) return type;
  throw std::invalid_argument(
      std::string(option) +
      " must be one of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1, got '" + name + "'");
}

}  // namespace

void Context::Free::operator()(llama_context* context) const { llama_free(context); }
Context::~Context() = default;

Context::Context(const Model& model, const ContextOptions& options,
                 std::function<bool()> interrupted)
    : interrupted_(std::move(interrupted)),
      batch_(std::make_unique<llama_batch>()),
      n_vocab_(model.n_vocab()),
      n_ctx_(options.n_ctx) {
  check_at_least("n_ctx", options.n_ctx, 1);
  check_at_least("n_batch", options.n_batch, 1);
  check_at_least("n_threads", options.n_threads, 0);
  if (options.flash_attn < -1 || options.flash_attn > 1)
    refuse("flash_attn", "-1 (automatic), 0 or 1", options.flash_attn);
  max_sequences_ = model.can_branch() ? kMaxSequences : 1;
  n_batch_ = std::max(options.n_batch, kMaxDraftNodes + 1);  // a tree goes in one call
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(n_ctx_ + kMaxDraftNodes);
  params.n_batch = params.n_ubatch = static_cast<uint32_t>(n_batch_);
  params.n_seq_max = static_cast<uint32_t>(max_sequences_);
  params.n_threads = params.n_threads_batch =
      options.n_threads > 0 ? options.n_threads : usable_cores();
  params.flash_attn_type = static_cast<llama_flash_attn_type>(options.flash_attn);
  params.kv_unified = true;
  params.swa_full = true;
  params.offload_kqv = options.offload_kqv;
  params.no_perf = true;
  const bool cpu_cache = !model.on_gpu() || !options.offload_kqv;
  ordered_cells_ = options.exact && cpu_cache;
  params.type_k = options.type_k.empty()
                      ? (cpu_cache && options.flash_attn != 0 ? GGML_TYPE_BF16 : GGML_TYPE_F16)
                      : cache_type("type_k", options.type_k);
  params.type_v = options.type_v.empty() ? GGML_TYPE_F16 : cache_type("type_v", options.type_v);
  take_error();
  context_.reset(llama_init_from_model(model.get(), params));
  if (!context_) {
    const std::string error = take_error();
    throw std::runtime_error("llama.cpp could not make a context of " + std::to_string(n_ctx_) +
                             " tokens for '" + model.path() + "'" +
                             (error.empty() ? "" : " (" + error + ")"));
  }
  llama_adapter_lora* adapter = model.lora();
  float scale = model.lora_scale();
  if (adapter && llama_set_adapters_lora(context_.get(), &adapter, 1, &scale) != 0)
    throw std::runtime_error("llama.cpp could not apply the LoRA adapter to '" + model.path() +
                             "'");
  const auto poll = [](void* self) { return static_cast<Context*>(self)->interrupted_(); };
  if (interrupted_) llama_set_abort_callback(context_.get(), poll, this);
}

int32_t Context::n_threads() const { return llama_n_threads(context_.get()); }

void Context::run(const Batch& batch, bool with_logits) {
  const auto n = static_cast<size_t>(batch.size());
  outputs_.assign(n, with_logits ? 1 : 0);
  std::fill_n(outputs_.begin(), batch.n_history, int8_t{0});
  counts_.resize(n);
  tokens_.resize(n);
  sequence_of_.resize(n);
  for (size_t i = 0; i < n; ++i) {
    tokens_[i] = batch.token[i] < n_vocab_
                     ? batch.token[i]
                     : 0;  // a draft may lack the target's last tokens: any other will do
    counts_[i] = batch.offset[i + 1] - batch.offset[i];
    sequence_of_[i] =
        const_cast<int32_t*>(batch.sequence.data()) + batch.offset[i];  // llama.cpp reads it only
  }
  *batch_ = {batch.size(),   tokens_.data(),
             nullptr,        const_cast<int32_t*>(batch.position.data()),
             counts_.data(), sequence_of_.data(),
             outputs_.data()};
  if (interrupted_ && interrupted_()) throw Interrupted();
  take_error();
  const int32_t status = llama_decode(context_.get(), *batch_);
  if (status == 2) throw Interrupted();
  if (status != 0) {
    const std::string error = take_error();
    throw std::runtime_error("llama_decode failed with status " + std::to_string(status) + " on " +
                             std::to_string(n) + " tokens" +
                             (error.empty() ? "" : " (" + error + ")"));
  }
  n_decoded_ += static_cast<int64_t>(n);
}

void Context::share_prefix(int32_t n_sequences) {
  llama_memory_t memory = llama_get_memory(context_.get());
  for (; n_shared_ < n_sequences; ++n_shared_)
    llama_memory_seq_cp(memory, 0, n_shared_, 0, synced_);
}

void Context::decode(std::span<const Token> history, const DraftTree& tree,
                     std::span<const int32_t> nodes) {
  // A long piece of history goes in calls of its own.
  while (history.size() - cached_.size() + nodes.size() >
         static_cast<size_t>(nodes.empty() ? 0 : n_batch_))
    read(history.subspan(cached_.size(),
                         std::min(history.size() - cached_.size(), static_cast<size_t>(n_batch_))));
  if (nodes.empty()) return;
  const auto rest = history.subspan(cached_.size());
  const Batch& batch = layout_.lay_out(rest, n_cached(), tree, nodes, max_sequences_);
  share_prefix(batch.n_sequences);
  llama_memory_t memory = llama_get_memory(context_.get());
  for (const auto& copy : batch.copies)
    llama_memory_seq_cp(memory, copy.from, copy.to, copy.begin, copy.end);
  n_tree_ += static_cast<int32_t>(nodes.size());
  run(batch, true);
  cached_.insert(cached_.end(), rest.begin(), rest.end());
}

// The next tokens of a history, in all sequences.
void Context::read(std::span<const Token> tokens) {
  Batch batch;
  batch.token.assign(tokens.begin(), tokens.end());
  batch.n_history = static_cast<int32_t>(tokens.size());
  batch.offset.push_back(0);
  for (int32_t i = 0; i < batch.n_history; ++i) {
    batch.position.push_back(n_cached() + i);
    for (int32_t s = 0; s < n_shared_; ++s) batch.sequence.push_back(s);
    batch.offset.push_back(static_cast<int32_t>(batch.sequence.size()));
  }
  run(batch, false);
  cached_.insert(cached_.end(), tokens.begin(), tokens.end());
  synced_ = n_cached();
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
  const bool branched = n_shared_ > 1 || n_tree_ > tree.depth(node) + 1;
  if (branched) {
    llama_memory_t memory = llama_get_memory(context_.get());
    for (int32_t s = 0; s < n_shared_; ++s)
      llama_memory_seq_rm(memory, s, s == sequence ? end : synced_, -1);
    if (ordered_cells_) {
      // Cells that follow each other from the first on are where plain decoding puts them.
      int32_t in_place = 0;
      while (in_place < static_cast<int32_t>(path_.size()) &&
             layout_.row(path_[in_place]) == layout_.row(0) + in_place)
        ++in_place;
      if (begin + in_place < end) line_up(sequence, begin + in_place, end);
    }
    for (int32_t s = 0; s < n_shared_; ++s)
      if (s != sequence) llama_memory_seq_cp(memory, sequence, s, synced_, end);
  }
  for (const int32_t accepted : path_) cached_.push_back(tree.token(accepted));
  synced_ = end;
  n_tree_ = 0;
  layout_.reset();
}

// Attention sums over cells in the order of cells, so accepted tokens must lie in the order of
// their positions, without holes that later tokens would fill: their cells are taken out and put
// back into the first free ones.
void Context::line_up(int32_t sequence, int32_t begin, int32_t end) {
  llama_memory_t memory = llama_get_memory(context_.get());
  const bool spare = n_shared_ < max_sequences_;
  const int32_t carrier = spare ? n_shared_ : (sequence == 0 ? 1 : 0);
  if (!spare) llama_memory_seq_rm(memory, carrier, -1, -1);
  llama_memory_seq_cp(memory, sequence, carrier, begin, end);
  cells_.resize(llama_state_seq_get_size(context_.get(), carrier));
  const size_t n = llama_state_seq_get_data(context_.get(), cells_.data(), cells_.size(), carrier);
  llama_memory_seq_rm(memory, carrier, -1, -1);
  llama_memory_seq_rm(memory, sequence, begin, -1);
  if (n == 0 || llama_state_seq_set_data(context_.get(), cells_.data(), n, carrier) == 0)
    throw std::runtime_error("llama.cpp could not move " + std::to_string(end - begin) +
                             " accepted tokens in its cache");
  llama_memory_seq_cp(memory, carrier, sequence, begin, end);
  llama_memory_seq_rm(memory, carrier, -1, -1);
  if (!spare) llama_memory_seq_cp(memory, sequence, carrier, 0, begin);
}

void Context::rollback(int32_t n) {
  llama_memory_t memory = llama_get_memory(context_.get());
  n = std::clamp(n, 0, synced_);  // what is not yet in all sequences goes with the tree
  // A recurrent state cannot be cut, only kept or dropped as a whole.
  const bool cut = n > 0 && llama_memory_seq_rm(memory, max_sequences_ > 1 ? -1 : 0, n, -1) &&
                   llama_memory_seq_pos_max(memory, 0) == n - 1;
  if (!cut) {
    llama_memory_clear(memory, false);
    n_shared_ = 1;
    n = 0;
  }
  cached_.resize(static_cast<size_t>(n));
  synced_ = n;
  n_tree_ = 0;
  layout_.reset();
}

Context::State Context::save() {
  rollback(n_cached());
  State state{cached_, std::vector<uint8_t>(llama_state_seq_get_size(context_.get(), 0))};
  state.data.resize(
      llama_state_seq_get_data(context_.get(), state.data.data(), state.data.size(), 0));
  return state;
}

void Context::load(const State& state) {
  rollback(0);
  if (state.tokens.empty()) return;
  const auto n = static_cast<int32_t>(state.tokens.size());
  if (n > n_ctx_)
    throw std::invalid_argument("the state has " + std::to_string(n) +
                                " tokens, the context has room for " + std::to_string(n_ctx_) +
                                " (n_ctx)");
  take_error();
  const bool loaded = llama_state_seq_set_data(context_.get(), state.data.data(), state.data.size(),
                                               0) == state.data.size() &&
                      llama_memory_seq_pos_max(llama_get_memory(context_.get()), 0) == n - 1;
  if (!loaded) {
    const std::string error = take_error();
    rollback(0);
    throw std::invalid_argument("the state is not one of this model with these types of cache" +
                                (error.empty() ? "" : " (" + error + ")"));
  }
  cached_ = state.tokens;
  synced_ = n;
}

}  // namespace ersd::llama
