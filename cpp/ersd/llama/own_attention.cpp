// An extra buffer type of llama.cpp's CPU backend that has no buffers.
#include "ersd/llama/own_attention.h"

#include <ggml-backend.h>
#include <ggml.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "ersd/attention/attention.h"
#include "ersd/llama/backend.h"

#ifndef _WIN32
#include <dlfcn.h>
#endif

// The structures of ggml-cpu-impl.h and ggml-backend-impl.h as they are in kVersion.
struct ggml_compute_params {
  int ith, nth;
  size_t wsize;
  void* wdata;
  ggml_threadpool* threadpool;
  bool use_ref;
};

struct ggml_backend_buffer_type {
  void* functions[6];
  ggml_backend_dev_t device;
  void* context;
};

namespace ersd::llama {
namespace {

constexpr std::string_view kVersion = "0.25.3";  // of ggml

// The last parameter of an operation, which llama.cpp does not use, says whose it is.
constexpr size_t kMarkAt = GGML_MAX_OP_PARAMS / sizeof(int32_t) - 1;
constexpr int32_t kMark = 0x45525344;

thread_local bool is_ours = false;  // whether this thread's calls have our attention
void (*wait_for_threads)(ggml_threadpool*) = nullptr;

attention::Strides strides(const ggml_tensor* x) { return {x->nb[1], x->nb[2], x->nb[3]}; }
const char* data(const ggml_tensor* x) { return static_cast<const char*>(x->data); }

attention::Call call_of(const ggml_tensor* op) {
  const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3];
  attention::Call call{};
  call.variant = attention::supported_variants().back();
  call.n_tokens = q->ne[1], call.n_heads = q->ne[2], call.n_streams = q->ne[3];
  call.n_cells = k->ne[1], call.n_kv_heads = k->ne[2];
  call.key_size = k->ne[0], call.value_size = v->ne[0];
  call.q = data(q), call.q_strides = strides(q);
  call.k = data(k), call.k_strides = strides(k);
  call.v = data(v), call.v_strides = strides(v);
  call.mask = data(mask), call.mask_strides = strides(mask);
  call.out = static_cast<float*>(op->data);
  call.sinks = op->src[4] ? static_cast<const float*>(op->src[4]->data) : nullptr;
  std::memcpy(&call.scale, op->op_params, sizeof(float));
  std::memcpy(&call.max_bias, op->op_params + 1, sizeof(float));
  std::memcpy(&call.softcap, op->op_params + 2, sizeof(float));
  return call;
}

bool can_compute(const ggml_tensor* op) {
  const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3];
  return q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && mask &&
         mask->type == GGML_TYPE_F16 && mask->ne[2] == 1 && mask->ne[3] == q->ne[3] &&
         k->ne[3] == q->ne[3] && v->ne[3] == q->ne[3] && v->ne[2] == k->ne[2] &&
         attention::supports(k->ne[0], v->ne[0]);
}

// Has the layout of ggml::cpu::tensor_traits in traits.h.
class Traits {
 public:
  virtual ~Traits() = default;
  // llama.cpp asks this before each graph is computed, in the thread that called it.
  virtual bool work_size(int n_threads, const ggml_tensor* op, size_t& size) {
    if (!is_ours || !can_compute(op)) return false;
    const_cast<ggml_tensor*>(op)->op_params[kMarkAt] = kMark;
    size = attention::scratch_size(call_of(op), n_threads);
    return true;
  }
  // All threads of the call ask this.
  virtual bool compute_forward(ggml_compute_params* params, ggml_tensor* op) {
    if (op->op_params[kMarkAt] != kMark) return false;
    const auto wait = [](void* pool) { wait_for_threads(static_cast<ggml_threadpool*>(pool)); };
    attention::attend(call_of(op), params->ith, params->nth, params->wdata,
                      {wait, params->threadpool});
    return true;
  }
};

// Has the layout of ggml::cpu::extra_buffer_type in traits.h.
class BufferType {
 public:
  virtual ~BufferType() = default;
  virtual bool supports_op(ggml_backend_dev_t, const ggml_tensor*) { return false; }
  virtual Traits* get_tensor_traits(const ggml_tensor* op) {
    return op->op == GGML_OP_FLASH_ATTN_EXT ? &traits_ : nullptr;
  }

 private:
  Traits traits_;
};

bool install() {
#ifdef _WIN32
  return false;
#else
  if (attention::supported_variants().empty() || ggml_version() != kVersion) return false;
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (!cpu) return false;
  void* get_types = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu),
                                                      "ggml_backend_dev_get_extra_bufts");
  Dl_info library;
  if (!get_types || dladdr(get_types, &library) == 0) return false;
  // The backend copies its list for those who ask for buffers once. What is added after that is
  // asked to compute operations, but is offered to nobody for weights.
  reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(get_types)(cpu);
  void* handle = dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (!handle) return false;
  using List = std::vector<ggml_backend_buffer_type_t>;
  auto* list =
      reinterpret_cast<List& (*)()>(dlsym(handle, "_Z39ggml_backend_cpu_get_extra_buffer_typesv"));
  wait_for_threads = reinterpret_cast<void (*)(ggml_threadpool*)>(dlsym(handle, "ggml_barrier"));
  if (!list || !wait_for_threads) return false;
  // Both live as long as the process, since llama.cpp keeps the list.
  list().push_back(new ggml_backend_buffer_type{{}, cpu, new BufferType});
  return true;
#endif
}

}  // namespace

bool has_own_attention() {
  init_backend();
  static const bool is_installed = install();
  return is_installed;
}

OwnAttention::OwnAttention(bool use) : before_(is_ours) { is_ours = use; }

OwnAttention::~OwnAttention() { is_ours = before_; }

}  // namespace ersd::llama
