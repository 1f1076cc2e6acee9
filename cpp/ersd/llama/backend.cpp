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
#include <map>
#include <mutex>
#include <stdexcept>
#include <string_view>

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

namespace {

// The registry of a server's devices. llama.cpp keeps it for the life of the process.
ggml_backend_reg_t rpc_registry(const std::string& server) {
  static std::map<std::string, ggml_backend_reg_t> known;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(server); found != known.end()) return found->second;
  ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
  void* add = rpc ? ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server") : nullptr;
  if (!add)
    throw std::invalid_argument(
        "rpc_servers needs a llama.cpp with its RPC backend: install llama-cpp-python with "
        "CMAKE_ARGS=-DGGML_RPC=on, or name the backend's library in GGML_BACKEND_PATH");
  clear_error();
  ggml_backend_reg_t registry =
      reinterpret_cast<ggml_backend_reg_t (*)(const char*)>(add)(server.c_str());
  if (!registry || ggml_backend_reg_dev_count(registry) == 0)
    throw std::runtime_error("rpc_servers: no server of llama.cpp's RPC backend answers at '" +
                             server + "'" + error_suffix());
  ggml_backend_register(registry);
  return known[server] = registry;
}

}  // namespace

bool has_rpc() {
  const auto all = devices();
  return std::ranges::any_of(all, [](const Device& d) { return d.name.starts_with("RPC"); });
}

std::vector<ggml_backend_dev_t> devices_with(const std::vector<std::string>& rpc_servers) {
  init_backend();
  std::vector<ggml_backend_dev_t> found;
  for (const std::string& server : rpc_servers) {
    ggml_backend_reg_t registry = rpc_registry(server);
    for (size_t i = 0; i < ggml_backend_reg_dev_count(registry); ++i)
      found.push_back(ggml_backend_reg_dev_get(registry, i));
  }
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_t device = ggml_backend_dev_get(i);
    const bool is_remote = std::string_view(ggml_backend_dev_name(device)).starts_with("RPC");
    const auto type = ggml_backend_dev_type(device);
    if (!is_remote &&
        (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU))
      found.push_back(device);
  }
  found.push_back(nullptr);
  return found;
}

std::string features() {
  init_backend();
  return llama_print_system_info();
}

}  // namespace ersd::llama
