// A model beside many texts at once, saying of each what comes next: the teacher of a draft.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ersd/llama/model.h"

struct llama_context;

namespace ersd::llama {

struct TeacherOptions {
  int32_t n_texts = 128;  // side by side, at most 255
  int32_t n_ctx = 512;    // tokens of each
  int32_t n_threads = 0;  // 0: one per core
};

class Teacher {
 public:
  // The model must outlive the teacher. Throws std::invalid_argument for bad options and for a
  // model that keeps one state, std::runtime_error where llama.cpp has no room.
  Teacher(const Model& model, const TeacherOptions& options);
  ~Teacher();

  int32_t n_texts() const { return static_cast<int32_t>(lengths_.size()); }
  int32_t n_vocab() const { return n_vocab_; }
  int32_t length(int32_t text) const { return lengths_.at(static_cast<size_t>(text)); }

  // One call: each token goes to the end of its text. Rows of logits and states follow in the same
  // order. Throws std::invalid_argument for a text or token that is not there, or a text that is
  // full.
  void decode(std::span<const int32_t> texts, std::span<const Token> tokens);
  int32_t n_rows() const { return static_cast<int32_t>(positions_.size()); }
  int32_t position(int32_t row) const { return positions_.at(static_cast<size_t>(row)); }
  std::span<const float> logits(int32_t row) const;  // f32[n_vocab], valid until the next decode()
  std::span<const float> state(
      int32_t row) const;  // f32[n_embd]: what the output matrix is applied to

  void clear(int32_t text);
  void copy(int32_t from, int32_t to);  // text `to` becomes a copy of text `from`

 private:
  struct Free {
    void operator()(llama_context* context) const;
  };
  std::unique_ptr<llama_context, Free> context_;
  std::vector<int32_t> lengths_;
  std::vector<int32_t> positions_;  // of the last call's rows
  int32_t n_vocab_, n_embd_, n_ctx_;
};

}  // namespace ersd::llama
