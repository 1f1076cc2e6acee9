// Affinity masks and quotas of control groups.
#include "ersd/llama/cores.h"

#ifdef __linux__
#include <dlfcn.h>
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <thread>

#include "ersd/llama/control_groups.h"

namespace ersd::llama {
namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

// Cores of a quota and a period in microseconds, as the files write them.
double cores_of(const std::string& quota, const std::string& period) {
  double used = 0, whole = 0;
  std::istringstream(quota) >> used;
  std::istringstream(period) >> whole;
  return used > 0 && whole > 0 ? used / whole : kNoQuota;  // "max", "-1" or nothing
}

double quota(const std::string& group, bool is_v2) {
  if (!is_v2)
    return cores_of(two_words(group + "/cpu.cfs_quota_us").first,
                    two_words(group + "/cpu.cfs_period_us").first);
  const auto [used, period] = two_words(group + "/cpu.max");
  return cores_of(used, period);
}

}  // namespace

int32_t cgroup_cores(const std::string& root) {
  double least = kNoQuota;
  visit_control_groups(root, "cpu", [&](const std::string& group, bool is_v2) {
    least = std::min(least, quota(group, is_v2));
  });
  return std::isinf(least) ? 0 : std::max(1, static_cast<int32_t>(least));
}

int32_t default_n_threads() {
  auto cores = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
#ifdef __linux__
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) cores = CPU_COUNT(&mask);
#endif
  const int32_t paid = cgroup_cores();
  return paid > 0 ? std::min(cores, paid) : cores;
}

void release_team() {
#if defined(__linux__)
  // llama.cpp may be built without OpenMP, so it is not linked here.
  static const auto pause = [] {
    void* library = dlopen("libgomp.so.1", RTLD_NOW | RTLD_NOLOAD);
    return library ? reinterpret_cast<int (*)(int)>(dlsym(library, "omp_pause_resource_all"))
                   : nullptr;
  }();
  constexpr int kPauseSoft = 1;  // omp_pause_soft
  if (pause) pause(kPauseSoft);
#endif
}

}  // namespace ersd::llama
