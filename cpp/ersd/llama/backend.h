// llama.cpp as a whole: it is initialised once, its log is quiet, and its devices are listed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct ggml_backend_device;

namespace ersd::llama {

// Initialises llama.cpp on the first call. Every call routes llama.cpp's log to this library, as
// another user of llama.cpp in the process may have taken it.
void init_backend();

// llama.cpp explains its failures only in its log. Call clear_error() before a call that may fail;
// afterwards error_suffix() is " (...)" with the first error logged since then, or empty.
void clear_error();
std::string error_suffix();

// Whether log lines go to stderr. By default they go nowhere.
void set_verbose(bool verbose);

struct Device {
  std::string name, description;  // "CUDA0", "NVIDIA ..."
  bool gpu;
};
std::vector<Device> devices();
bool has_gpu();

// The devices for a model's layers: those of these servers of llama.cpp's RPC backend, then the
// GPUs of this machine; then null. Throws std::invalid_argument if llama.cpp was built without that
// backend, and std::runtime_error if a server does not answer.
std::vector<ggml_backend_device*> devices_with(const std::vector<std::string>& rpc_servers);

bool has_rpc();  // whether a server was used in this process

// The features of llama.cpp's build, as it lists them: "CPU : AVX2 = 1 | AVX512_BF16 = 1 | ...".
std::string features();

}  // namespace ersd::llama
