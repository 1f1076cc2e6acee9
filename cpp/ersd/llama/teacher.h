// The teacher of a draft: one model that reads many texts side by side and predicts the next token
// of each.
#pragma once

#include <span>
#include <vector>

#include "ersd/llama/device_memory.h"
#include "ersd/llama/model.h"

struct llama_context;

namespace ersd::llama {

struct TeacherOptions {
  int32_t n_texts = 128;  // texts side by side, at most 255
  int32_t n_ctx = 512;    // tokens of each text
  int32_t n_threads = 0;  // 0: default_n_threads()
};

class Teacher {
 public:
  // The model must outlive the teacher. Throws std::invalid_argument for bad options and for a
  // recurrent or hybrid model, and std::runtime_error if llama.cpp has no room.
  Teacher(const Model& model, const TeacherOptions& options);
  ~Teacher();

  int32_t n_texts() const { return static_cast<int32_t>(lengths_.size()); }
  int32_t n_vocab() const { return n_vocab_; }
  int32_t length(int32_t text) const { return lengths_.at(static_cast<size_t>(text)); }

  // Appends tokens[i] to the text texts[i], all in one call of the model. Afterwards row i holds
  // the logits and the hidden state of token i. Throws std::invalid_argument for an unknown text or
  // token, or a text that is full.
  void decode(std::span<const int32_t> texts, std::span<const Token> tokens);
  int32_t n_rows() const { return static_cast<int32_t>(positions_.size()); }
  int32_t position(int32_t row) const { return positions_.at(static_cast<size_t>(row)); }
  // Both are valid until the next decode().
  std::span<const float> logits(int32_t row) const;  // f32[n_vocab]
  std::span<const float> state(int32_t row) const;   // f32[n_embd], input of the output matrix

  void clear(int32_t text);
  void copy(int32_t from, int32_t to);  // makes text `to` a copy of text `from`

 private:
  OwnedContext context_;
  std::vector<int32_t> lengths_;    // i32[n_texts], tokens of each text
  std::vector<int32_t> positions_;  // i32[n_rows], positions of the last call's tokens
  int32_t n_vocab_, n_embd_, n_ctx_;
};

}  // namespace ersd::llama
