// Bindings of the room decode: the options of a generation, and the decoding step.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "bind.h"
#include "ersd/decode/decoder.h"
#include "ersd/decode/options.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

// A callable (input_ids, scores) -> scores, as llama-cpp-python has it; i32[n], f32[n_vocab].
class PythonLogitsProcessor : public LogitsProcessor {
 public:
  explicit PythonLogitsProcessor(nb::callable function) : function_(std::move(function)) {}
  ~PythonLogitsProcessor() override {
    const nb::gil_scoped_acquire gil;
    function_.reset();
  }

  void process(std::span<const Token> history, std::span<float> logits) override {
    const nb::gil_scoped_acquire gil;
    const nb::object scores =
        function_(to_numpy(history), to_numpy(std::span<const float>(logits)));
    nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu> out;
    if (!nb::try_cast(scores, out) || out.size() != logits.size())
      throw nb::type_error(("logits_processor must return an array of " +
                            std::to_string(logits.size()) + " numbers, got " +
                            nb::cast<std::string>(nb::str(scores.type())))
                               .c_str());
    std::copy_n(out.data(), out.size(), logits.data());
  }

 private:
  nb::object function_;
};

// A filter by a Python callable (history, tokens) -> [bool].
class Filter : public TokenFilter {
 public:
  explicit Filter(nb::callable function) : function_(std::move(function)) {}

  void filter(std::span<const Token> history, std::span<const Token> tokens,
              std::span<uint8_t> allowed) override {
    const nb::object answer = function_(to_numpy(history), to_numpy(tokens));
    const auto answers = nb::cast<std::vector<bool>>(answer);
    std::copy(answers.begin(), answers.end(), allowed.begin());
  }

 private:
  nb::callable function_;
};

// Drafted tokens per call: a number or "auto".
struct Nodes {
  int32_t& k;
};

// Every option by its name, with what visit(name, value) does to it.
template <class Visit>
void for_each_option(GenerationOptions& o, Visit visit) {
  visit("max_tokens", o.max_tokens);
  visit("temperature", o.sampling.temperature);
  visit("top_k", o.sampling.top_k);
  visit("top_p", o.sampling.top_p);
  visit("min_p", o.sampling.min_p);
  visit("typical_p", o.sampling.typical_p);
  visit("xtc_probability", o.sampling.xtc_probability);
  visit("xtc_threshold", o.sampling.xtc_threshold);
  visit("repeat_penalty", o.processors.repeat_penalty);
  visit("frequency_penalty", o.processors.frequency_penalty);
  visit("presence_penalty", o.processors.presence_penalty);
  visit("penalty_last_n", o.processors.penalty_last_n);
  visit("dry_multiplier", o.processors.dry_multiplier);
  visit("dry_base", o.processors.dry_base);
  visit("dry_allowed_length", o.processors.dry_allowed_length);
  visit("dry_penalty_last_n", o.processors.dry_penalty_last_n);
  visit("dry_sequence_breakers", o.processors.dry_sequence_breakers);
  visit("logit_bias", o.processors.logit_bias);
  visit("ignore_eos", o.processors.ignore_eos);
  visit("grammar", o.processors.grammar);
  visit("logits_processor", o.processors.logits_processor);
  visit("logprobs", o.logprobs);
  visit("seed", o.seed);
  visit("stop", o.stop);
  visit("method", o.method);
  visit("strategy", o.strategy);
  visit("draft_nodes", Nodes{o.draft_nodes});
  visit("draft_depth", o.draft_depth);
  visit("adapt_draft", o.adapt_draft);
}

std::string shown(nb::handle value) { return nb::cast<std::string>(nb::repr(value)); }

[[noreturn]] void refuse(const std::string& name, const char* expected, nb::handle value) {
  throw nb::type_error((name + " must be " + expected + ", got " + shown(value)).c_str());
}

constexpr const char* kind(float) { return "a number"; }
constexpr const char* kind(bool) { return "True or False"; }
const char* kind(const std::string&) { return "a str"; }
const char* kind(const std::vector<std::string>&) { return "a sequence of str"; }
const char* kind(const std::vector<std::pair<Token, float>>&) {
  return "pairs of a token and a number";
}
template <class Integer>
constexpr const char* kind(Integer) {
  return "an int of its range";
}

template <class T>
T cast(const char* name, nb::handle value) {
  T out{};
  if (!nb::try_cast(value, out)) refuse(name, kind(out), value);
  return out;
}

template <class T>
void read(const char* name, nb::handle value, T& out) {
  out = cast<T>(name, value);
}
void read(const char* name, nb::handle value, Method& out) {
  out = method_from(cast<std::string>(name, value));
}
void read(const char* name, nb::handle value, Strategy& out) {
  out = strategy_from(cast<std::string>(name, value));
}
void read(const char* name, nb::handle value, std::shared_ptr<LogitsProcessor>& out) {
  if (!PyCallable_Check(value.ptr()))
    refuse(name, "a callable (input_ids, scores) -> scores", value);
  out = std::make_shared<PythonLogitsProcessor>(nb::borrow<nb::callable>(value));
}
void read(const char* name, nb::handle value, Nodes& out) {
  const bool is_word = nb::isinstance<nb::str>(value);
  out.k =
      is_word ? (nb::cast<std::string>(value) == "auto" ? kAuto : 0) : cast<int32_t>(name, value);
  if (is_word ? out.k != kAuto : out.k == kAuto)
    throw std::invalid_argument("draft_nodes must be between 1 and 256, or 'auto', got " +
                                shown(value));
}

GenerationOptions read_options(const nb::kwargs& given) {
  GenerationOptions options;
  const bool has_strategy = given.contains("strategy") && !nb::object(given["strategy"]).is_none();
  nb::dict left;
  left.update(given);
  for_each_option(options, [&](const char* name, auto&& option) {
    const nb::object value = left.attr("pop")(name, nb::none());
    if (!value.is_none()) read(name, value, option);
  });
  for (const auto [name, _] : left)
    throw nb::type_error(("there is no option " + shown(name)).c_str());
  if (!has_strategy) options.strategy = default_strategy(options.method);
  options.validate();
  return options;
}

}  // namespace

void bind_decode(nb::module_& m) {
  nb::class_<GenerationOptions>(
      m, "GenerationOptions",
      "Everything one generation is asked to do; see ersd.Options. None is the default.")
      .def(
          "__init__",
          [](GenerationOptions* self, const nb::kwargs& given) {
            new (self) GenerationOptions(read_options(given));
          },
          nb::sig("def __init__(self, **options: object) -> None"))
      .def_prop_ro("logprobs", [](const GenerationOptions& o) {
        return o.logprobs < 0 ? std::nullopt : std::optional(o.logprobs);
      });

  nb::class_<Decoder>(m, "Decoder", "The decoding step over any two language models.")
      .def(nb::init<LanguageModel&, LanguageModel*>(), "target"_a, "draft"_a.none(),
           nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
      .def(
          "start",
          [](Decoder& d, const std::vector<Token>& prompt, const GenerationOptions& options,
             const nb::object& filter) {
            LogitsProcessorList processors;
            if (options.processors.logits_processor)
              processors.add(options.processors.logits_processor);
            if (!filter.is_none())
              processors.restrict_to(std::make_shared<Filter>(nb::borrow<nb::callable>(filter)));
            d.start(prompt, options, std::move(processors));
          },
          "prompt"_a, "options"_a, "filter"_a = nb::none(),
          "The options' logits_processor shapes both models' rows here. filter: (history, tokens) "
          "-> which of the tokens may come.")
      .def(
          "step",
          [](Decoder& d, int32_t limit) {
            const auto tokens = d.step(limit);
            return std::vector<Token>(tokens.begin(), tokens.end());
          },
          "limit"_a)
      .def(
          "step_with_rank",
          [](Decoder& d) {
            const RankedToken position = d.step_with_rank();
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
}
