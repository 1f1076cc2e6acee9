// Text from prompts: a target, an optional draft, and one generation at a time. The caller pulls:
// each step() returns the new text.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ersd/decode/decoder.h"
#include "ersd/llama/context.h"
#include "ersd/llama/model.h"
#include "ersd/text.h"

namespace ersd {

enum class FinishReason {
  kNone,    // the generation goes on
  kStop,    // an end token or a stop string came
  kLength,  // max_tokens is reached or the context is full
};
const char* to_string(FinishReason reason);  // "", "stop", "length"

struct GenerationStep {
  std::string text;                    // new text; the texts of all steps make the whole answer
  std::vector<Token> tokens;           // new tokens of the answer
  std::vector<TokenLogprob> logprobs;  // one for each of these tokens, if the options ask for them
  int32_t n_accepted = 0;              // how many of these tokens were drafted
  FinishReason finish_reason = FinishReason::kNone;
};

// Only one thread may use a Generator at a time.
class Generator {
 public:
  struct Options {
    llama::ModelOptions model;        // both models; only the target gets the LoRA adapter
    int32_t draft_n_gpu_layers = -1;  // the draft's own n_gpu_layers
    llama::ContextOptions context;    // both contexts; n_ctx 0: the training length, at most 4096
    // Whether the text must be the same to the bit whatever is drafted; empty: if there is a draft.
    // Only the target's context is made exact. context.exact is not used.
    std::optional<bool> exact;
    // What find_width_that_differs() said of this target before, if it is known.
    std::optional<int32_t> width_that_differs;
    // Whether a full context is shortened (Decoder::shift) instead of ending the generation. A
    // shift keeps the first n_keep tokens of the prompt after its beginning of sequence, or the
    // whole prompt if n_keep is -1, but at most half the context.
    bool context_shift = false;
    int32_t n_keep = 0;
  };

  // Whether text is the same to the bit whatever is drafted, and why.
  struct Exactness {
    bool holds = false;
    std::string reason;  // a sentence
  };

  // An empty draft_path means plain sampling. interrupted() is polled while a model runs; once it
  // returns true, the call throws Interrupted. Throws as llama::Model and llama::Context do, and
  // std::invalid_argument if the draft has another vocabulary, one of the two cannot branch, or
  // options.exact is true and cannot hold.
  Generator(const std::string& target_path, const std::string& draft_path, const Options& options,
            std::function<bool()> interrupted = {});

  // Throws std::invalid_argument if the prompt is empty, leaves no room in the context or has
  // tokens outside the vocabulary.
  void check_prompt(const std::vector<Token>& prompt) const;

  // Ends a generation under way, begins the next one and decodes its prompt. Throws as
  // check_prompt() and GenerationOptions::validate() do.
  void start(const std::vector<Token>& prompt, const GenerationOptions& options);

  // Runs one target call. The last step of a generation has a finish_reason, and steps after it are
  // empty. If it throws, the generation is over and start() may begin the next one.
  GenerationStep step();

  // Ends the generation under way and releases the objects that its options hold.
  void end() { active_ = false, decoder_->end(); }

  // Runs both models at one position and returns the token with its rank in the draft's order
  // (Coupling::kRanks stands for all later ranks). target_row() and draft_row() give the logits of
  // both until the next call. n_remain() is 0 after the last position, which max_tokens or an end
  // token sets. Throws std::invalid_argument without a draft, with a method that does not use one,
  // and if the generation is over.
  RankedToken step_with_rank();
  std::span<const float> target_row() const { return decoder_->target_row(); }  // f32[n_vocab]
  // f32[smaller of both vocabularies]
  std::span<const float> draft_row() const { return decoder_->draft_row(); }

  // Forgets what earlier generations taught about the draft.
  void forget() { decoder_->forget(); }

  // profile() returns what is known about the pair of models, and restore() continues from that.
  // Both throw std::invalid_argument without a draft.
  Profile profile() const;
  void restore(const Profile& profile);
  bool measured() const { return decoder_->measured(); }  // whether the cost of calls is known
  int64_t n_measurements() const { return decoder_->n_measurements(); }

  // Returns Decoder::forecast() with the options of the last generation, and ends it.
  std::vector<DraftController::Plan> forecast();

  // Empties both caches, so that the next prompt is decoded as a whole. Ends the generation.
  void reset();

  // The contents of both caches. A Generator with the same models and cache types can load them and
  // need not decode these tokens again. Both functions end the generation. load_state() throws as
  // Context::load_state() does, and both caches are empty then.
  struct State {
    llama::Context::State target, draft;  // the draft's is empty without a draft
  };
  State save_state();
  void load_state(const State& state);

  bool active() const { return active_; }
  int32_t n_remain() const { return active_ ? n_remain_ : 0; }  // tokens that may still come
  const Stats& stats() const { return decoder_->stats(); }
  const llama::Model& target() const { return target_; }
  const llama::Model* draft() const { return draft_ ? &*draft_ : nullptr; }
  const Exactness& exactness() const { return exactness_; }
  // What the test of the target said; empty if it was neither known nor needed.
  std::optional<int32_t> width_that_differs() const { return width_that_differs_; }
  int32_t n_ctx() const { return target_context_->n_ctx(); }
  int32_t n_threads() const { return target_context_->n_threads(); }

 private:
  void load_draft(const std::string& path, const Options& options);
  void make_target_context(const Options& options, llama::ContextOptions context,
                           const std::function<bool()>& interrupted);
  void shift_if_full();
  void fill_step(std::span<const Token> tokens, GenerationStep& step);
  void uncount(size_t n_decoded, size_t n_kept);
  void finish(FinishReason reason, GenerationStep& step);
  void update_totals();
  void require_draft(const char* what) const;

  llama::Model target_;
  std::optional<llama::Model> draft_;
  std::unique_ptr<llama::Context> target_context_, draft_context_;
  std::unique_ptr<Decoder> decoder_;
  Exactness exactness_;
  std::optional<int32_t> width_that_differs_;
  TextStream text_;
  std::chrono::steady_clock::time_point started_;
  int64_t target_tokens_before_ = 0, draft_tokens_before_ = 0;  // decoded before this generation
  Method method_ = Method::kErsd;
  int32_t n_remain_ = 0;
  bool context_shift_;
  int32_t n_keep_option_;  // Options::n_keep
  int32_t n_keep_ = 0;     // first tokens of this prompt that a shift keeps
  bool active_ = false;
};

}  // namespace ersd
