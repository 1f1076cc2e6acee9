// How teams end before others begin.
#include "ersd/teams.h"

#include <utility>

#include "ersd/llama/cores.h"

namespace ersd {

std::thread::id Teams::thread_for_work(bool is_alone) {
  return is_alone && std::this_thread::get_id() == owner_ ? owner_ : worker_.start();
}

void Teams::run(std::thread::id thread, const std::function<void()>& work) {
  if (thread != owner_) {
    release_owners();
    worker_has_team_ = true;
    return worker_.run(work);
  }
  if (std::exchange(worker_has_team_, false)) worker_.run(llama::release_team);
  owner_has_team_ = true;
  work();
}

void Teams::release_owners() {
  if (std::this_thread::get_id() == owner_ && std::exchange(owner_has_team_, false))
    llama::release_team();
}

}  // namespace ersd
