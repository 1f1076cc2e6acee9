// llama.cpp as a whole: started once, quiet, and able to say what it runs on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ersd::llama {

// Starts llama.cpp on first use. Nothing is printed.
void start();

// The first error that llama.cpp logged since the last call, one line; empty if there was none. It
// says why a call failed.
std::string take_error();

// Log lines go to stderr from now on, or nowhere.
void set_verbose(bool verbose);

struct Device {
  std::string name, description;  // "CUDA0", "NVIDIA ..."
  bool gpu;
};
std::vector<Device> devices();
bool has_gpu();

// What llama.cpp's build uses, in its own words: "CPU : AVX2 = 1 | AVX512_BF16 = 1 | ...".
std::string features();

// Cores that this process may run on: fewer than there are under taskset and in containers, where
// more threads would wait for each other.
int32_t usable_cores();

}  // namespace ersd::llama
