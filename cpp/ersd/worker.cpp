// The worker's loop.
#include "ersd/worker.h"

#include <utility>

namespace ersd {

Worker::~Worker() {
  if (!thread_.joinable()) return;
  if (!process_.is_current()) {
    // A forked child does not have the thread, so it can neither be joined nor detached there.
    new std::thread(std::move(thread_));
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_->notify_all();
  thread_.join();
}

std::thread::id Worker::start() {
  if (!thread_.joinable()) thread_ = std::thread([this] { run_all(); });
  return thread_.get_id();
}

void Worker::run(const std::function<void()>& work) {
  std::unique_lock lock(mutex_);
  work_ = &work;
  changed_->notify_all();
  changed_->wait(lock, [this] { return work_ == nullptr; });
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Worker::run_all() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_->wait(lock, [this] { return work_ != nullptr || ends_; });
    if (ends_) return;
    lock.unlock();
    try {
      (*work_)();
    } catch (...) {
      error_ = std::current_exception();
    }
    lock.lock();
    work_ = nullptr;
    changed_->notify_all();
  }
}

}  // namespace ersd
