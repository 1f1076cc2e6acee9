// Bindings of options: one table names them all, and Python callables that shape logits.
#include "ersd/options.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "bind.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

// A callable (input_ids, scores) -> scores, as llama-cpp-python has it; i32[n], f32[n_vocab].
class LogitsProcessor : public LogitsShaper {
 public:
  explicit LogitsProcessor(nb::callable function) : function_(std::move(function)) {}
  ~LogitsProcessor() override {
    const nb::gil_scoped_acquire gil;
    function_.reset();
  }

  void shape(std::span<const Token> history, std::span<float> logits) override {
    const nb::gil_scoped_acquire gil;
    const nb::object scores = function_(to_numpy(history), to_numpy(std::span<const float>(logits)));
    nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu> out;
    if (!nb::try_cast(scores, out) || out.size() != logits.size())
      throw nb::type_error(("logits_processor must return an array of " + std::to_string(logits.size()) + " numbers, got " +
                            nb::cast<std::string>(nb::str(scores.type())))
                               .c_str());
    std::copy_n(out.data(), out.size(), logits.data());
  }

 private:
  nb::object function_;
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
  visit("repeat_penalty", o.shaping.repeat_penalty);
  visit("frequency_penalty", o.shaping.frequency_penalty);
  visit("presence_penalty", o.shaping.presence_penalty);
  visit("penalty_last_n", o.shaping.penalty_last_n);
  visit("dry_multiplier", o.shaping.dry_multiplier);
  visit("dry_base", o.shaping.dry_base);
  visit("dry_allowed_length", o.shaping.dry_allowed_length);
  visit("dry_penalty_last_n", o.shaping.dry_penalty_last_n);
  visit("dry_sequence_breakers", o.shaping.dry_sequence_breakers);
  visit("logit_bias", o.shaping.logit_bias);
  visit("ignore_eos", o.shaping.ignore_eos);
  visit("grammar", o.shaping.grammar);
  visit("logits_processor", o.shaping.logits_processor);
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
const char* kind(const std::vector<std::pair<Token, float>>&) { return "pairs of a token and a number"; }
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
void read(const char* name, nb::handle value, Method& out) { out = method_from(cast<std::string>(name, value)); }
void read(const char* name, nb::handle value, Strategy& out) { out = strategy_from(cast<std::string>(name, value)); }
void read(const char* name, nb::handle value, std::shared_ptr<LogitsShaper>& out) {
  if (!PyCallable_Check(value.ptr())) refuse(name, "a callable (input_ids, scores) -> scores", value);
  out = std::make_shared<LogitsProcessor>(nb::borrow<nb::callable>(value));
}
void read(const char* name, nb::handle value, Nodes& out) {
  const bool is_word = nb::isinstance<nb::str>(value);
  out.k = is_word ? (nb::cast<std::string>(value) == "auto" ? kAuto : 0) : cast<int32_t>(name, value);
  if (is_word ? out.k != kAuto : out.k == kAuto) throw std::invalid_argument("draft_nodes must be between 1 and 256, or 'auto', got " + shown(value));
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
  for (const auto [name, _] : left) throw nb::type_error(("there is no option " + shown(name)).c_str());
  if (!has_strategy) options.strategy = default_strategy(options.method);
  options.validate();
  return options;
}

}  // namespace

void bind_options(nb::module_& m) {
  nb::class_<SamplingOptions>(m, "SamplingOptions", "Temperature and truncation, with llama.cpp's meaning and order.")
      .def(
          "__init__",
          [](SamplingOptions* self, float temperature, int32_t top_k, float top_p, float min_p, float typical_p, float xtc_probability,
             float xtc_threshold) {
            new (self) SamplingOptions{temperature, top_k, top_p, min_p, typical_p, xtc_probability, xtc_threshold};
            self->validate();
          },
          "temperature"_a = 1.0f, "top_k"_a = 0, "top_p"_a = 1.0f, "min_p"_a = 0.0f, "typical_p"_a = 1.0f, "xtc_probability"_a = 0.0f,
          "xtc_threshold"_a = 0.1f)
      .def_ro("temperature", &SamplingOptions::temperature)
      .def_ro("top_k", &SamplingOptions::top_k)
      .def_ro("top_p", &SamplingOptions::top_p)
      .def_ro("min_p", &SamplingOptions::min_p);

  nb::class_<GenerationOptions>(m, "GenerationOptions", "Everything one generation is asked to do; see ersd.Options. None is the default.")
      .def(
          "__init__", [](GenerationOptions* self, const nb::kwargs& given) { new (self) GenerationOptions(read_options(given)); },
          nb::sig("def __init__(self, **options: object) -> None"))
      .def_prop_ro("logprobs", [](const GenerationOptions& o) { return o.logprobs < 0 ? std::nullopt : std::optional(o.logprobs); });
}
