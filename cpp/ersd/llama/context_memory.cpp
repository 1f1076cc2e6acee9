// What a model and its context take on each device.
#include <ggml-backend.h>
#include <llama.h>

#include <map>

#include "ersd/llama/context.h"

// libllama exports these, but llama.h does not declare them (src/llama-ext.h). The build is pinned
// to one version of llama.cpp.
struct llama_memory_breakdown_data {
  size_t model, context, compute;
};
LLAMA_API std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data>
llama_get_memory_breakdown(const llama_context* context);

namespace ersd::llama {

std::vector<Context::Memory> Context::memory_use() const {
  std::vector<Memory> all;
  for (const auto& [type, bytes] : llama_get_memory_breakdown(context_.get())) {
    ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
    const std::string name = device ? ggml_backend_dev_name(device) : "CPU";
    auto found = std::ranges::find(all, name, &Memory::device);
    if (found == all.end()) found = all.insert(all.end(), {name});
    found->weights += bytes.model;
    found->cache += bytes.context;
    found->compute += bytes.compute;
  }
  return all;
}

}  // namespace ersd::llama
