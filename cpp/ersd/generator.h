// Text from prompts: a target, perhaps a draft, and one generation at a time. Pull, do not push:
// step() returns what is new.
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
  kNone,
  kStop,
  kLength
};  // still going; an end token or a stop string; max_tokens or the context's end
const char* to_string(FinishReason reason);  // "", "stop", "length"

struct GenerationStep {
  std::string text;  // what became certain in this step; joined, the steps are the whole text
  std::vector<Token> tokens;           // the tokens of this step that belong to the answer
  std::vector<TokenLogprob> logprobs;  // of each of them, if asked for
  int32_t n_accepted = 0;              // how many of them were drafted
  FinishReason finish_reason = FinishReason::kNone;
};

// One thread at a time.
class Generator {
 public:
  struct Options {
    llama::ModelOptions target, draft;
    llama::ContextOptions context;  // of both; the draft's context is as long as the target's
    bool context_shift =
        false;           // make room in a full context instead of ending there (Decoder::shift)
    int32_t n_keep = 0;  // prompt tokens that a shift keeps, beside the beginning of sequence; -1:
                         // all; half the context at most
  };

  // draft_path: empty for plain sampling. interrupted: polled while models run; true ends the call
  // with Interrupted. Throws as llama::Model and llama::Context do; std::invalid_argument for a
  // draft of another vocabulary, or one that cannot branch or drafts for a target that cannot.
  Generator(const std::string& target_path, const std::string& draft_path, const Options& options,
            std::function<bool()> interrupted = {});

  // Throws std::invalid_argument for an empty prompt, one that leaves no room in the context, or
  // tokens outside the vocabulary.
  void check_prompt(const std::vector<Token>& prompt) const;

  // Begins a generation; one under way is forgotten. Decodes the prompt. Throws as check_prompt()
  // and GenerationOptions::validate() do.
  void start(const std::vector<Token>& prompt, const GenerationOptions& options);

  // One target call. After the last one, whose finish_reason says why, steps are empty.
  // Where it throws, the generation is over; start() begins the next.
  GenerationStep step();

  // Ends the generation under way and lets go of what its options hold.
  void end() { active_ = false, decoder_->end(); }

  // One position by one call of each model: its token, its rank in the draft's order
  // (Coupling::kRanks for all later ones), and, until the next call, the logits of both. After the
  // last position, which max_tokens or an end token sets, left() is 0. Throws std::invalid_argument
  // without a draft, for a method that does not use it, and where nothing is left.
  RankedToken step_with_rank();
  std::span<const float> target_row() const { return decoder_->target_row(); }  // f32[n_vocab]
  std::span<const float> draft_row() const {
    return decoder_->draft_row();
  }  // f32[least of both vocabularies]

  // Forgets what earlier generations taught of the draft.
  void forget() { decoder_->forget(); }

  // What is known of the pair, and going on from it. Throw std::invalid_argument without a draft.
  Profile profile() const;
  bool measured() const { return decoder_->measured(); }  // whether it knows what calls cost
  void restore(const Profile& profile);

  // Decoder::forecast(), with the options of the last generation, which is over then.
  std::vector<Controller::Plan> forecast();
  // Empties both caches, so that the next prompt is read whole. A generation under way is over; so
  // it is after save() and load().
  void reset();

  // What the caches hold, to be loaded into a Generator of the same models and types of cache: a
  // prompt that begins with it need not be read again. load() throws std::invalid_argument as
  // Context::load() does; both caches are empty then.
  struct State {
    llama::Context::State target, draft;  // draft: without tokens where there is none
  };
  State save();
  void load(const State& state);

  bool active() const { return active_; }
  int32_t left() const { return active_ ? left_ : 0; }  // tokens that may still come
  const Stats& stats() const { return decoder_->stats(); }
  const llama::Model& target() const { return target_; }
  const llama::Model* draft() const { return draft_ ? &*draft_ : nullptr; }
  int32_t n_ctx() const { return target_context_->n_ctx(); }
  int32_t n_threads() const { return target_context_->n_threads(); }

 private:
  void make_room();
  void take(std::span<const Token> tokens, GenerationStep& step);
  void finish(FinishReason reason, GenerationStep& step);
  void update_totals();
  void need_draft(const char* what) const;

  llama::Model target_;
  std::optional<llama::Model> draft_;
  std::unique_ptr<llama::Context> target_context_, draft_context_;
  std::unique_ptr<Decoder> decoder_;
  TextStream text_;
  std::chrono::steady_clock::time_point started_;
  int64_t target_before_ = 0, draft_before_ = 0;  // tokens decoded before this generation
  Method method_ = Method::kErsd;
  int32_t left_ = 0;  // tokens that may still come
  bool context_shift_;
  int32_t n_keep_, keep_ = 0;  // as asked for; of this prompt
  bool active_ = false;
};

}  // namespace ersd
