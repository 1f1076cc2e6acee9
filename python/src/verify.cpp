// Bindings of the room verify: couplings and verification.
#include "ersd/verify/verify.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "bind.h"
#include "callbacks.h"
#include "ersd/decode/options.h"
#include "ersd/model/table_model.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

void bind_coupling(nb::module_& m) {
  nb::class_<Coupling>(m, "Coupling",
                       "A method: in which order the draft's tokens are tried at a position, and "
                       "which token the target emits there.")
      .def(
          "__init__",
          [](Coupling* self, const std::string& method, const SamplingOptions& options,
             uint64_t seed) { (new (self) Coupling)->reset(method_from(method), options, seed); },
          "method"_a, "options"_a, "seed"_a)
      .def(
          "draft_order",
          [](Coupling& c, const Floats& logits, uint32_t position, size_t m, uint32_t depth) {
            std::vector<Token> tokens;
            for (const Arrival& arrival : c.draft_order(view(logits), position, m, depth))
              tokens.push_back(arrival.token);
            return tokens;
          },
          "logits"_a, "position"_a, "m"_a, "depth"_a = 1,
          "The first m tokens to try at a position. logits: the draft's, f32[n_draft_vocab]. "
          "depth: "
          "of these tokens in their tree.")
      .def(
          "sample",
          [](Coupling& c, const Floats& target, const Floats& draft, uint32_t position) {
            const RankedToken token = c.sample(view(target), {view(draft), {}}, position);
            return std::pair(token.token, token.rank);
          },
          "target"_a, "draft"_a, "position"_a,
          "The target's token at a position and its rank in the draft's order: 256 for all later "
          "tokens, -1 without a draft. target, draft: logits, f32[n_vocab] and f32[n_draft_vocab]; "
          "an empty draft is none.");
}

void bind_verification(nb::module_& m) {
  m.def(
      "verify",
      [](TableModel& model, const std::vector<Token>& history, const DraftTree& tree,
         const SamplingOptions& options, uint64_t seed) {
        model.rollback(0);
        const auto nodes = all_nodes(tree);
        model.decode(history, tree, nodes);
        Coupling coupling;
        coupling.reset(Method::kErsd, options, seed);
        Verified verified;
        const NodeInputs inputs{[&](int32_t node) { return model.logits(node); },
                                [](int32_t) { return DraftRow(); }};
        verify(tree, inputs, static_cast<uint32_t>(history.size()), coupling, verified);
        return std::pair(verified.path, verified.emitted);
      },
      "model"_a, "history"_a, "tree"_a, "options"_a, "seed"_a,
      "The accepted nodes and the emitted tokens of one target call. The tree's root follows the "
      "history, i32[n].");
}

void bind_grammar(nb::module_& m) {
  nb::class_<GrammarMatcher>(m, "GrammarMatcher", "Follows one answer through a grammar.")
      .def(
          "mask",
          [](GrammarMatcher& matcher, const std::vector<Token>& path, size_t n_vocab) {
            std::vector<uint32_t> mask((n_vocab + kMaskBits - 1) / kMaskBits);
            matcher.write_mask(path, mask);
            return array(std::move(mask));
          },
          "path"_a, "n_vocab"_a,
          "Returns which tokens may follow the committed tokens and then these, a bit for each; "
          "u32[ceil(n_vocab / 32)].")
      .def(
          "commit", [](GrammarMatcher& matcher, const std::vector<Token>& t) { matcher.commit(t); },
          "tokens"_a, "Appends tokens to the committed ones.");

  m.def(
      "start_grammar", [](nb::object grammar) { return PythonGrammar(std::move(grammar)).start(); },
      "grammar"_a, "Begins an answer. grammar: see ersd.grammars.Grammar.");
}

}  // namespace

void bind_verify(nb::module_& m) {
  bind_coupling(m);
  bind_verification(m);
  bind_grammar(m);
}
