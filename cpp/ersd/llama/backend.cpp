// Start, log and devices of llama.cpp.
#include "ersd/llama/backend.h"

#include <ggml-backend.h>
#include <llama.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <thread>
#include <utility>

namespace ersd::llama {
namespace {

std::atomic<bool> verbose_log{false};
std::mutex error_mutex;
std::string first_error;

void log(ggml_log_level level, const char* text, void*) {
  if (verbose_log) std::fputs(text, stderr);
  if (level != GGML_LOG_LEVEL_ERROR) return;
  const std::lock_guard lock(error_mutex);
  if (!first_error.empty()) return;  // the first names the cause, later ones the callers
  first_error = text;
  while (!first_error.empty() && first_error.back() == '\n') first_error.pop_back();
}

}  // namespace

void start() {
  static std::once_flag once;
  llama_log_set(
      log, nullptr);  // each time: another user of llama.cpp in this process may have set its own
  std::call_once(once, [] {
    ggml_backend_load_all();
    llama_backend_init();
  });
}

std::string take_error() {
  const std::lock_guard lock(error_mutex);
  return std::exchange(first_error, {});
}

void set_verbose(bool verbose) { verbose_log = verbose; }

std::vector<Device> devices() {
  start();
  std::vector<Device> found;
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_t device = ggml_backend_dev_get(i);
    const auto type = ggml_backend_dev_type(device);
    found.push_back(
        {ggml_backend_dev_name(device), ggml_backend_dev_description(device),
         type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU});
  }
  return found;
}

int32_t usable_cores() {
#ifdef __linux__
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
#endif
  return static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
}

std::string features() {
  start();
  return llama_print_system_info();
}

bool has_gpu() {
  for (const Device& device : devices())
    if (device.gpu) return true;
  return false;
}

}  // namespace ersd::llama
