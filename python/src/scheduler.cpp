// Bindings of requests and of the scheduler, the latter for tests.
#include "ersd/scheduler.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "bind.h"
#include "request_handle.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

nb::dict by_source(const std::array<int64_t, kSourceCount>& counts) {
  nb::dict d;
  for (size_t i = 0; i < kSourceCount; ++i)
    if (counts[i] > 0) d[to_string(static_cast<Source>(i))] = counts[i];
  return d;
}

// The names of the sources of each token.
nb::list source_names_of(const std::vector<uint8_t>& sources) {
  nb::list names;
  for (const uint8_t of_token : sources) names.append(names_of(of_token));
  return names;
}

nb::typed<nb::dict, nb::str, nb::any> to_dict(const Stats& s) {
  nb::typed<nb::dict, nb::str, nb::any> d;
  d["strategy"] = s.strategy;
  d["generated"] = s.generated;
  d["target_calls"] = s.target_calls;
  d["draft_calls"] = s.draft_calls;
  d["drafted"] = s.drafted;
  d["accepted"] = s.accepted;
  d["drafted_by"] = by_source(s.drafted_by);
  d["accepted_by"] = by_source(s.accepted_by);
  d["tokens_per_call"] = s.tokens_per_call();
  d["acceptance_rate"] = s.acceptance_rate();
  d["acceptance_histogram"] = s.acceptance_histogram;
  d["rank_histogram"] = s.rank_histogram;
  d["nodes_histogram"] = s.nodes_histogram;
  d["expected_tokens"] = s.expected_tokens;
  d["expected_ms"] = s.expected_ms;
  d["target_tokens"] = s.target_tokens;
  d["draft_tokens"] = s.draft_tokens;
  d["cached_tokens"] = s.cached_tokens;
  d["prefill_ms"] = s.prefill_ms;
  d["draft_ms"] = s.draft_ms;
  d["target_ms"] = s.target_ms;
  d["race_ms"] = s.race_ms;
  d["total_ms"] = s.total_ms;
  d["tokens_per_second"] = s.tokens_per_second();
  return d;
}

void bind_steps(nb::module_& m) {
  nb::class_<Stats>(m, "Stats", "The counts and times of one generation; see ersd.Stats.")
      .def("to_dict", &to_dict);

  nb::class_<StepTree>(m, "StepTree", "The tree of a step; see ersd.StepTree.")
      .def_ro("tokens", &StepTree::tokens)
      .def_ro("parents", &StepTree::parents)
      .def_ro("accepted", &StepTree::accepted)
      .def_prop_ro(
          "sources", [](const StepTree& t) { return source_names_of(t.sources); },
          nb::sig("def sources(self) -> list[tuple[str, ...]]"));

  nb::class_<GenerationStep>(m, "GenerationStep")
      .def_ro("text", &GenerationStep::text)
      .def_ro("tokens", &GenerationStep::tokens)
      .def_ro("logprobs", &GenerationStep::logprobs)
      .def_ro("n_accepted", &GenerationStep::n_accepted)
      .def_ro("tree", &GenerationStep::tree)
      .def_prop_ro(
          "sources", [](const GenerationStep& s) { return source_names_of(s.sources); },
          nb::sig("def sources(self) -> list[tuple[str, ...]]"))
      .def_ro("end_token", &GenerationStep::end_token)
      .def_prop_ro("finish_reason",
                   [](const GenerationStep& s) { return to_string(s.finish_reason); });
}

void bind_request(nb::module_& m) {
  nb::class_<RequestHandle>(m, "Request",
                            "A generation under way. It is cancelled when it is deleted.")
      .def(
          "take", [](RequestHandle& r) { return r.request().take(); },
          "Takes a step that is ready, without waiting; None if there is none. Raises the error "
          "that ended the generation, once.")
      .def_prop_ro(
          "done", [](const RequestHandle& r) { return r.request().done(); },
          "Whether no more steps will come and all were taken.")
      .def_prop_ro(
          "stats", [](const RequestHandle& r) { return to_dict(r.request().stats()); },
          "Counts and times up to the step that was taken last.")
      .def_prop_ro(
          "rank", [](const RequestHandle& r) { return r.request().rank(); },
          "The rank of the last step's token, if ranks are wanted.")
      .def("target_row", [](const RequestHandle& r) { return array(r.request().target_row()); })
      .def("draft_row", [](const RequestHandle& r) { return array(r.request().draft_row()); });
}

// Queues a request whose tokens have decimal numbers as texts.
RequestHandle submit(Scheduler& scheduler, const std::vector<Token>& prompt,
                     const GenerationOptions& options, const LanguageModel& target,
                     const LanguageModel* draft, const std::vector<Token>& end_tokens,
                     const Request::Options& request_options) {
  LogitsProcessorList processors;
  if (options.processors.logits_processor) processors.add(options.processors.logits_processor);
  const Vocabulary vocabulary{
      [end_tokens](Token token) { return std::ranges::count(end_tokens, token) > 0; },
      [](Token token) { return std::to_string(token) + " "; }};
  auto sequence = std::make_unique<Sequence>(prompt, options, std::move(processors), target, draft);
  auto request = std::make_shared<Request>(std::move(sequence), vocabulary, request_options);
  scheduler.add(request);
  return RequestHandle(std::move(request));
}

void bind_scheduler_class(nb::module_& m) {
  nb::class_<Scheduler>(m, "Scheduler", "Requests that share the steps of an Engine, for tests.")
      .def(
          "__init__",
          [](Scheduler* self, Engine& engine, LanguageModel& target, LanguageModel* draft,
             int32_t n_parallel, int32_t n_cells, bool target_keeps, bool draft_keeps) {
            new (self)
                Scheduler(engine, target, draft, n_parallel, {n_cells, target_keeps, draft_keeps});
          },
          "engine"_a, "target"_a, "draft"_a.none(), "n_parallel"_a, "n_cells"_a,
          "target_keeps"_a = true, "draft_keeps"_a = true, nb::keep_alive<1, 2>(),
          nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>())
      .def(
          "submit",
          [](Scheduler& s, const std::vector<Token>& prompt, const GenerationOptions& options,
             const LanguageModel& target, const LanguageModel* draft,
             const std::vector<Token>& end_tokens, bool wants_ranks, bool context_shift,
             int32_t n_keep) {
            return submit(s, prompt, options, target, draft, end_tokens,
                          {wants_ranks, context_shift, n_keep});
          },
          "prompt"_a, "options"_a, "target"_a, "draft"_a.none(),
          "end_tokens"_a = std::vector<Token>{}, "wants_ranks"_a = false, "context_shift"_a = false,
          "n_keep"_a = 0, "The text of a token is its number and a space.")
      .def("step", &Scheduler::step, "Returns whether a step was made.")
      .def(
          "cancel", [](Scheduler&, RequestHandle& r) { r.request().cancel(); }, "request"_a)
      .def("clear_idle", &Scheduler::clear_idle)
      .def_prop_ro("n_running", &Scheduler::n_running)
      .def_prop_ro("n_waiting", &Scheduler::n_waiting)
      .def_prop_ro("n_free", &Scheduler::n_free);
}

}  // namespace

void bind_scheduler(nb::module_& m) {
  bind_steps(m);
  bind_request(m);
  bind_scheduler_class(m);
}
