// llama.cpp's account of memory, and that of a model without weights: llama.cpp then computes all
// sizes without taking memory.
#include "ersd/llama/device_memory.h"

#include <ggml-backend.h>
#include <llama.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <map>
#include <stdexcept>

#include "ersd/llama/backend.h"
#include "ersd/llama/host_memory.h"

// libllama exports these, but llama.h does not declare them (src/llama-ext.h). The build is pinned
// to one version of llama.cpp.
struct llama_memory_breakdown_data {
  size_t model, context, compute;
};
LLAMA_API std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data>
llama_get_memory_breakdown(const llama_context* context);

namespace ersd::llama {
namespace {

// A model is not looked at twice where rough sizes, which are too large rather than too small, are
// at most this share of what is free.
constexpr double kSureShare = 0.5;

// Sizes of longer contexts are in proportion to those of this one: the cells of a simulated cache
// take memory themselves.
constexpr uint32_t kMostSimulated = 1 << 20;

constexpr double kGigabyte = 1e9;
constexpr double kUnknown = std::numeric_limits<double>::infinity();

struct Need {
  double weights = 0, cache = 0, compute = 0;
};
using Needs = std::map<ggml_backend_dev_t, Need>;  // null: the host

ggml_backend_dev_t device_of(ggml_backend_buffer_type_t type) {
  ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
  if (!device || ggml_backend_buft_is_host(type)) return nullptr;
  const auto kind = ggml_backend_dev_type(device);
  return kind == GGML_BACKEND_DEVICE_TYPE_CPU || kind == GGML_BACKEND_DEVICE_TYPE_ACCEL ? nullptr
                                                                                        : device;
}

const char* name_of(ggml_backend_dev_t device) {
  return device ? ggml_backend_dev_name(device) : "CPU";
}

// Rows of logits on the host, one for each sequence at least, of which llama.cpp keeps no account.
size_t bytes_of_rows(const llama_context* context) {
  const llama_vocab* vocab = llama_model_get_vocab(llama_get_model(context));
  return size_t{llama_n_seq_max(context)} * static_cast<size_t>(llama_vocab_n_tokens(vocab)) *
         sizeof(float);
}

// Whether weights of this type stay in the file, which is mapped.
bool is_mapped(ggml_backend_buffer_type_t type) {
  ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
  if (!device) return type == ggml_backend_cpu_buffer_type();
  ggml_backend_dev_props props;
  ggml_backend_dev_get_props(device, &props);
  return props.caps.buffer_from_host_ptr && type == ggml_backend_dev_buffer_type(device);
}

double free_on(ggml_backend_dev_t device) {
  size_t free = 0, total = 0;
  if (device)
    ggml_backend_dev_memory(device, &free, &total);
  else
    total = free = free_host_memory();
  return total > 0 ? static_cast<double>(free) : kUnknown;
}

// What a context takes, without taking it; nothing if llama.cpp cannot say. scale: to what it
// would be for a longer context.
Needs simulate(llama_model* model, const llama_context_params& params, bool is_in_memory,
               double scale) {
  Needs needs;
  const OwnedContext context(llama_init_from_model(model, params));
  if (!context) return needs;
  for (const auto& [type, bytes] : llama_get_memory_breakdown(context.get())) {
    Need& need = needs[device_of(type)];
    if (is_in_memory || !is_mapped(type)) need.weights += static_cast<double>(bytes.model);
    need.cache += scale * static_cast<double>(bytes.context);
    need.compute += scale * static_cast<double>(bytes.compute);
  }
  needs[nullptr].compute += static_cast<double>(bytes_of_rows(context.get()));
  return needs;
}

Needs needs_of_context(const Model& model, llama_context_params params) {
  const double scale = std::max(1.0, static_cast<double>(params.n_ctx) / kMostSimulated);
  params.n_ctx = std::min(params.n_ctx, kMostSimulated);
  const auto unallocated = model.unallocated();
  return unallocated ? simulate(unallocated.get(), params, false, scale) : Needs{};
}

Needs needs_of_file(const std::string& path, const ModelOptions& options) {
  const auto model = Model::load(path, options, true);
  if (!model) return {};
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 256;
  params.n_batch = params.n_ubatch = 1;
  return simulate(model.get(), params, !options.use_mmap || options.use_mlock, 1);
}

std::string gigabytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB", bytes / kGigabyte);
  return text;
}

// "1.00 GB for the cache and 2.00 GB for calls on CUDA0, where 1.50 GB are free".
std::string sentence(ggml_backend_dev_t device, const Need& need, bool of_weights) {
  const double free = free_on(device);
  return (of_weights ? gigabytes(need.weights) + " for its weights"
                     : gigabytes(need.cache) + " for the cache and " + gigabytes(need.compute) +
                           " for calls") +
         " on " + name_of(device) +
         (free == kUnknown ? "" : ", where " + gigabytes(free) + " are free");
}

// Throws if what is needed on a device is not free there.
void check(const Needs& needs, bool of_weights, const std::string& who, const std::string& help) {
  for (const auto& [device, need] : needs) {
    const double wanted = of_weights ? need.weights : need.cache + need.compute;
    if (wanted > free_on(device))
      throw std::runtime_error(who + " needs " + sentence(device, need, of_weights) + ": " + help +
                               (device ? ", or fewer layers there (n_gpu_layers)" : ""));
  }
}

std::string listed(const Needs& needs, bool of_weights) {
  std::string text;
  for (const auto& [device, need] : needs)
    text += (text.empty() ? "; it needs " : "; ") + sentence(device, need, of_weights);
  return text;
}

double least_free(const ModelOptions& options) {
  double least = free_on(nullptr);
  if (options.n_gpu_layers == 0) return least;
  for (ggml_backend_dev_t device : devices_with(options.rpc_servers))
    if (device) least = std::min(least, free_on(device));
  return least;
}

// More than what most contexts take: keys and values in single precision for as many heads as there
// are queries, scores of attention, and rows of logits.
double rough_bytes(const Model& model, const llama_context_params& params) {
  constexpr double kFloat = sizeof(float);
  const llama_model* m = model.get();
  const double cells = params.n_ctx, batch = params.n_ubatch;
  const double cache = 2 * kFloat * cells * llama_model_n_layer(m) * llama_model_n_embd(m);
  const double scores = 2 * kFloat * cells * batch * std::max(1, llama_model_n_head(m));
  const uint32_t n_rows = params.n_outputs_max > 0 ? params.n_outputs_max : params.n_batch;
  const double rows = 2 * kFloat * (n_rows + params.n_seq_max) * model.n_vocab();
  const double others = 64 * kFloat * batch * llama_model_n_embd(m);
  return cache + scores + rows + others;
}

}  // namespace

void FreeContext::operator()(llama_context* context) const { llama_free(context); }

std::vector<DeviceMemory> memory_use(const llama_context* context) {
  std::vector<DeviceMemory> all;
  for (const auto& [type, bytes] : llama_get_memory_breakdown(context)) {
    const std::string name = name_of(device_of(type));
    auto found = std::ranges::find(all, name, &DeviceMemory::device);
    if (found == all.end()) found = all.insert(all.end(), {name});
    found->weights += bytes.model;
    found->cache += bytes.context;
    found->compute += bytes.compute + (name == name_of(nullptr) ? bytes_of_rows(context) : 0);
  }
  return all;
}

OwnedContext make_context(const Model& model, const llama_context_params& params) {
  const std::string what =
      "a context of " + std::to_string(params.n_ctx) + " tokens for '" + model.path() + "'";
  if (rough_bytes(model, params) > kSureShare * least_free(model.options()))
    check(needs_of_context(model, params), false, what,
          "a smaller n_ctx, n_ctx_total or n_batch needs less, and so do type_k and type_v of "
          "fewer bits");
  clear_error();
  OwnedContext context(llama_init_from_model(model.get(), params));
  if (context) return context;
  const std::string reason = error_suffix();
  throw std::runtime_error("llama.cpp could not make " + what + reason +
                           listed(needs_of_context(model, params), false));
}

void check_weights_fit(const std::string& path, const ModelOptions& options) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto bytes = static_cast<double>(file.tellg());
  const bool is_split = path.find("-of-") != std::string::npos;
  if (options.vocab_only || (!is_split && bytes <= kSureShare * least_free(options))) return;
  check(needs_of_file(path, options), true, "'" + path + "'",
        "a file of fewer bits for each weight needs less");
}

std::string needs_of_weights(const std::string& path, const ModelOptions& options) {
  return options.vocab_only ? "" : listed(needs_of_file(path, options), true);
}

}  // namespace ersd::llama
