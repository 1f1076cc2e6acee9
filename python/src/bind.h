// The parts of the extension module.
#pragma once

#include <nanobind/nanobind.h>

void bind_core(nanobind::module_& m);       // clocks, races, trees, layouts, verification: the core without a model file
void bind_generator(nanobind::module_& m);  // models and generation
