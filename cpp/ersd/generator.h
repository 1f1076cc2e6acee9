// Text from prompts: a target, an optional draft, and many requests at once. Callers pull: each
// next() returns the new text of one request.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ersd/model_pair.h"
#include "ersd/process.h"
#include "ersd/request.h"
#include "ersd/scheduler.h"
#include "ersd/teams.h"

namespace ersd {

// Any thread may call any function. In a forked child, those that need a model throw
// std::runtime_error. Among the threads that wait for their requests, one leads and
// makes a step for all requests, while the others wait for it. The thread that made the Generator
// makes steps itself while there is one request; else the worker makes them for whoever leads, so
// that llama.cpp is not called by many threads in turn (see Teams).
class Generator {
 public:
  using Options = GeneratorOptions;

  // An empty draft_path means plain sampling. interrupted() is polled while a model runs and while
  // a thread waits; once it returns true, the call throws Interrupted. Throws as llama::Model and
  // llama::Context do, and std::invalid_argument if the draft has another vocabulary, one of the
  // two cannot branch, an option is out of its range, or options.exact is true and cannot hold.
  Generator(const std::string& target_path, const std::string& draft_path, const Options& options,
            std::function<bool()> interrupted = {});

  // Throws std::invalid_argument if the prompt is empty, leaves no room in the context or has
  // tokens outside the vocabulary.
  void check_prompt(const std::vector<Token>& prompt) const { models_.check_prompt(prompt); }

  // Queues a request and returns at once. Throws as check_prompt() and
  // GenerationOptions::validate() do, and std::invalid_argument if ranks are wanted but there is no
  // draft or the method does not use one.
  std::shared_ptr<Request> submit(const std::vector<Token>& prompt,
                                  const GenerationOptions& options, bool wants_ranks = false);

  // Waits for the next step of a request, and makes steps for all requests while no other thread
  // does. The last step has a finish_reason; after it comes nothing. Throws the request's error. If
  // it is interrupted, the request is cancelled.
  std::optional<GenerationStep> next(Request& request);

  // Ends a request. Its place is free from the next step on.
  void cancel(Request& request);

  // For a thread that makes the steps of others: makes one step for all requests, or waits at most
  // timeout_ms for another thread's step or for something to do. Returns whether anything was done.
  bool step_all(int32_t timeout_ms);

  // Forgets what earlier generations taught about the draft.
  void forget();

  // profile() returns what is known about the models, and restore() continues from that.
  Profile profile();
  void restore(const Profile& profile);

  // The tokens of earlier requests that are kept to draft from; texts are separated by -1.
  // add_history() adds a text. It throws std::invalid_argument for tokens outside the vocabulary.
  std::vector<Token> history();
  void add_history(const std::vector<Token>& tokens);

  // Returns Engine::forecast(). Measures the costs of calls if that is due and no request runs.
  // Throws std::invalid_argument without a draft, and std::runtime_error if the costs are not known
  // and requests are under way.
  std::vector<DraftController::Plan> forecast();

  // Empties the places of the caches that no request uses.
  void reset();

  // What the caches hold of the request that ended last. A Generator with the same models and cache
  // types can load them and need not decode these tokens again. load_state() throws as
  // Context::load_state() does, and both caches are empty then; it throws std::runtime_error while
  // requests are under way.
  struct State {
    llama::Context::State target, draft;  // the draft's is empty without a draft
  };
  State save_state();
  void load_state(const State& state);

  // What each model takes on each device; nothing for a draft that there is not.
  struct Memory {
    std::vector<llama::DeviceMemory> target, draft;
  };
  Memory memory_use();

  // Numbers at the end of the last step.
  struct Snapshot {
    int32_t n_active = 0, n_waiting = 0;  // requests that have places, and those that wait for one
    int32_t n_free = 0;                   // cells of the target's cache
    bool measured = false;                // whether the costs of calls are known
    int64_t n_measurements = 0;
    Engine::Counts counts;      // of all steps so far
    int64_t n_preemptions = 0;  // requests that had to leave their places for others, so far
  };
  Snapshot snapshot();

  const ModelPair& models() const { return models_; }
  int32_t n_parallel() const { return n_parallel_; }
  int32_t n_threads() const { return models_.target_context().n_threads(); }

 private:
  using Lock = std::unique_lock<std::mutex>;
  using Clock = std::chrono::steady_clock;

  bool is_led() const { return leader_ != std::thread::id(); }
  bool lead(Lock& lock, const std::function<bool()>& work);
  void lead_alone(const std::function<void()>& work);
  bool make_step(Lock& lock);
  bool wait(Lock& lock, Clock::time_point deadline);
  Snapshot look() const;
  Request::Options request_options(const std::vector<Token>& prompt, bool wants_ranks) const;
  void require_draft(const char* what) const;
  void check_tokens(const char* what, const std::vector<Token>& tokens) const;

  Process process_;
  ModelPair models_;
  std::function<bool()> interrupted_;
  Engine engine_;
  Scheduler scheduler_;  // engine and scheduler belong to the thread that leads
  int32_t n_parallel_;
  bool context_shift_;
  int32_t n_keep_;

  std::mutex mutex_;        // of the members below; not locked while a model runs
  Condition changed_;       // a step was made, or there is something to do
  std::thread::id leader_;  // no thread leads if it is no thread
  std::vector<std::shared_ptr<Request>> arrivals_;  // those that the scheduler does not know yet
  bool has_cancelled_ = false;  // whether requests were cancelled while a thread led
  Teams teams_;
  int64_t n_changes_ = 0;  // steps, and other work that was done
  Snapshot snapshot_;
};

}  // namespace ersd
