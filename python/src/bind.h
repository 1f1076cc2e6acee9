// The parts of the extension module, and conversions between NumPy and C++ arrays.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "ersd/decode/options.h"
#include "ersd/tree/draft_tree.h"

// One function for each file of bindings.
void bind_race(nanobind::module_& m);
void bind_matrix(nanobind::module_& m);
void bind_attention(nanobind::module_& m);
void bind_tree(nanobind::module_& m);
void bind_model(nanobind::module_& m);
void bind_verify(nanobind::module_& m);
void bind_learning(nanobind::module_& m);
void bind_choices(nanobind::module_& m);
void bind_draft(nanobind::module_& m);
void bind_decode(nanobind::module_& m);
void bind_llama(nanobind::module_& m);
void bind_embedder(nanobind::module_& m);
void bind_scheduler(nanobind::module_& m);
void bind_generator(nanobind::module_& m);

using Floats =
    nanobind::ndarray<const float, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

inline std::span<const float> view(const Floats& a) { return {a.data(), a.size()}; }

// A NumPy array of this shape that owns the values.
template <class T, class... Sizes>
auto array_of(std::vector<T> values, Sizes... shape) {
  auto* owner = new std::vector<T>(std::move(values));
  const nanobind::capsule capsule(owner,
                                  [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nanobind::ndarray<nanobind::numpy, T, nanobind::ndim<sizeof...(Sizes)>>(
      owner->data(), {shape...}, capsule);
}

// A NumPy array of one dimension that owns the values.
template <class T>
auto array(std::vector<T> values) {
  const size_t n = values.size();
  return array_of(std::move(values), n);
}

// A NumPy array with a copy of the values.
template <class T>
auto to_numpy(std::span<const T> values) {
  return array(std::vector<T>(values.begin(), values.end()));
}

// The names of the sources of a set.
inline nanobind::tuple names_of(ersd::Sources sources) {
  nanobind::list names;
  ersd::for_each_source(sources,
                        [&](ersd::Source source) { names.append(ersd::to_string(source)); });
  return nanobind::tuple(names);
}

// Every node of a tree, in order.
inline std::vector<int32_t> all_nodes(const ersd::DraftTree& tree) {
  std::vector<int32_t> nodes(tree.size());
  for (int32_t i = 0; i < tree.size(); ++i) nodes[i] = i;
  return nodes;
}
