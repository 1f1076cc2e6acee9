// Admission, preemption, and the step of all requests that run.
#include "ersd/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "ersd/stopwatch.h"

namespace ersd {
namespace {

// Cells that each running request must have for its next tokens before another one is admitted, so
// that a request that was admitted need not wait again at once.
constexpr int32_t kSpareCells = 32;

// A request waits while another one reads this many tokens or more that both have.
constexpr int32_t kLongPrefix = 64;

// The tokens that are cached before a sequence generates.
std::span<const Token> history(const Sequence& sequence) {
  return sequence.tokens().first(sequence.tokens().size() - 1);
}

}  // namespace

Scheduler::Scheduler(Engine& engine, LanguageModel& target, LanguageModel* draft,
                     int32_t n_parallel, const Places::Options& options)
    : engine_(engine),
      places_(target, draft, options),
      n_parallel_(std::min(n_parallel, target.n_sequences())) {}

void Scheduler::add(RequestPtr request) {
  request->arrival = n_added_++;
  if (request->n_remain() > 0) return insert(waiting_, std::move(request));
  request->collect();
  end(std::move(request), nullptr);
}

void Scheduler::insert(Queue& queue, RequestPtr request) {
  const auto arrival = [](const RequestPtr& each) { return each->arrival; };
  const auto at = std::ranges::upper_bound(queue, request->arrival, {}, arrival);
  queue.insert(at, std::move(request));
}

bool Scheduler::step() {
  remove_cancelled();
  admit_waiting();
  for (const RequestPtr& request : Queue(running_))
    if (!request->paused()) attempt(request, [&] { request->prepare(engine_); });
  make_room();
  Queue active;
  for (const RequestPtr& request : running_)
    if (!request->paused()) active.push_back(request);
  if (active.empty()) return false;
  run(active);
  remove_cancelled();
  return true;
}

void Scheduler::run(const Queue& active) {
  sequences_.clear();
  for (const RequestPtr& request : active) sequences_.push_back(&request->sequence());
  try {
    engine_.step(sequences_);
  } catch (const Interrupted&) {
    throw;
  } catch (...) {
    for (const RequestPtr& request : active) end(request, std::current_exception());
    return;
  }
  for (const RequestPtr& request : active)
    attempt(request, [&] {
      if (!request->collect()) end(request, nullptr);
    });
}

// Does some work for one request. An error ends that request alone.
template <class Work>
void Scheduler::attempt(const RequestPtr& request, Work work) {
  try {
    work();
  } catch (const Interrupted&) {
    throw;
  } catch (...) {
    end(request, std::current_exception());
  }
}

// The first waiting requests that want a place. Paused ones do not. They are few, because it would
// take long to compare all prompts with the caches in each step.
Scheduler::Queue Scheduler::candidates() const {
  Queue found;
  for (const RequestPtr& request : waiting_)
    if (!request->paused()) {
      found.push_back(request);
      if (static_cast<int32_t>(found.size()) == n_parallel_) break;
    }
  return found;
}

// Admits waiting requests in the order of their arrival, until one must wait for a place or for
// cells. Running requests that are paused make way for them.
void Scheduler::admit_waiting() {
  for (const RequestPtr& request : candidates()) {
    if (n_running() == n_parallel_ && !preempt_paused()) return;
    if (waits_for_prefix(request->sequence())) continue;
    bool admitted = true;
    attempt(request, [&] {
      while (!(admitted = admit(*request)) && preempt_paused()) {
      }
      if (!admitted) return;
      std::erase(waiting_, request);
      insert(running_, request);
    });
    if (!admitted) return;
  }
}

// Gives a request a place. Returns false if there are not enough cells.
bool Scheduler::admit(Request& request) {
  Sequence& sequence = request.sequence();
  request.begin();
  if (sequence.needs_costs()) {
    const Stopwatch watch(sequence.stats().prefill_ms);
    measure();
  }
  const int32_t n_spare = running_.empty() ? 0 : kSpareCells * (n_running() + 1);
  if (!places_.take(sequence, n_spare)) return false;
  int32_t n_nodes = sequence.fixed_nodes();
  for (const RequestPtr& other : running_) n_nodes += other->sequence().fixed_nodes();
  try {
    engine_.reserve_nodes(n_nodes);
    engine_.begin(sequence);
  } catch (...) {
    places_.leave(sequence);
    throw;
  }
  return true;
}

// Whether a running request is about to read many tokens that this one could share then.
bool Scheduler::waits_for_prefix(const Sequence& sequence) const {
  if (!is_race(sequence.options().method) || !places_.can_share()) return false;
  const int32_t n_cached = places_.n_cached(history(sequence));
  return std::ranges::any_of(running_, [&](const RequestPtr& other) {
    const auto shared = n_common(history(sequence), history(other->sequence()));
    return !other->paused() && shared - n_cached >= kLongPrefix;
  });
}

void Scheduler::measure() {
  if (running_.empty() && engine_.must_measure()) engine_.measure();
}

// Makes requests wait until the cells suffice for the next step: first those that are paused, then
// the newest. One request alone always fits.
void Scheduler::make_room() {
  while (!places_.fits()) {
    if (places_.evict() || preempt_paused()) continue;
    if (n_running() <= 1) return;
    preempt(running_.back());
  }
}

// Takes the place of a running request. What it had comes back when it gets a place again.
void Scheduler::preempt(RequestPtr request) {
  ++n_preemptions_;
  places_.leave(request->sequence());
  std::erase(running_, request);
  insert(waiting_, std::move(request));
}

// Preempts the newest request that is paused. Returns false if none is.
bool Scheduler::preempt_paused() {
  const auto paused = std::find_if(running_.rbegin(), running_.rend(),
                                   [](const RequestPtr& request) { return request->paused(); });
  if (paused == running_.rend()) return false;
  preempt(*paused);
  return true;
}

void Scheduler::remove_cancelled() {
  Queue cancelled;
  for (const Queue* queue : {&running_, &waiting_})
    std::ranges::copy_if(*queue, std::back_inserter(cancelled),
                         [](const RequestPtr& request) { return request->cancelled(); });
  for (const RequestPtr& request : cancelled) end(request, nullptr);
}

void Scheduler::end(RequestPtr request, std::exception_ptr error) {
  if (std::erase(running_, request) > 0) {
    last_place_ = request->sequence().place();
    places_.leave(request->sequence());
  }
  std::erase(waiting_, request);
  engine_.end(request->sequence());
  request->end(std::move(error));
}

int32_t Scheduler::last_place() const {
  return last_place_ >= 0 && !places_.is_used(last_place_) ? last_place_ : places_.last_used();
}

}  // namespace ersd
