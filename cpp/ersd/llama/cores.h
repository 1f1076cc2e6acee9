// How many cores this process may keep busy.
#pragma once

#include <cstdint>
#include <string>

namespace ersd::llama {

// One thread for each core that this process may run on, at most as many as the CPU quota of its
// container pays for, at least 1. More threads would wait for each other.
int32_t default_n_threads();

// The whole cores that the CPU quota of this process's control group pays for, at least 1; 0 where
// there is no quota. Of nested groups the tightest counts. Reads cgroup v2 (cpu.max) and v1
// (cpu.cfs_quota_us, cpu.cfs_period_us). root: the folder that holds proc/ and sys/; "" for the
// system's own.
int32_t cgroup_cores(const std::string& root = "");

// Ends the team of OpenMP threads that llama.cpp keeps for the calling thread, if there is one.
// While the teams of all threads together have more members than there are cores, OpenMP's threads
// hardly spin when they wait for each other, and calls take up to twice as long.
void release_team();

}  // namespace ersd::llama
