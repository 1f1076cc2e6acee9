// A generation as its caller sees it: steps of text, until an end token, a stop string or a limit.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ersd/decode/engine.h"
#include "ersd/decode/sequence.h"
#include "ersd/text.h"

namespace ersd {

enum class FinishReason {
  kNone,    // the generation goes on
  kStop,    // an end token or a stop string came
  kLength,  // max_tokens is reached or the context is full
};
const char* to_string(FinishReason reason);  // "", "stop", "length"

// The tree that a target call checked.
struct StepTree {
  std::vector<Token> tokens;      // i32[n], in topological order; the root is the token before
  std::vector<int32_t> parents;   // i32[n]; -1 for the root
  std::vector<int32_t> accepted;  // the accepted nodes, from the root on
  std::vector<uint8_t> sources;   // u8[n]: a bit for each source that proposed a node
};

struct GenerationStep {
  std::string text;                    // new text; the texts of all steps make the whole answer
  std::vector<Token> tokens;           // new tokens of the answer
  std::vector<TokenLogprob> logprobs;  // one for each of these tokens, if the options ask for them
  int32_t n_accepted = 0;              // how many of these tokens were drafted
  std::vector<uint8_t> sources;        // u8[n_accepted]: a bit for each source of a drafted token
  std::optional<StepTree> tree;        // if the options ask for it
  Token end_token = -1;                // which ended the answer; -1 if none did
  FinishReason finish_reason = FinishReason::kNone;
};

// What tokens mean.
struct Vocabulary {
  std::function<bool(Token)> is_end;        // whether the token ends a text
  std::function<std::string(Token)> piece;  // the token's bytes
};

// One thread at a time, that of the scheduler, makes its steps. Any thread may take them.
class Request {
 public:
  struct Options {
    // Whether each step has one token, with its rank in the draft's order and the logits of both
    // models. Then an end token belongs to the answer, and steps have no text.
    bool wants_ranks = false;
    bool context_shift = false;  // whether a full context is shortened by Engine::shift()
    int32_t n_keep = 0;          // first tokens of the prompt that a shift keeps
  };

  // A request with this many untaken steps pauses.
  static constexpr size_t kMaxUntaken = 16;

  Request(std::unique_ptr<Sequence> sequence, Vocabulary vocabulary, const Options& options);

  // Functions of any thread.

  // Takes the next step if there is one. Throws the error that ended the generation, once, after
  // all steps before it were taken.
  std::optional<GenerationStep> take();

  // Whether take() has nothing more to return or to throw, now and later.
  bool done() const;

  // Drops the steps that were not taken. The scheduler ends the generation before its next step.
  void cancel();
  bool cancelled() const { return cancelled_; }

  // What belongs to the step that was taken last: the counts and times up to it, and with
  // wants_ranks the token's rank (Coupling::kRanks stands for all later ranks) and both rows of
  // logits, f32[n_vocab] and f32[least of both vocabularies].
  Stats stats() const;
  int32_t rank() const;
  std::vector<float> target_row() const;
  std::vector<float> draft_row() const;

  // Whether the caller is so far behind that no step should be made.
  bool paused() const;

  // Functions of the scheduler's thread.

  Sequence& sequence() { return *sequence_; }  // until end()

  // The time of the generation begins with the first call.
  void begin();

  // Prepares the next step: shifts a full context, and limits the step to what may still come.
  void prepare(Engine& engine);

  // Takes what the sequence's last step brought. Returns whether the generation goes on. If it does
  // not, end() must follow.
  bool collect();

  // Ends the generation and deletes the sequence. error: why it ended early; null if there is no
  // error.
  void end(std::exception_ptr error);

  int32_t n_remain() const { return n_remain_; }  // tokens that may still come
  int64_t arrival = 0;                            // its number among the scheduler's requests

 private:
  // A step that was not taken yet, and what belongs to it.
  struct Untaken {
    GenerationStep step;
    Stats stats;
    int32_t rank = -1;
    std::vector<float> target_row, draft_row;
  };

  void fill_text(Untaken& untaken);
  void fill_rank(Untaken& untaken);
  void uncount(size_t n_decoded, size_t n_kept);
  void update_total_ms();

  std::unique_ptr<Sequence> sequence_;
  Vocabulary vocabulary_;
  Options options_;
  TextStream text_;
  int32_t n_remain_ = 0;
  std::optional<std::chrono::steady_clock::time_point> started_;

  std::atomic<bool> cancelled_{false};
  mutable std::mutex mutex_;  // of the members below
  std::deque<Untaken> untaken_;
  Untaken taken_;  // the last one, without its step
  bool ended_ = false;
  std::exception_ptr error_;  // null after it was thrown
};

}  // namespace ersd
