// What models and contexts take on each device, and whether that fits.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "ersd/llama/model.h"

struct llama_context;
struct llama_context_params;

namespace ersd::llama {

// Bytes on a device, or on the host.
struct DeviceMemory {
  std::string device;
  size_t weights = 0, cache = 0, compute = 0;
};
std::vector<DeviceMemory> memory_use(const llama_context* context);

struct FreeContext {
  void operator()(llama_context* context) const;
};
using OwnedContext = std::unique_ptr<llama_context, FreeContext>;

// Makes a context of a model. What it takes is compared with what is free before llama.cpp takes
// it, as the host's memory is not refused: the process would be killed. Throws std::runtime_error
// with the numbers if it does not fit, or with llama.cpp's own words if that fails otherwise.
OwnedContext make_context(const Model& model, const llama_context_params& params);

// The same for the weights of a file that is about to be loaded.
void check_weights_fit(const std::string& path, const ModelOptions& options);

// What to add to llama.cpp's words if it could not load a file: what the weights take where, and
// what is free there; empty if llama.cpp cannot say.
std::string needs_of_weights(const std::string& path, const ModelOptions& options);

}  // namespace ersd::llama
