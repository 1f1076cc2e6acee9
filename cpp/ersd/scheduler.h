// Which requests run: it gives places to requests in the order of their arrival, lets them share
// what the caches hold, makes others wait when cells run short, and makes steps for all that run.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "ersd/decode/engine.h"
#include "ersd/places.h"
#include "ersd/request.h"

namespace ersd {

// One thread at a time.
class Scheduler {
 public:
  // The engine has these models; draft may be null. All must outlive the scheduler.
  // n_parallel: how many requests run at once at most. A target with more places keeps the texts
  //   of earlier requests there.
  // options.n_cells: at least n_ctx() of the models.
  Scheduler(Engine& engine, LanguageModel& target, LanguageModel* draft, int32_t n_parallel,
            const Places::Options& options);

  void add(std::shared_ptr<Request> request);

  // Makes one step for all requests that can run. Returns false if none can. Throws Interrupted if
  // a model was interrupted; then nothing has changed. Every other error ends the requests that it
  // concerns.
  bool step();

  // Ends the requests that were cancelled.
  void remove_cancelled();

  // Measures the costs of calls if that is due and no request runs.
  void measure();

  // Empties all places that no request uses.
  void clear_idle() { places_.clear_idle(); }

  // The place that caches the text of the request that ended last, or of an earlier one if another
  // request uses that place now; -1 if all places are in use.
  int32_t last_place() const;
  void set_last_place(int32_t place) { last_place_ = place; }

  int32_t n_running() const { return static_cast<int32_t>(running_.size()); }
  int32_t n_waiting() const { return static_cast<int32_t>(waiting_.size()); }
  int32_t n_free() const { return places_.n_free(); }       // cells of the target
  int64_t n_preemptions() const { return n_preemptions_; }  // requests that had to leave places

 private:
  using RequestPtr = std::shared_ptr<Request>;
  using Queue = std::vector<RequestPtr>;  // in the order of arrival

  static void insert(Queue& queue, RequestPtr request);
  Queue candidates() const;
  void admit_waiting();
  bool admit(Request& request);
  bool waits_for_prefix(const Sequence& sequence) const;
  void preempt(RequestPtr request);
  bool preempt_paused();
  void make_room();
  void end(RequestPtr request, std::exception_ptr error);
  void run(const Queue& active);
  template <class Work>
  void attempt(const RequestPtr& request, Work work);

  Engine& engine_;
  Places places_;
  int32_t n_parallel_;
  Queue waiting_, running_;
  std::vector<Sequence*> sequences_;  // of a step
  int64_t n_added_ = 0, n_preemptions_ = 0;
  int32_t last_place_ = -1;  // of the request that ended last
};

}  // namespace ersd
