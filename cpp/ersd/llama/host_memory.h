// How much memory of the host this process may still take.
#pragma once

#include <cstddef>
#include <string>

namespace ersd::llama {

// Bytes that are free or can be freed, swap included, and at most what the control groups of this
// process leave (memory.max of version 2, memory.limit_in_bytes of version 1). 0 where the system
// does not say. root: the folder that holds proc/ and sys/; "" for the system's own.
size_t free_host_memory(const std::string& root = "");

}  // namespace ersd::llama
