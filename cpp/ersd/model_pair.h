// A target, perhaps a draft, and their contexts.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ersd/llama/context.h"
#include "ersd/llama/model.h"
#include "ersd/places.h"

namespace ersd {

// Which calls of a target give the same logits.
struct WidthVerdict {
  std::optional<int32_t> differs;  // see find_width_that_differs(); empty if it is not known
  // Calls give the same logits if they are padded to multiples of this many tokens; 0 if no padding
  // serves, empty if it is not known.
  std::optional<int32_t> padding;
};

// How models are loaded and used.
struct GeneratorOptions {
  llama::ModelOptions model;        // both models; only the target gets the LoRA adapter
  int32_t draft_n_gpu_layers = -1;  // the draft's own n_gpu_layers
  // Both contexts; n_ctx 0: the training length, at most 4096. Members that are options of their
  // own here are not used: exact, n_sequences and n_ctx_total.
  llama::ContextOptions context;
  int32_t n_parallel = 4;     // requests that are answered at once; others wait
  int32_t n_ctx_total = 0;    // tokens that all requests may cache together; 0: n_ctx
  float prompt_share = 0.5F;  // see Engine
  int32_t n_history = 0;      // see Engine
  bool drafts = false;        // whether requests may draft without a draft model
  // Whether the text must be the same to the bit whatever is drafted, and whatever other requests
  // there are; empty: if anything drafts. Only the target's context is made exact.
  std::optional<bool> exact;
  // What the tests of call widths said of this target before, as far as it is known.
  WidthVerdict widths;
  // Whether a full context is shortened (Engine::shift) instead of ending the generation. A shift
  // keeps the first n_keep tokens of the prompt after its beginning of sequence, or the whole
  // prompt if n_keep is -1, but at most half the context.
  bool context_shift = false;
  int32_t n_keep = 0;

  // Throws std::invalid_argument for an option that is out of its range.
  void validate() const;
};

class ModelPair {
 public:
  // Throws as Generator's constructor does.
  ModelPair(const std::string& target_path, const std::string& draft_path,
            const GeneratorOptions& options, const std::function<bool()>& interrupted);

  // Whether text is the same to the bit whatever is drafted, and why.
  struct Exactness {
    bool holds = false;
    std::string reason;  // a sentence
  };

  // Throws std::invalid_argument if the prompt is empty, leaves no room in the context or has
  // tokens outside the vocabulary.
  void check_prompt(const std::vector<Token>& prompt) const;

  const llama::Model& target() const { return target_; }
  const llama::Model* draft() const { return draft_ ? &*draft_ : nullptr; }
  llama::Context& target_context() const { return *target_context_; }
  llama::Context* draft_context() const { return draft_context_.get(); }
  const Exactness& exactness() const { return exactness_; }
  // What the tests of the target said, as far as it was known or needed.
  const WidthVerdict& widths() const { return widths_; }
  int32_t n_ctx() const { return target_context_->n_ctx(); }
  int32_t n_ctx_total() const { return place_options_.n_cells; }
  const Places::Options& place_options() const { return place_options_; }

 private:
  void load_draft(const std::string& path, const GeneratorOptions& options);
  llama::ContextOptions context_options(const GeneratorOptions& options);
  void make_target_context(const GeneratorOptions& options, llama::ContextOptions context,
                           const std::function<bool()>& interrupted);
  bool pad_target_context(int32_t n_parallel);

  llama::Model target_;
  std::optional<llama::Model> draft_;
  std::unique_ptr<llama::Context> target_context_, draft_context_;
  Exactness exactness_;
  WidthVerdict widths_;
  Places::Options place_options_;
};

}  // namespace ersd
