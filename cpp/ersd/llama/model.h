// A GGUF file loaded by llama.cpp: its weights, its vocabulary, and what it can do.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "ersd/token.h"

struct llama_adapter_lora;
struct llama_model;
struct llama_vocab;

namespace ersd::llama {

struct FileNotFound : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// llama.cpp's names.
struct ModelOptions {
  int32_t n_gpu_layers = -1;        // layers on the GPU; -1: all, where there is a GPU
  int32_t main_gpu = 0;             // the GPU that is used where the model is not split
  int32_t split_mode = 1;           // 0: one GPU, 1: by layers, 2: by rows
  std::vector<float> tensor_split;  // share of each GPU; empty: as llama.cpp finds best
  bool use_mmap = true;
  bool use_mlock = false;
  std::string lora_path;  // an adapter, a GGUF file; empty for none
  float lora_scale = 1;   // how much of it
};

class Model {
 public:
  // Throws FileNotFound; std::invalid_argument for a file that is not GGUF, is cut short or is no
  // text generator, and for an adapter that is not made for this model; std::runtime_error with
  // llama.cpp's own words where it cannot load the file.
  Model(const std::string& path, const ModelOptions& options);

  const std::string& path() const { return path_; }
  std::string description() const;  // "llama 135M Q4_1"
  std::string architecture() const;
  int32_t n_vocab() const;
  int32_t n_ctx_train() const;
  uint64_t n_params() const;
  uint64_t size() const;                               // bytes of all tensors
  std::string metadata(const std::string& key) const;  // empty if there is none

  // Whether several continuations can stand in its cache side by side. Recurrent and hybrid models
  // keep one state and cannot.
  bool can_branch() const;

  bool on_gpu() const { return on_gpu_; }  // some layers at least

  // One user's message in the model's chat template, ready for the answer. Throws
  // std::runtime_error where there is no template that llama.cpp knows.
  std::string chat_prompt(const std::string& message) const;

  // Text to tokens. add_special: with the tokens that the model wants at its start; parse_special:
  // "<|im_end|>" is one token.
  std::vector<Token> tokenize(const std::string& text, bool add_special, bool parse_special) const;
  // The bytes of a token, not always whole UTF-8 characters. special: control tokens too, as text.
  std::string piece(Token token, bool special = false) const;
  bool is_end(Token token) const;  // of the text or of the turn
  Token bos() const;               // -1 if there is none
  Token eos() const;
  // What stands before the beginning, the end and the middle of a text whose middle is to be filled
  // in; -1 for those that there are none of.
  std::array<Token, 3> fim() const;

  llama_model* get() const { return model_.get(); }
  const llama_vocab* vocab() const { return vocab_; }
  llama_adapter_lora* lora() const { return lora_; }  // null without one
  float lora_scale() const { return lora_scale_; }

 private:
  void load_lora(const ModelOptions& options);

  struct Free {
    void operator()(llama_model* model) const;
  };
  std::string path_;
  std::unique_ptr<llama_model, Free> model_;
  const llama_vocab* vocab_ = nullptr;
  bool on_gpu_ = false;
  llama_adapter_lora* lora_ = nullptr;  // freed with the model
  float lora_scale_ = 1;
};

// Throws std::invalid_argument naming the first difference, unless a token id means the same text
// to both. As in llama.cpp, the sizes may differ by up to 128 padding tokens.
void check_same_vocabulary(const Model& target, const Model& draft);

// Writes the model again in another quantisation ("Q2_K", "Q8_0", ...), from whatever it has now.
// Throws as Model does.
void quantize(const std::string& path, const std::string& out_path, const std::string& type,
              int32_t n_threads);

}  // namespace ersd::llama
