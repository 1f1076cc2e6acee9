// llama.cpp as a whole: started once, quiet, and able to say what it runs on.
#pragma once

#include <string>
#include <vector>

namespace ersd::llama {

// Starts llama.cpp on first use. Nothing is printed.
void start();

// What llama.cpp last logged as an error since the last call, one line; empty if nothing. Errors of a load explain themselves there.
std::string take_error();

// Log lines go to stderr from now on, or nowhere.
void set_verbose(bool verbose);

struct Device {
  std::string name, description;  // "CUDA0", "NVIDIA ..."
  bool gpu;
};
std::vector<Device> devices();
bool has_gpu();
std::string system_info();  // llama.cpp's own line of CPU features

}  // namespace ersd::llama
