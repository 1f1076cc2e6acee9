// The folders of control groups, and the files in them.
#include "ersd/llama/control_groups.h"

#include <fstream>
#include <sstream>

namespace ersd::llama {
namespace {

// Paths are plain strings. Inside Python, walking along a std::filesystem::path crashed on one
// machine, perhaps because another library there brought another build of it.
using Path = std::string;

}  // namespace

void visit_control_groups(const std::string& root, const std::string& controller,
                          const std::function<void(const std::string& folder, bool is_v2)>& visit) {
  const auto visit_path = [&](Path folder, const Path& group, bool is_v2) {
    visit(folder, is_v2);
    std::istringstream parts(group);
    for (Path part; std::getline(parts, part, '/');)
      if (!part.empty()) visit(folder += "/" + part, is_v2);
  };
  const Path mounts = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  // Each line is "hierarchy:controllers:path"; version 2 has the hierarchy 0 and no controllers.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const Path path = line.substr(second + 1);
    if (line.starts_with("0:") && controllers.empty()) visit_path(mounts, path, true);
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');)
      if (name == controller)
        for (const std::string& folder : {controllers, controller})
          visit_path(mounts + "/" + folder, path, false);
  }
}

std::pair<std::string, std::string> two_words(const std::string& path) {
  std::ifstream file(path);
  std::pair<std::string, std::string> words;
  file >> words.first >> words.second;
  return words;
}

double number_after(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    double number = -1;
    if (words >> first >> number && first == name) return number;
  }
  return -1;
}

}  // namespace ersd::llama
