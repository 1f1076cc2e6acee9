// Bindings of the matrix room.
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <string_view>
#include <utility>
#include <vector>

#include "bind.h"
#include "ersd/check.h"
#include "ersd/matrix/product.h"
#include "threads.h"
#include "variants.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using Inputs = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

auto multiply(std::string_view variant, const Bytes& weights, const Inputs& inputs, int n_threads) {
  matrix::Product product{};
  product.variant = find_variant(matrix::supported_variants(), variant, "matrix_variants()");
  product.n_rows = static_cast<int64_t>(weights.shape(0));
  product.n_tokens = static_cast<int64_t>(inputs.shape(0));
  product.n_numbers = static_cast<int64_t>(inputs.shape(1));
  product.weights_row = weights.shape(1);
  product.inputs_row = inputs.shape(1) * sizeof(float);
  product.out_row = weights.shape(0) * sizeof(float);
  const size_t row = inputs.shape(1) / matrix::kBlock * sizeof(matrix::Block);
  if (inputs.shape(1) % matrix::kBlock != 0 || row != weights.shape(1))
    refuse("bytes of a row of weights", std::to_string(row), weights.shape(1));
  product.weights = reinterpret_cast<const char*>(weights.data());
  product.inputs = reinterpret_cast<const char*>(inputs.data());
  std::vector<float> out(weights.shape(0) * inputs.shape(0));
  product.out = reinterpret_cast<char*>(out.data());
  run_threads(n_threads, matrix::scratch_size(product),
              [&](int thread, void* scratch, const Barrier& barrier) {
                matrix::multiply(product, thread, n_threads, scratch, barrier);
              });
  return array_of(std::move(out), inputs.shape(0), weights.shape(0));
}

}  // namespace

void bind_matrix(nb::module_& m) {
  m.def(
      "matrix_variants", [] { return names_of_variants(matrix::supported_variants()); },
      "Returns the names of the code for products that this processor supports, the fastest one "
      "last.");
  m.def("multiply", &multiply, "variant"_a, "weights"_a, "inputs"_a, "n_threads"_a,
        "Returns inputs f32[tokens, numbers] times weights in Q8_0, given as u8[rows, bytes of a "
        "row]: f32[tokens, rows].");
}
