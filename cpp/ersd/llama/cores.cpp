// Affinity masks and control groups.
#include "ersd/llama/cores.h"

#ifdef __linux__
#include <dlfcn.h>
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>
#include <vector>

namespace ersd::llama {
namespace {

// Paths are plain strings. Inside Python, walking along a std::filesystem::path crashed on one
// machine, perhaps because another library there brought another build of it.
using Path = std::string;

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

// The first two words of a file; missing ones are empty.
std::pair<std::string, std::string> two_words(const Path& path) {
  std::ifstream file(path);
  std::pair<std::string, std::string> words;
  file >> words.first >> words.second;
  return words;
}

// Cores of a quota and a period in microseconds, as the files write them.
double cores_of(const std::string& quota, const std::string& period) {
  double used = 0, whole = 0;
  std::istringstream(quota) >> used;
  std::istringstream(period) >> whole;
  return used > 0 && whole > 0 ? used / whole : kNoQuota;  // "max", "-1" or nothing
}

double quota_v2(const Path& group) {
  const auto [quota, period] = two_words(group + "/cpu.max");
  return cores_of(quota, period);
}

double quota_v1(const Path& group) {
  return cores_of(two_words(group + "/cpu.cfs_quota_us").first,
                  two_words(group + "/cpu.cfs_period_us").first);
}

// The least quota of a group and the groups around it. Inside a container the group's own path may
// not exist under the mount, whose top is then the container's group.
double least_quota(const Path& mount, const Path& group, double (*quota)(const Path&)) {
  double least = quota(mount);
  Path path = mount;
  std::istringstream parts(group);
  for (Path part; std::getline(parts, part, '/');)
    if (!part.empty()) least = std::min(least, quota(path += "/" + part));
  return least;
}

}  // namespace

int32_t cgroup_cores(const std::string& root) {
  const Path mounts = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  double least = kNoQuota;
  // Each line is "hierarchy:controllers:path"; version 2 has the hierarchy 0 and no controllers.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1),
                      path = line.substr(second + 1);
    if (line.starts_with("0:") && controllers.empty())
      least = std::min(least, least_quota(mounts, path, quota_v2));
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');)
      if (name == "cpu")
        for (const std::string& folder : {controllers, std::string("cpu")})
          least = std::min(least, least_quota(mounts + "/" + folder, path, quota_v1));
  }
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
