// Initialisation, log and devices of llama.cpp.
#include "ersd/llama/backend.h"

#include <ggml-backend.h>
#include <llama.h>

#ifndef _WIN32
#include <pthread.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>

#include "ersd/llama/cores.h"

namespace ersd::llama {
namespace {

std::atomic<bool> verbose_log{false};
std::mutex error_mutex;
std::string first_error;

void log(ggml_log_level level, const char* text, void*) {
  if (verbose_log) std::fputs(text, stderr);
  if (level != GGML_LOG_LEVEL_ERROR) return;
  const std::lock_guard lock(error_mutex);
  // The first error names the cause. Later ones come from the functions that called it.
  if (!first_error.empty()) return;
  first_error = text;
  while (!first_error.empty() && first_error.back() == '\n') first_error.pop_back();
}

}  // namespace

void init_backend() {
  static std::once_flag once;
  llama_log_set(log, nullptr);
  std::call_once(once, [] {
    ggml_backend_load_all();
    llama_backend_init();
#ifndef _WIN32
    // A forked child has no team of OpenMP threads, so the thread that forks must not have one.
    pthread_atfork(release_team, nullptr, nullptr);
#endif
  });
}

void clear_error() {
  const std::lock_guard lock(error_mutex);
  first_error.clear();
}

std::string error_suffix() {
  const std::lock_guard lock(error_mutex);
  return first_error.empty() ? "" : " (" + first_error + ")";
}

void set_verbose(bool verbose) { verbose_log = verbose; }

std::vector<Device> devices() {
  init_backend();
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

bool has_gpu() {
  const auto all = devices();
  return std::any_of(all.begin(), all.end(), [](const Device& device) { return device.gpu; });
}

std::string features() {
  init_backend();
  return llama_print_system_info();
}

}  // namespace ersd::llama
