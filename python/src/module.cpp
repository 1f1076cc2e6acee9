// ersd._core: the C++ core for Python.
#include "bind.h"
#include "gil.h"

NB_MODULE(_core, m) {
  m.doc() = "The C++ core of ersd. Private: use the names in the package ersd.";
  bind_race(m);
  bind_matrix(m);
  bind_attention(m);
  bind_tree(m);
  bind_model(m);
  bind_verify(m);
  bind_learning(m);
  bind_choices(m);
  bind_draft(m);
  bind_decode(m);
  bind_llama(m);
  bind_embedder(m);
  bind_scheduler(m);
  bind_generator(m);
  end_threads_at_exit();
}
