// ersd._core: the C++ core for Python.
#include "bind.h"

NB_MODULE(_core, m) {
  m.doc() = "The C++ core of ersd. Private: use the names in the package ersd.";
  bind_options(m);
  bind_core(m);
  bind_learning(m);
  bind_generator(m);
  bind_teacher(m);
}
