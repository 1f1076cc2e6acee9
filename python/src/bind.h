// The parts of the extension module, and what they share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <span>

void bind_options(nanobind::module_& m);    // what a caller can ask of a generation
void bind_core(nanobind::module_& m);       // clocks, races, trees, layouts, verification: the core without a model file
void bind_generator(nanobind::module_& m);  // models and generation

// A NumPy array with a copy of the values.
template <class T>
nanobind::ndarray<nanobind::numpy, T, nanobind::ndim<1>> to_numpy(std::span<const T> values) {
  auto* data = new T[values.size()];
  std::copy(values.begin(), values.end(), data);
  return {data, {values.size()}, nanobind::capsule(data, [](void* p) noexcept { delete[] static_cast<T*>(p); })};
}
