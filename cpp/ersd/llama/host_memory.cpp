// Free memory, as Linux says it in files and other systems to llama.cpp.
#include "ersd/llama/host_memory.h"

#include <ggml-backend.h>

#include <algorithm>
#include <limits>
#include <sstream>

#include "ersd/llama/control_groups.h"

namespace ersd::llama {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

double bytes_in(const std::string& path) {
  double bytes = kNoLimit;
  std::istringstream(two_words(path).first) >> bytes;
  return bytes > 0 ? bytes : kNoLimit;  // "max" or nothing
}

// What a group may still take. Pages of files that were not used lately are dropped when memory is
// needed.
double left(const std::string& group, bool is_v2) {
  const double most = bytes_in(group + (is_v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  const double used = bytes_in(group + (is_v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  const double dropped =
      number_after(group + "/memory.stat", is_v2 ? "inactive_file" : "total_inactive_file");
  if (most == kNoLimit || used == kNoLimit) return kNoLimit;
  return std::max(0.0, most - used + std::max(0.0, dropped));
}

}  // namespace

size_t free_host_memory(const std::string& root) {
  constexpr double kKilobyte = 1024;
  const std::string file = root + "/proc/meminfo";
  double free = kKilobyte * number_after(file, "MemAvailable:");
  if (free < 0) {
    size_t bytes = 0, total = 0;
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (cpu && root.empty()) ggml_backend_dev_memory(cpu, &bytes, &total);
    return bytes;
  }
  free += kKilobyte * std::max(0.0, number_after(file, "SwapFree:"));
  visit_control_groups(root, "memory", [&](const std::string& group, bool is_v2) {
    free = std::min(free, left(group, is_v2));
  });
  return static_cast<size_t>(free);
}

}  // namespace ersd::llama
