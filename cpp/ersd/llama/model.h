// A GGUF file loaded by llama.cpp: its weights, its vocabulary and its properties.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ersd/llama/gguf_check.h"
#include "ersd/token.h"

struct llama_adapter_lora;
struct llama_model;
struct llama_vocab;

namespace ersd::llama {

// A key of a file's metadata, and the value that replaces the file's.
using KvOverride = std::pair<std::string, std::variant<bool, int64_t, double, std::string>>;

// The names are those of llama.cpp, except any_kind.
struct ModelOptions {
  int32_t n_gpu_layers = -1;        // layers on the GPU, if there is one; -1: all
  int32_t main_gpu = 0;             // the GPU of a model that is not split
  int32_t split_mode = 1;           // 0: one GPU, 1: split by layers, 2: split by rows
  std::vector<float> tensor_split;  // share of each GPU; empty: llama.cpp decides
  // Servers of llama.cpp's RPC backend, "host:port", whose devices hold layers beside local GPUs. A
  // model without servers stays on this machine.
  std::vector<std::string> rpc_servers;
  bool use_mmap = true;
  bool use_mlock = false;
  std::string lora_path;    // GGUF file of a LoRA adapter; empty: no adapter
  float lora_scale = 1;     // factor of the adapter's weights
  bool vocab_only = false;  // no weights: the model only tokenises
  bool any_kind = false;    // whether the model need not generate text, as for embeddings
  std::vector<KvOverride> kv_overrides;
};

class Model {
 public:
  // Throws FileNotFound if there is no such file. Throws std::invalid_argument if the file is not
  // GGUF, is truncated or does not generate text, if the adapter is not for this model, or if
  // llama.cpp has no room for a value of kv_overrides. Throws std::runtime_error with the numbers
  // if the weights do not fit, and with llama.cpp's own words if llama.cpp cannot load the file.
  Model(const std::string& path, const ModelOptions& options);

  struct Free {
    void operator()(llama_model* model) const;
  };
  using Owned = std::unique_ptr<llama_model, Free>;
  // llama.cpp's model of a file; null if llama.cpp cannot load it. without_weights: what it only
  // computes sizes with.
  static Owned load(const std::string& path, const ModelOptions& options, bool without_weights);
  Owned unallocated() const { return load(path_, options_, true); }

  const std::string& path() const { return path_; }
  const ModelOptions& options() const { return options_; }
  std::string description() const;  // "llama 135M Q4_1"
  std::string architecture() const;
  int32_t n_vocab() const;
  int32_t n_ctx_train() const;
  uint64_t n_params() const;
  uint64_t size() const;                               // bytes of all tensors
  std::string metadata(const std::string& key) const;  // empty if the key is missing

  // Whether the cache can hold several continuations of one text. Recurrent and hybrid models
  // cannot: they keep one state. Their drafts are chains.
  bool can_branch() const;

  bool on_gpu() const { return on_gpu_; }  // whether any layer is on a GPU

  // The prompt that the model's chat template makes of one user message. Throws
  // std::runtime_error if the file has no template that llama.cpp knows.
  std::string chat_prompt(const std::string& message) const;

  // Text to tokens. add_special adds the tokens that the model expects around a text.
  // parse_special reads special tokens in the text, so that "<|im_end|>" is one token.
  std::vector<Token> tokenize(const std::string& text, bool add_special, bool parse_special) const;
  // The bytes of a token, which may be a part of a UTF-8 character. Control tokens have text only
  // if `special` is set.
  std::string piece(Token token, bool special = false) const;

  // The number of bytes of each token, at most 255; u8[n_vocab].
  // Computed by the first call.
  std::span<const uint8_t> piece_lengths() const;
  bool is_end(Token token) const;  // whether the token ends a text or a turn
  Token bos() const;               // -1 if the vocabulary has none
  Token eos() const;               // -1 if the vocabulary has none
  // Fill-in-the-middle tokens: prefix, suffix, middle. -1 for each that the vocabulary lacks.
  std::array<Token, 3> fim() const;

  llama_model* get() const { return model_.get(); }
  const llama_vocab* vocab() const { return vocab_; }
  llama_adapter_lora* lora() const { return lora_; }  // null without an adapter
  float lora_scale() const { return lora_scale_; }

 private:
  void load_lora(const ModelOptions& options);

  std::string path_;
  ModelOptions options_;
  Owned model_;
  const llama_vocab* vocab_ = nullptr;
  struct PieceLengths {
    std::once_flag computed;
    std::vector<uint8_t> bytes;
  };
  std::unique_ptr<PieceLengths> piece_lengths_ = std::make_unique<PieceLengths>();
  bool on_gpu_ = false;
  llama_adapter_lora* lora_ = nullptr;  // freed with the model
  float lora_scale_ = 1;
};

// Throws std::invalid_argument that names the first difference unless both models give every token
// id the same text. As in llama.cpp, the sizes may differ by up to 128 padding tokens.
void check_same_vocabulary(const Model& target, const Model& draft);

// Writes a copy of the model in another quantisation ("Q2_K", "Q8_0", ...). The source may be
// quantised itself. Throws as Model does.
void quantize(const std::string& path, const std::string& out_path, const std::string& type,
              int32_t n_threads);

}  // namespace ersd::llama
