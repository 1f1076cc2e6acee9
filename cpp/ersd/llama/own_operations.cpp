// An extra buffer type of llama.cpp's CPU backend that has no buffers.
#include "ersd/llama/own_operations.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <array>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "ersd/attention/attention.h"
#include "ersd/llama/backend.h"
#include "ersd/matrix/product.h"

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
constexpr size_t kHintAt = 1;  // where a product has a ggml_op_hint

// Whether this thread's calls have our operations.
thread_local bool has_attention = false, has_products = false;
void (*wait_for_threads)(ggml_threadpool*) = nullptr;

Barrier barrier_of(const ggml_compute_params& params) {
  const auto wait = [](void* pool) { wait_for_threads(static_cast<ggml_threadpool*>(pool)); };
  return {wait, params.threadpool};
}

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

bool can_attend(const ggml_tensor* op) {
  const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3];
  return q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && mask &&
         mask->type == GGML_TYPE_F16 && mask->ne[2] == 1 && mask->ne[3] == q->ne[3] &&
         k->ne[3] == q->ne[3] && v->ne[3] == q->ne[3] && v->ne[2] == k->ne[2] &&
         attention::supports(k->ne[0], v->ne[0]);
}

matrix::Product product_of(const ggml_tensor* op) {
  const ggml_tensor *weights = op->src[0], *inputs = op->src[1];
  matrix::Product product{};
  product.variant = matrix::supported_variants().back();
  product.n_rows = weights->ne[1], product.n_tokens = inputs->ne[1];
  product.n_numbers = weights->ne[0];
  product.weights = data(weights), product.weights_row = weights->nb[1];
  product.inputs = data(inputs), product.inputs_row = inputs->nb[1];
  product.out = static_cast<char*>(op->data), product.out_row = op->nb[1];
  return product;
}

// Weights with `extra` are in an order of their own.
bool can_multiply(const ggml_tensor* op) {
  const ggml_tensor *weights = op->src[0], *inputs = op->src[1];
  return inputs->ne[1] >= matrix::supported_variants().back()->least_tokens &&
         weights->type == GGML_TYPE_Q8_0 && inputs->type == GGML_TYPE_F32 && !weights->extra &&
         weights->buffer && ggml_backend_buffer_is_host(weights->buffer) &&
         weights->ne[2] * weights->ne[3] * inputs->ne[2] * inputs->ne[3] == 1 &&
         weights->nb[0] == ggml_type_size(weights->type) && inputs->nb[0] == sizeof(float) &&
         op->op_params[kHintAt] == GGML_HINT_NONE;
}

// Has the layout of ggml::cpu::tensor_traits in traits.h.
class Traits {
 public:
  virtual ~Traits() = default;
  // llama.cpp asks this before each graph is computed, in the thread that called it.
  virtual bool work_size(int n_threads, const ggml_tensor* op, size_t& size) = 0;
  // All threads of the call ask this.
  virtual bool compute_forward(ggml_compute_params* params, ggml_tensor* op) = 0;

 protected:
  static void mark(const ggml_tensor* op) {
    const_cast<ggml_tensor*>(op)->op_params[kMarkAt] = kMark;
  }
  static bool is_marked(const ggml_tensor* op) { return op->op_params[kMarkAt] == kMark; }
};

class Attention : public Traits {
 public:
  bool work_size(int n_threads, const ggml_tensor* op, size_t& size) override {
    if (!has_attention || !can_attend(op)) return false;
    mark(op);
    size = attention::scratch_size(call_of(op), n_threads);
    return true;
  }
  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    if (!is_marked(op)) return false;
    attention::attend(call_of(op), params->ith, params->nth, params->wdata, barrier_of(*params));
    return true;
  }
};

class Products : public Traits {
 public:
  bool work_size(int, const ggml_tensor* op, size_t& size) override {
    if (!has_products || !can_multiply(op)) return false;
    mark(op);
    size = matrix::scratch_size(product_of(op));
    return true;
  }
  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override {
    if (!is_marked(op)) return false;
    matrix::multiply(product_of(op), params->ith, params->nth, params->wdata, barrier_of(*params));
    return true;
  }
};

// Has the layout of ggml::cpu::extra_buffer_type in traits.h.
class BufferType {
 public:
  virtual ~BufferType() = default;
  virtual bool supports_op(ggml_backend_dev_t, const ggml_tensor*) { return false; }
  virtual Traits* get_tensor_traits(const ggml_tensor* op) {
    if (op->op == GGML_OP_FLASH_ATTN_EXT) return &attention_;
    return op->op == GGML_OP_MUL_MAT ? &products_ : nullptr;
  }

 private:
  Attention attention_;
  Products products_;
};

#ifndef _WIN32
// Whether our products of random rows have the bits of llama.cpp's for one token.
bool products_agree(const ggml_type_traits_cpu& llama) {
  constexpr int kRows = 7, kBlocks = 5, kTokens = 3, kNumbers = kBlocks * matrix::kBlock;
  std::array<std::array<matrix::Block, kBlocks>, kRows> weights{};
  std::array<std::array<float, kNumbers>, kTokens> inputs{};
  uint32_t state = 1;
  const auto random = [&] { return (state = state * 1664525 + 1013904223) >> 8; };
  for (auto& row : weights)
    for (matrix::Block& block : row) {
      block.scale = static_cast<uint16_t>(0x1c00 + random() % 0x800);
      for (int8_t& number : block.numbers) number = static_cast<int8_t>(random() % 255 - 127);
    }
  for (auto& token : inputs)
    for (float& x : token) x = static_cast<float>(random()) / 0x800000p0F - 1;
  std::array<std::array<float, kRows>, kTokens> ours{}, expected{};
  const matrix::Product product{matrix::supported_variants().back(),
                                kRows,
                                kTokens,
                                kNumbers,
                                reinterpret_cast<const char*>(weights.data()),
                                reinterpret_cast<const char*>(inputs.data()),
                                reinterpret_cast<char*>(ours.data()),
                                sizeof(weights[0]),
                                sizeof(inputs[0]),
                                sizeof(ours[0])};
  std::vector<char> scratch(matrix::scratch_size(product));
  matrix::multiply(product, 0, 1, scratch.data(), {[](void*) {}, nullptr});
  for (size_t t = 0; t < kTokens; ++t) {
    std::array<matrix::Block, kBlocks> blocks;
    llama.from_float(inputs[t].data(), blocks.data(), kNumbers);
    for (size_t r = 0; r < kRows; ++r)
      llama.vec_dot(kNumbers, &expected[t][r], 0, weights[r].data(), 0, blocks.data(), 0, 1);
  }
  return std::memcmp(ours.data(), expected.data(), sizeof(ours)) == 0;
}
#endif

// What is installed.
struct Own {
  bool attention = false, products = false;
};

Own install() {
#ifdef _WIN32
  return {};
#else
  Own own{!attention::supported_variants().empty(), !matrix::supported_variants().empty()};
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (!(own.attention || own.products) || ggml_version() != kVersion || !cpu) return {};
  void* get_types = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu),
                                                      "ggml_backend_dev_get_extra_bufts");
  Dl_info library;
  if (!get_types || dladdr(get_types, &library) == 0) return {};
  // The backend copies its list for those who ask for buffers once. What is added after that is
  // asked to compute operations, but is offered to nobody for weights.
  reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(get_types)(cpu);
  void* handle = dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (!handle) return {};
  using List = std::vector<ggml_backend_buffer_type_t>;
  auto* list =
      reinterpret_cast<List& (*)()>(dlsym(handle, "_Z39ggml_backend_cpu_get_extra_buffer_typesv"));
  auto* traits = reinterpret_cast<decltype(&ggml_get_type_traits_cpu)>(
      dlsym(handle, "ggml_get_type_traits_cpu"));
  wait_for_threads = reinterpret_cast<void (*)(ggml_threadpool*)>(dlsym(handle, "ggml_barrier"));
  if (!list || !wait_for_threads) return {};
  own.products = own.products && traits && products_agree(*traits(GGML_TYPE_Q8_0));
  // Both live as long as the process, since llama.cpp keeps the list.
  list().push_back(new ggml_backend_buffer_type{{}, cpu, new BufferType});
  return own;
#endif
}

Own installed() {
  static const Own own = [] {
    init_backend();
    return install();
  }();
  return own;
}

}  // namespace

bool has_own_attention() { return installed().attention; }

OwnOperations::OwnOperations(bool attention)
    : attention_before_(std::exchange(has_attention, attention)),
      products_before_(std::exchange(has_products, installed().products)) {}

OwnOperations::~OwnOperations() {
  has_attention = attention_before_;
  has_products = products_before_;
}

}  // namespace ersd::llama
