// Bindings of the room learning: what chooses how much is drafted, read and computed at once.
#include <nanobind/stl/array.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <optional>

#include "bind.h"
#include "ersd/learning/draft_controller.h"
#include "ersd/learning/draft_trials.h"
#include "ersd/learning/path_threshold.h"
#include "ersd/learning/prompt_pacer.h"
#include "ersd/learning/thread_governor.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

// A controller and the one text that it plans for.
struct OneText {
  DraftController controller;
  DraftController::Text text;
};

void bind_plan(nb::module_& m) {
  nb::class_<DraftController::Plan>(m, "Plan",
                                    "k of the next call, and its expected tokens and time.")
      .def_ro("nodes", &DraftController::Plan::nodes)
      .def_ro("tokens", &DraftController::Plan::tokens)
      .def_ro("ms", &DraftController::Plan::ms);
}

nb::class_<OneText> bind_plans(nb::module_& m) {
  return nb::class_<OneText>(m, "DraftController",
                             "Chooses how many nodes of the optimal tree to draft, for one text.")
      .def(nb::init<>())
      .def(
          "plan",
          [](OneText& c, const std::vector<double>& ranks, const CostCurve& target,
             const CostCurve& draft, int32_t n_missing, int32_t max_depth, int32_t n_sequences,
             int32_t n_rows) {
            TreeShapeBuilder shapes;
            const auto shape = [&](int32_t k) -> const TreeShape& {
              return shapes.build_optimal(ranks, k, max_depth);
            };
            return c.controller.plan(c.text, shape, ranks, {target, draft}, {n_sequences, n_rows},
                                     n_missing);
          },
          "ranks"_a, "target"_a, "draft"_a, "n_missing"_a = 0, "max_depth"_a = 64,
          "n_sequences"_a = 1, "n_rows"_a = 1,
          "The plan of the next call. ranks: P(rank = r); target, draft: cost curves; n_missing: "
          "tokens that the draft must read before it can draft; n_sequences, n_rows: what shares "
          "the call.")
      .def(
          "plan_fixed",
          [](OneText& c, const TreeShape& shape, const std::vector<double>& ranks,
             const CostCurve& target, const CostCurve& draft, bool reads_again) {
            return c.controller.plan_fixed(c.text, shape, ranks, {target, draft},
                                           {1, 1, reads_again});
          },
          "shape"_a, "ranks"_a, "target"_a, "draft"_a, "reads_again"_a = false,
          "The plan of a given shape. reads_again: whether accepted tokens are read again where "
          "others were rejected.");
}

void bind_controller(nb::module_& m) {
  bind_plans(m)
      .def(
          "forecast",
          [](OneText& c, const std::vector<double>& ranks, const CostCurve& target,
             const CostCurve& draft) {
            TreeShapeBuilder shapes;
            return c.controller.forecast(
                [&](int32_t k) -> const TreeShape& { return shapes.build_optimal(ranks, k, 64); },
                ranks, {target, draft});
          },
          "ranks"_a, "target"_a, "draft"_a, "The plans of a plain call and of each k.")
      .def(
          "learn",
          [](OneText& c, int32_t n_accepted, double ms, std::optional<int32_t> n_drafted) {
            c.controller.learn(c.text, n_drafted.value_or(c.text.plan.nodes), n_accepted, ms);
          },
          "n_accepted"_a, "ms"_a, "n_drafted"_a = std::nullopt,
          "Learns from a call that followed the last plan, with so many nodes or those of the "
          "plan.")
      .def(
          "forget_times", [](OneText& c) { c.controller.forget_times(); },
          "Forgets what was learnt of times.")
      .def("begin_text", [](OneText& c) { c.text = {}; }, "Begins another text.");
}

void bind_path_threshold(nb::module_& m) {
  nb::class_<PathThreshold>(m, "PathThreshold",
                            "How probable a node's path must be so that trees have k nodes on "
                            "average.")
      .def(nb::init<>())
      .def("set_nodes", &PathThreshold::set_nodes, "k"_a)
      .def("learn", &PathThreshold::learn, "n_nodes"_a,
           "Learns from the number of nodes of a tree that was grown with this threshold.")
      .def("reset", &PathThreshold::reset)
      .def_prop_ro("value", &PathThreshold::value);
}

void bind_thread_governor(nb::module_& m) {
  nb::class_<ThreadGovernor>(m, "ThreadGovernor",
                             "Chooses threads while other processes compete for the cores.")
      .def(nb::init<int32_t>(), "most"_a)
      .def_prop_ro("n_threads", &ThreadGovernor::n_threads)
      .def("learn", &ThreadGovernor::learn, "width"_a, "ms"_a, "cpu_ms"_a,
           "Learns from a call of some tokens that used n_threads: its wall-clock time and the "
           "processor time of all threads.");
}

void bind_prompt_pacer(nb::module_& m) {
  nb::class_<PromptPacer>(m, "PromptPacer",
                          "Chooses how many prompt tokens a step reads while others generate.")
      .def(nb::init<double>(), "share"_a)
      .def("n_tokens", &PromptPacer::n_tokens, "n_sequences"_a, "n_cached"_a = 0,
           "expected"_a = nb::none())
      .def("learn", &PromptPacer::learn, "n_sequences"_a, "n_read"_a, "ms"_a, "n_cached"_a = 0,
           "Learns from a step that read n_read tokens after n_cached and took ms milliseconds.");
}

void bind_draft_trials(nb::module_& m) {
  nb::class_<DraftTrials>(m, "DraftTrials",
                          "Tries whether drafting pays while several sequences share calls.")
      .def(nb::init<>())
      .def("drafts", &DraftTrials::drafts, "n_sequences"_a,
           "Returns whether the next step for n_sequences should draft.")
      .def(
          "learn", &DraftTrials::learn, "n_sequences"_a, "plain_ms"_a, "ms"_a,
          "Learns from a step of ms milliseconds that brought what plain calls bring in plain_ms.");
}

}  // namespace

void bind_choices(nb::module_& m) {
  bind_plan(m);
  bind_controller(m);
  bind_path_threshold(m);
  bind_thread_governor(m);
  bind_prompt_pacer(m);
  bind_draft_trials(m);
}
