// Bindings of the attention room.
#include "ersd/attention/attention.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "bind.h"
#include "ersd/check.h"
#include "threads.h"
#include "variants.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using Queries = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
// Half precision as its bits.
using Halves = nb::ndarray<const uint16_t, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Mask = nb::ndarray<const uint16_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

attention::Strides strides(size_t rows, size_t row, size_t heads) {
  return {row, rows * row, heads * rows * row};
}

auto attend(std::string_view variant, const Queries& q, const Halves& k, const Halves& v,
            const Mask& mask, float scale, float max_bias, float softcap, const Floats& sinks,
            int n_threads) {
  attention::Call call{};
  call.variant = find_variant(attention::supported_variants(), variant, "attention_variants()");
  call.n_streams = static_cast<int64_t>(q.shape(0)),
  call.n_heads = static_cast<int64_t>(q.shape(1));
  call.n_tokens = static_cast<int64_t>(q.shape(2)),
  call.key_size = static_cast<int64_t>(q.shape(3));
  call.n_kv_heads = static_cast<int64_t>(k.shape(1));
  call.n_cells = static_cast<int64_t>(k.shape(2)),
  call.value_size = static_cast<int64_t>(v.shape(3));
  if (!attention::supports(call.key_size, call.value_size))
    refuse("the size of a head", "a multiple of 16", call.key_size);
  call.q = reinterpret_cast<const char*>(q.data());
  call.k = reinterpret_cast<const char*>(k.data());
  call.v = reinterpret_cast<const char*>(v.data());
  call.mask = reinterpret_cast<const char*>(mask.data());
  call.q_strides = strides(q.shape(2), 4 * q.shape(3), q.shape(1));
  call.k_strides = strides(k.shape(2), 2 * k.shape(3), k.shape(1));
  call.v_strides = strides(v.shape(2), 2 * v.shape(3), v.shape(1));
  call.mask_strides = strides(mask.shape(1), 2 * mask.shape(2), 1);
  call.sinks = sinks.size() == 0 ? nullptr : sinks.data();
  call.scale = scale, call.max_bias = max_bias, call.softcap = softcap;
  std::vector<float> out(q.shape(0) * q.shape(1) * q.shape(2) * v.shape(3));
  call.out = out.data();
  run_threads(n_threads, attention::scratch_size(call, n_threads),
              [&](int thread, void* scratch, const Barrier& barrier) {
                attention::attend(call, thread, n_threads, scratch, barrier);
              });
  return array_of(std::move(out), q.shape(0), q.shape(2), q.shape(1), v.shape(3));
}

}  // namespace

void bind_attention(nb::module_& m) {
  m.def(
      "attention_variants", [] { return names_of_variants(attention::supported_variants()); },
      "Returns the names of the attention code that this processor supports, the fastest one "
      "last.");

  m.def("attend", &attend, "variant"_a, "q"_a, "k"_a, "v"_a, "mask"_a, "scale"_a, "max_bias"_a,
        "softcap"_a, "sinks"_a, "n_threads"_a,
        "Returns attention f32[streams, tokens, heads, value size]. q: f32[streams, heads, tokens, "
        "key size]; k and v: f16[streams, key heads, cells, size] as u16; mask: f16[streams, "
        "tokens, cells] as u16; sinks: f32[heads] or empty.");
}
