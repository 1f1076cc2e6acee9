// The control groups of this process, which limit its cores and its memory. Linux alone has them.
#pragma once

#include <functional>
#include <string>
#include <utility>

namespace ersd::llama {

// Calls visit(folder, is_v2) for each folder that may have the limits of a controller ("cpu",
// "memory"): that of the group of this process and those of the groups around it. Inside a
// container the group's own path may not exist under the mount, whose top is then the container's
// group. root: the folder that holds proc/ and sys/; "" for the system's own.
void visit_control_groups(const std::string& root, const std::string& controller,
                          const std::function<void(const std::string& folder, bool is_v2)>& visit);

// The first two words of a file; missing ones are empty.
std::pair<std::string, std::string> two_words(const std::string& path);

// The number that stands behind a name in a file of such lines ("MemAvailable: 5 kB"); -1 if there
// is none.
double number_after(const std::string& path, const std::string& name);

}  // namespace ersd::llama
