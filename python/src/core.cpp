// Bindings of the core without a model file.
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>

#include "bind.h"
#include "ersd/ersd.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

using Table = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// A filter by a Python callable (history, tokens) -> [bool].
class Filter : public TokenFilter {
 public:
  explicit Filter(nb::callable function) : function_(std::move(function)) {}

  void filter(std::span<const Token> history, std::span<const Token> tokens, std::span<uint8_t> allowed) override {
    const nb::object answer = function_(to_numpy(history), to_numpy(tokens));
    const auto answers = nb::cast<std::vector<bool>>(answer);
    std::copy(answers.begin(), answers.end(), allowed.begin());
  }

 private:
  nb::callable function_;
};

std::vector<int32_t> all_nodes(const DraftTree& tree) {
  std::vector<int32_t> nodes(tree.size());
  for (int32_t i = 0; i < tree.size(); ++i) nodes[i] = i;
  return nodes;
}

}  // namespace

void bind_core(nb::module_& m) {
  m.def("philox", &philox, "counter"_a, "key"_a, "Philox4x32-10: four words of a counter and two of a key to four random words.");

  nb::class_<Clock>(m, "Clock", "The clocks of one position: an Exp(1) variate per token.")
      .def(nb::init<uint64_t, uint32_t>(), "seed"_a, "position"_a)
      .def(
          "__call__", [](const Clock& c, Token token) { return c(token); }, "token"_a)
      .def(
          "clocks",
          [](const Clock& c, int32_t n) {
            std::vector<double> out(static_cast<size_t>(n));
            for (int32_t t = 0; t < n; ++t) out[static_cast<size_t>(t)] = c(t);
            return array(std::move(out));
          },
          "n"_a, "The clocks of tokens 0 to n - 1; f64[n].")
      .def(
          "bounds",
          [](const Clock& c, size_t n_blocks) {
            Clock::Draws blocks;
            c.draw_blocks(n_blocks, blocks);
            std::vector<Token> leaders(n_blocks);
            for (size_t b = 0; b < n_blocks; ++b) leaders[b] = Clock::leader(blocks, b);
            blocks.noise.resize(n_blocks);
            return std::pair(array(std::move(blocks.noise)), array(std::move(leaders)));
          },
          "n_blocks"_a, "An upper bound on -log(least clock) of each block, and the token that has it; f32, i32[n_blocks].")
      .def(
          "swept",
          [](const Clock& c, const std::vector<Token>& tokens) {
            Clock::Draws blocks, draws;
            c.draw_blocks(static_cast<size_t>(std::ranges::max(tokens)) / Clock::kBlock + 1, blocks);
            c.draw_tokens(tokens, blocks, draws);
            std::vector<double> clocks(tokens.size());
            Clock::clocks(tokens, blocks, draws, clocks);
            return std::pair(array(std::move(clocks)), array(std::move(draws.noise)));
          },
          "tokens"_a, "The clocks of tokens, by the vectorised sweeps, and upper bounds on -log(clock); f64, f32[tokens].");

  m.def(
      "cutoff",
      [](const Floats& logits, const SamplingOptions& options) {
        Row row;
        row.read(view(logits));
        return Truncation().cutoff(row, options);
      },
      "logits"_a, "options"_a, "The least logit that truncation keeps; logits: f32[n_vocab].");

  m.def(
      "select",
      [](const Floats& logits, const SamplingOptions& options, double coin) {
        Selection selection;
        return to_numpy(selection.select(view(logits), options, coin));
      },
      "logits"_a, "options"_a, "coin"_a,
      "The row with -infinity for tokens that truncation removes, XTC where coin <= xtc_probability; f32[n_vocab].");

  m.def(
      "uniform", [](uint64_t seed, uint32_t position, uint32_t domain) { return uniform(seed, position, static_cast<Domain>(domain), 0); }, "seed"_a,
      "position"_a, "domain"_a, "A uniform variate in (0, 1).");

  nb::class_<FilteredRace>(m, "FilteredRace", "Races among the tokens that a filter allows.")
      .def(nb::init<>())
      .def(
          "winner",
          [](FilteredRace& r, const Floats& logits, const SamplingOptions& options, const Clock& clock, const std::vector<bool>& allowed) {
            size_t n_asked = 0;
            const Allowed filter = [&](std::span<const Token> tokens, std::span<uint8_t> answers) {
              n_asked += tokens.size();
              for (size_t i = 0; i < tokens.size(); ++i) answers[i] = allowed[static_cast<size_t>(tokens[i])];
            };
            const Token winner = r.winner(view(logits), options, clock, filter);
            return std::pair(winner, n_asked);
          },
          "logits"_a, "options"_a, "clock"_a, "allowed"_a, "The winner among allowed tokens, bool[n_vocab], and how many were asked about.");

  nb::class_<Race>(m, "Race", "Races over a row of logits, f32[n_vocab].")
      .def(nb::init<>())
      .def(
          "winner",
          [](Race& r, const Floats& logits, const SamplingOptions& options, const Clock& clock) {
            return r.winner(view(logits), options, clock).token;
          },
          "logits"_a, "options"_a, "clock"_a, "The token that wins.")
      .def(
          "arrivals",
          [](Race& r, const Floats& logits, const SamplingOptions& options, const Clock& clock, size_t m) {
            std::vector<int32_t> tokens;
            std::vector<double> scores;
            for (const Arrival& a : r.arrivals(view(logits), options, clock, m)) tokens.push_back(a.token), scores.push_back(a.score);
            return std::pair(array(std::move(tokens)), array(std::move(scores)));
          },
          "logits"_a, "options"_a, "clock"_a, "m"_a, "The first m tokens to arrive and their scores; i32[<= m], f64[<= m].")
      .def(
          "rank",
          [](Race& r, const Floats& logits, const SamplingOptions& options, const Clock& clock, Token token, size_t m) {
            return r.rank(view(logits), options, clock, token, m);
          },
          "logits"_a, "options"_a, "clock"_a, "token"_a, "m"_a, "The token's place among the first m arrivals; m where it is not among them.");

  nb::class_<Coupling>(m, "Coupling", "A method: the order in which a draft's tokens are tried at a position, and the target's token there.")
      .def(
          "__init__",
          [](Coupling* self, const std::string& method, const SamplingOptions& options, uint64_t seed) {
            (new (self) Coupling)->reset(method_from(method), options, seed);
          },
          "method"_a, "options"_a, "seed"_a)
      .def(
          "order",
          [](Coupling& c, const Floats& draft, uint32_t position, size_t m) {
            std::vector<Token> tokens;
            for (const Arrival& arrival : c.order(view(draft), position, m)) tokens.push_back(arrival.token);
            return tokens;
          },
          "draft"_a, "position"_a, "m"_a, "The first m tokens to try, by the draft's logits, f32[n_draft_vocab].")
      .def(
          "emit",
          [](Coupling& c, const Floats& target, const Floats& draft, uint32_t position) {
            const Ranked token = c.emit(view(target), {view(draft), {}}, position);
            return std::pair(token.token, token.rank);
          },
          "target"_a, "draft"_a, "position"_a,
          "The target's token and its rank in the draft's order, 256 for all later ones, -1 for an empty draft; logits as f32[n_vocab].");

  nb::class_<TreeShape>(m, "TreeShape", "Parent and rank of each node of a drafting strategy's tree; node 0 is the root.")
      .def_ro("parent", &TreeShape::parent)
      .def_ro("rank", &TreeShape::rank)
      .def_ro("depth", &TreeShape::depth)
      .def("__len__", &TreeShape::size);
  m.def("sequence_shape", [](int32_t k, int32_t max_depth) { return TreeShape(Shapes().sequence(k, max_depth)); }, "k"_a, "max_depth"_a);
  m.def("batch_shape", [](int32_t k) { return TreeShape(Shapes().batch(k)); }, "k"_a);
  m.def(
      "optimal_shape", [](const std::vector<double>& p, int32_t k, int32_t max_depth) { return TreeShape(Shapes().optimal(p, k, max_depth)); },
      "probabilities"_a, "k"_a, "max_depth"_a, "The k nodes of the most probable paths for i.i.d. ranks.");
  m.def(
      "expected_tokens",
      [](const TreeShape& shape, const std::vector<double>& p) {
        std::vector<double> path;
        return expected_tokens(shape, p, path);
      },
      "shape"_a, "probabilities"_a, "Expected tokens per target call for i.i.d. ranks.");

  nb::class_<DraftTree>(m, "DraftTree", "A tree of tokens as flat arrays; node 0 is the last committed token.")
      .def(nb::init<Token>(), "root"_a)
      .def("add", &DraftTree::add, "parent"_a, "token"_a)
      .def("child", &DraftTree::child, "node"_a, "token"_a)
      .def("__len__", &DraftTree::size)
      .def_prop_ro("tokens", [](const DraftTree& t) { return std::vector<Token>(t.tokens().begin(), t.tokens().end()); })
      .def_prop_ro("parents", [](const DraftTree& t) { return std::vector<int32_t>(t.parents().begin(), t.parents().end()); });

  m.def(
      "lay_out",
      [](const DraftTree& tree, const std::vector<Token>& history, int32_t max_sequences) {
        BatchLayout layout;
        const Batch& b = layout.lay_out(history, 0, tree, all_nodes(tree), max_sequences);
        std::vector<std::vector<int32_t>> sequences;
        for (int32_t i = 0; i < b.size(); ++i) sequences.emplace_back(b.sequence.begin() + b.offset[i], b.sequence.begin() + b.offset[i + 1]);
        return std::tuple(b.token, b.position, sequences);
      },
      "tree"_a, "history"_a = std::vector<Token>{}, "max_sequences"_a = kMaxDraftNodes,
      "The batch of a whole tree: tokens, positions, and the sequences of each row.");

  nb::class_<LanguageModel>(m, "LanguageModel");
  nb::class_<TableModel, LanguageModel>(m, "TableModel",
                                        "A language model whose next-token logits are rows of a table, chosen by a hash of all tokens before.")
      .def(
          "__init__",
          [](TableModel* self, const Table& table, int32_t n_ctx) {
            new (self) TableModel(std::vector<float>(table.data(), table.data() + table.size()), static_cast<int32_t>(table.shape(1)), n_ctx);
          },
          "table"_a, "n_ctx"_a = 4096)
      .def(
          "row",
          [](const TableModel& t, const std::vector<Token>& tokens) {
            const auto row = t.row(tokens);
            return array(std::vector<float>(row.begin(), row.end()));
          },
          "tokens"_a, "The logits after these tokens; f32[n_vocab].")
      .def_prop_ro("n_decoded", &TableModel::n_decoded)
      .def_prop_ro("n_calls", &TableModel::n_calls)
      .def_prop_ro("n_cached", [](const TableModel& t) { return t.n_cached(); });

  m.def(
      "verify",
      [](TableModel& model, const std::vector<Token>& history, const DraftTree& tree, const SamplingOptions& options, uint64_t seed) {
        model.rollback(0);
        const auto nodes = all_nodes(tree);
        model.decode(history, tree, nodes);
        Coupling coupling;
        coupling.reset(Method::kErsd, options, seed);
        Verified verified;
        verify(
            tree, [&](int32_t node) { return model.logits(node); }, [](int32_t) { return Drafted(); }, [](int32_t) { return Allowed(); },
            static_cast<uint32_t>(history.size()), coupling, verified);
        return std::pair(verified.path, verified.emitted);
      },
      "model"_a, "history"_a, "tree"_a, "options"_a, "seed"_a,
      "Accepted nodes and emitted tokens of one target call over a tree whose root follows history.");

  nb::class_<Decoder>(m, "Decoder", "The decoding step over any two language models.")
      .def(nb::init<LanguageModel&, LanguageModel*>(), "target"_a, "draft"_a.none(), nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
      .def(
          "start",
          [](Decoder& d, const std::vector<Token>& prompt, const GenerationOptions& options, const nb::object& filter) {
            Shaping shaping;
            if (options.shaping.logits_processor) shaping.add(options.shaping.logits_processor);
            if (!filter.is_none()) shaping.restrict_to(std::make_shared<Filter>(nb::borrow<nb::callable>(filter)));
            d.start(prompt, options, std::move(shaping));
          },
          "prompt"_a, "options"_a, "filter"_a = nb::none(),
          "The options' logits_processor shapes both models' rows here. filter: (history, tokens) -> which of the tokens may come.")
      .def(
          "step",
          [](Decoder& d, int32_t limit) {
            const auto tokens = d.step(limit);
            return std::vector<Token>(tokens.begin(), tokens.end());
          },
          "limit"_a)
      .def(
          "observe",
          [](Decoder& d) {
            const Ranked position = d.observe();
            return std::pair(position.token, position.rank);
          },
          "One token and its rank in the draft's order.")
      .def_prop_ro("logprobs",
                   [](const Decoder& d) {
                     const auto all = d.logprobs();
                     return std::vector<TokenLogprob>(all.begin(), all.end());
                   })
      .def_prop_ro("stats", [](Decoder& d) { return d.stats(); })
      .def_prop_ro("histogram", [](Decoder& d) { return d.histogram(); })
      .def_prop_ro("margins", [](Decoder& d) { return d.margins(); });

  nb::class_<TextStream>(m, "TextStream", "Token bytes to text that can be shown.")
      .def(nb::init<std::vector<std::string>>(), "stop"_a = std::vector<std::string>{})
      .def(
          "push",
          [](TextStream& t, const nb::bytes& bytes) {
            std::string out;
            t.push({bytes.c_str(), bytes.size()}, out);
            return out;
          },
          "bytes"_a)
      .def("finish",
           [](TextStream& t) {
             std::string out;
             t.finish(out);
             return out;
           })
      .def_prop_ro("stopped", &TextStream::stopped);
}
