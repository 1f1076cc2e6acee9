// Threads that share steps: one leads, the others wait for it.
#include "ersd/generator.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/cores.h"
#include "ersd/llama/samplers.h"

namespace ersd {
namespace {

// Waiting threads look this often whether they were interrupted.
constexpr std::chrono::milliseconds kPoll{20};

}  // namespace

Generator::Generator(const std::string& target_path, const std::string& draft_path,
                     const Options& options, std::function<bool()> interrupted)
    : models_(target_path, draft_path, options, interrupted),
      interrupted_(std::move(interrupted)),
      engine_(models_.target_context(), models_.draft_context(), options.prompt_share,
              options.n_history),
      scheduler_(engine_, models_.target_context(), models_.draft_context(), options.n_parallel,
                 models_.place_options()),
      n_parallel_(options.n_parallel),
      context_shift_(options.context_shift),
      n_keep_(options.n_keep),
      snapshot_(look()) {
  llama::release_team();  // another thread may make the steps
}

std::shared_ptr<Request> Generator::submit(const std::vector<Token>& prompt,
                                           const GenerationOptions& options, bool wants_ranks) {
  process_.check();
  llama::init_backend();  // another user of llama.cpp may have taken its log
  options.validate();
  check_prompt(prompt);
  check_tokens("prediction", options.prediction);
  for (const auto& reference : options.references) check_tokens("references", reference);
  const llama::Model& target = models_.target();
  if (wants_ranks &&
      (!models_.draft() || options.method == Method::kAr || options.method == Method::kBlock))
    throw std::invalid_argument(
        "ranks are places in a draft's order: they need a draft model and a method other than "
        "'ar' and 'block'");
  auto sequence = std::make_unique<Sequence>(
      prompt, options,
      llama::make_logits_processors(target, options.processors, prompt.size(), models_.n_ctx()),
      models_.target_context(), models_.draft_context());
  const Vocabulary vocabulary{[&target](Token token) { return target.is_end(token); },
                              [&target](Token token) { return target.piece(token); }};
  auto request = std::make_shared<Request>(std::move(sequence), vocabulary,
                                           request_options(prompt, wants_ranks));
  const Lock lock(mutex_);
  arrivals_.push_back(request);
  changed_->notify_all();
  return request;
}

Request::Options Generator::request_options(const std::vector<Token>& prompt,
                                            bool wants_ranks) const {
  const auto n_prompt = static_cast<int32_t>(prompt.size());
  const bool has_bos = prompt.front() == models_.target().bos();
  const int32_t n_keep = n_keep_ < 0 ? n_prompt : n_keep_ + has_bos;
  return {wants_ranks, context_shift_, std::min({n_keep, n_prompt, models_.n_ctx() / 2})};
}

std::optional<GenerationStep> Generator::next(Request& request) {
  process_.check();
  try {
    Lock lock(mutex_);
    for (;;) {
      if (auto step = request.take()) return step;
      if (request.done()) return std::nullopt;
      if (!make_step(lock)) wait(lock, Clock::time_point::max());
    }
  } catch (const Interrupted&) {
    cancel(request);
    throw;
  }
}

void Generator::cancel(Request& request) {
  if (!process_.is_current()) return;
  request.cancel();
  Lock lock(mutex_);
  if (is_led()) {
    has_cancelled_ = true;  // the leader ends the request
  } else {
    lead(lock, [] { return true; });
  }
}

bool Generator::step_all(int32_t timeout_ms) {
  process_.check();
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  Lock lock(mutex_);
  const int64_t n_before = n_changes_;
  while (!make_step(lock) && n_changes_ == n_before)
    if (!wait(lock, deadline)) return false;
  return true;
}

// Makes a step for all requests, unless another thread leads or there is nothing to do. Returns
// whether that changed anything.
bool Generator::make_step(Lock& lock) {
  const bool is_idle = arrivals_.empty() && snapshot_.n_active + snapshot_.n_waiting == 0;
  if (is_led() || is_idle) return false;
  return lead(lock, [this] { return scheduler_.step(); });
}

// Does some work as the leader, without the lock. No other thread may lead. Returns whether
// anything has changed, as the work says or because requests arrived, and wakes the waiting threads
// then. Objects that belong to Python are released without the lock, because that waits for
// Python's own lock.
bool Generator::lead(Lock& lock, const std::function<bool()>& work) {
  const auto n_known = static_cast<size_t>(snapshot_.n_active + snapshot_.n_waiting);
  const std::thread::id thread = teams_.thread_for_work(n_known + arrivals_.size() <= 1);
  leader_ = thread;
  auto arrivals = std::exchange(arrivals_, {});
  bool changed = true;
  std::exception_ptr error;
  lock.unlock();
  try {
    for (auto& request : arrivals) scheduler_.add(std::move(request));
    teams_.run(thread, [&] { changed = work() || !arrivals.empty(); });
  } catch (...) {
    error = std::current_exception();
  }
  do {
    scheduler_.remove_cancelled();
    const Snapshot now = look();
    if (now.n_active + now.n_waiting == 0) teams_.release_owners();
    lock.lock();
    snapshot_ = now;
    if (!has_cancelled_) break;
    has_cancelled_ = false;
    lock.unlock();
  } while (true);
  leader_ = {};
  n_changes_ += changed;
  if (changed) changed_->notify_all();
  if (error) std::rethrow_exception(error);
  return changed;
}

// Does some work that no step may disturb.
void Generator::lead_alone(const std::function<void()>& work) {
  process_.check();
  Lock lock(mutex_);
  while (is_led()) wait(lock, Clock::time_point::max());
  lead(lock, [&] {
    work();
    return true;
  });
}

// Waits until something changes or a little time has passed. Returns false after the deadline.
bool Generator::wait(Lock& lock, Clock::time_point deadline) {
  if (leader_ == std::this_thread::get_id())
    throw std::runtime_error("a logits processor must not use the Generator that calls it");
  const auto now = Clock::now();
  if (now >= deadline) return false;
  teams_.release_owners();
  changed_->wait_until(lock, std::min(deadline, now + kPoll));
  lock.unlock();  // a signal handler may use the Generator
  if (interrupted_ && interrupted_()) throw Interrupted();
  lock.lock();
  return true;
}

void Generator::check_tokens(const char* what, const std::vector<Token>& tokens) const {
  for (const Token token : tokens) check_between(what, token, 0, models_.target().n_vocab() - 1);
}

std::vector<Token> Generator::history() {
  std::vector<Token> tokens;
  lead_alone([&] { tokens = engine_.history().tokens(); });
  return tokens;
}

void Generator::add_history(const std::vector<Token>& tokens) {
  check_tokens("history", tokens);
  lead_alone([&] { engine_.history().append(tokens); });
}

void Generator::require_draft(const char* what) const {
  if (!models_.draft())
    throw std::invalid_argument(std::string(what) +
                                " describes a pair of models: it needs a draft model");
}

void Generator::forget() {
  lead_alone([this] { engine_.forget(); });
}

Profile Generator::profile() {
  std::optional<Profile> profile;
  lead_alone([&] { profile = engine_.profile(); });
  return *std::move(profile);
}

void Generator::restore(const Profile& profile) {
  lead_alone([&] { engine_.restore(profile); });
}

std::vector<DraftController::Plan> Generator::forecast() {
  require_draft("a forecast");
  std::vector<DraftController::Plan> plans;
  lead_alone([&] {
    scheduler_.measure();
    if (!engine_.measured())
      throw std::runtime_error(
          "a forecast needs the costs of calls, which cannot be measured while requests are under "
          "way");
    plans = engine_.forecast();
  });
  return plans;
}

void Generator::reset() {
  lead_alone([this] { scheduler_.clear_idle(); });
}

Generator::State Generator::save_state() {
  State state;
  lead_alone([&] {
    const int32_t place = scheduler_.last_place();
    if (place < 0) return;
    state.target = models_.target_context().save_state(place);
    if (models_.draft_context()) state.draft = models_.draft_context()->save_state(place);
  });
  return state;
}

void Generator::load_state(const State& state) {
  lead_alone([&] {
    if (scheduler_.n_running() + scheduler_.n_waiting() > 0)
      throw std::runtime_error("a state cannot be loaded while requests are under way");
    scheduler_.clear_idle();
    try {
      models_.target_context().load_state(state.target, 0);
      if (models_.draft_context()) models_.draft_context()->load_state(state.draft, 0);
    } catch (...) {
      scheduler_.clear_idle();
      throw;
    }
    scheduler_.set_last_place(0);
  });
}

Generator::Memory Generator::memory_use() {
  Memory memory;
  lead_alone([&] {
    memory.target = models_.target_context().memory_use();
    if (models_.draft_context()) memory.draft = models_.draft_context()->memory_use();
  });
  return memory;
}

Generator::Snapshot Generator::look() const {
  return {scheduler_.n_running(),    scheduler_.n_waiting(),   scheduler_.n_free(),
          engine_.measured(),        engine_.n_measurements(), engine_.counts(),
          scheduler_.n_preemptions()};
}

Generator::Snapshot Generator::snapshot() {
  const Lock lock(mutex_);
  Snapshot now = snapshot_;
  now.n_waiting += static_cast<int32_t>(arrivals_.size());
  return now;
}

}  // namespace ersd
