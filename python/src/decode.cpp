// Bindings of the room decode: the options of a generation, sequences, and the engine.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <string>

#include "bind.h"
#include "callbacks.h"
#include "ersd/decode/engine.h"
#include "ersd/decode/option_table.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace ersd;

namespace {

std::string repr_of(nb::handle value) { return nb::cast<std::string>(nb::repr(value)); }

[[noreturn]] void refuse_type(const char* name, const char* expected, nb::handle value) {
  throw nb::type_error(
      (std::string(name) + " must be " + expected + ", got " + repr_of(value)).c_str());
}

// What a value of an option's type is called in a message.
constexpr const char* kind(float) { return "a number"; }
constexpr const char* kind(bool) { return "True or False"; }
constexpr const char* kind(int32_t) { return "an int of 32 bits"; }
constexpr const char* kind(uint64_t) { return "an int between 0 and 2**64 - 1"; }
const char* kind(const std::string&) { return "a str"; }
const char* kind(const std::vector<std::string>&) { return "a sequence of str"; }
const char* kind(const std::vector<Token>&) { return "a sequence of tokens"; }
const char* kind(const std::vector<std::vector<Token>>&) { return "sequences of tokens"; }
const char* kind(const std::vector<std::pair<Token, float>>&) {
  return "pairs of a token and a number";
}

template <class T>
T cast(const char* name, nb::handle value) {
  T out{};
  const bool is_misread = !std::is_same_v<T, bool> && nb::isinstance<nb::bool_>(value);
  if (is_misread || !nb::try_cast(value, out)) refuse_type(name, kind(out), value);
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
void read(const char* name, nb::handle value, DraftSources& out) {
  out = sources_from(cast<std::vector<std::string>>(name, value));
}
void read(const char* name, nb::handle value, std::shared_ptr<LogitsProcessor>& out) {
  if (!PyCallable_Check(value.ptr()))
    refuse_type(name, "a callable (input_ids, scores) -> scores", value);
  out = std::make_shared<PythonLogitsProcessor>(nb::borrow<nb::callable>(value));
}

void read(const char* name, nb::handle value, std::shared_ptr<const Grammar>& out) {
  if (!nb::hasattr(value, "start")) refuse_type(name, "an object with a method start()", value);
  out = std::make_shared<PythonGrammar>(nb::borrow(value));
}

// Reads an option that has a special number. A caller writes its word, never the number itself.
template <class Option>
void read_special(const Option& option, nb::handle value, int32_t& out) {
  const char* word = option.special->word;
  const bool is_str = word != nullptr && nb::isinstance<nb::str>(value);
  const bool is_word = is_str && nb::cast<std::string>(value) == word;
  out = is_str ? option.special->number : cast<int32_t>(option.name, value);
  if (is_str ? !is_word : option.is_special(out))
    throw std::invalid_argument(std::string(option.name) + " must be " + option.range.words +
                                ", got " + repr_of(value));
}

// Sets the options that are given. None leaves an option as it is.
template <class Options>
void read_options(const nb::kwargs& given, Options& options) {
  nb::dict left;
  left.update(given);
  for_each_option(options, [&]<class Value>(const auto& option, Value& out) {
    const nb::object value = left.attr("pop")(option.name, nb::none());
    if (value.is_none()) return;
    if constexpr (std::is_same_v<Value, int32_t>)
      if (option.special) return read_special(option, value, out);
    read(option.name, value, out);
  });
  for (const auto [name, _] : left)
    throw nb::type_error(("there is no option " + repr_of(name)).c_str());
}

GenerationOptions generation_options(const nb::kwargs& given) {
  GenerationOptions options;
  read_options(given, options);
  if (!given.contains("strategy") || nb::object(given["strategy"]).is_none())
    options.strategy = default_strategy(options.method);
  options.validate();
  return options;
}

SamplingOptions sampling_options(const nb::kwargs& given) {
  SamplingOptions options = SamplingOptions{.temperature = 1}.without_truncation();
  read_options(given, options);
  check_ranges(options);
  return options;
}

// The default of an option as Python writes it.
nb::object to_python(float value) {
  constexpr double kDecimals = 1e6;  // a float32 such as 0.8f becomes the float64 0.8
  return nb::float_(std::round(value * kDecimals) / kDecimals);
}
nb::object to_python(Method value) { return nb::cast(to_string(value)); }
nb::object to_python(Strategy value) { return nb::cast(to_string(value)); }
nb::object to_python(DraftSources value) { return names_of(value.set); }
nb::object to_python(const std::vector<std::string>& value) { return nb::tuple(nb::cast(value)); }
nb::object to_python(const std::shared_ptr<LogitsProcessor>&) { return nb::none(); }
nb::object to_python(const std::shared_ptr<const Grammar>&) { return nb::none(); }
template <class T>
nb::object to_python(const T& value) {
  return nb::cast(value);
}

// The values that an option may have, in words that follow "must be"; empty for all of its type.
template <class Option, class Value>
std::string range_words(const Option& option, const Value&) {
  if constexpr (std::is_same_v<Value, Method>) return "one of " + method_names();
  if constexpr (std::is_same_v<Value, Strategy>) return "one of " + strategy_names();
  if constexpr (std::is_same_v<Value, DraftSources>) return "of " + source_names();
  return option.range.words;
}

nb::list option_table() {
  nb::list rows;
  const GenerationOptions defaults;
  for_each_option(defaults, [&](const auto& option, const auto& value) {
    const nb::object plain = to_python(value);
    nb::object written = plain;
    if (option.is_special(value))
      written = option.special->word ? nb::cast(option.special->word) : nb::none();
    rows.append(nb::make_tuple(option.name, plain.type(), written, range_words(option, value),
                               option.meaning));
  });
  return rows;
}

void bind_options(nb::module_& m) {
  m.def("option_table", &option_table,
        nb::sig("def option_table() -> list[tuple[str, type, object, str, str]]"),
        "The name, type, default, range and meaning of every option, a row each.");

  nb::class_<SamplingOptions>(m, "SamplingOptions",
                              "Temperature and truncation. Options that are not given stand for "
                              "temperature 1 and no truncation.")
      .def(
          "__init__",
          [](SamplingOptions* self, const nb::kwargs& given) {
            new (self) SamplingOptions(sampling_options(given));
          },
          nb::sig("def __init__(self, **options: object) -> None"))
      .def_ro("temperature", &SamplingOptions::temperature)
      .def_ro("top_k", &SamplingOptions::top_k)
      .def_ro("top_p", &SamplingOptions::top_p)
      .def_ro("min_p", &SamplingOptions::min_p);

  nb::class_<GenerationOptions>(
      m, "GenerationOptions",
      "Everything one generation is asked to do; see ersd.Options. None stands for the default.")
      .def(
          "__init__",
          [](GenerationOptions* self, const nb::kwargs& given) {
            new (self) GenerationOptions(generation_options(given));
          },
          nb::sig("def __init__(self, **options: object) -> None"))
      .def_prop_ro("logprobs", [](const GenerationOptions& o) {
        return o.logprobs < 0 ? std::nullopt : std::optional(o.logprobs);
      });
}

void make_sequence(Sequence* self, const std::vector<Token>& prompt,
                   const GenerationOptions& options, const LanguageModel& target,
                   const LanguageModel* draft) {
  LogitsProcessorList processors;
  if (options.processors.logits_processor) processors.add(options.processors.logits_processor);
  if (options.processors.grammar)
    processors.restrict_to({options.processors.grammar->start(), prompt.size(), target.n_vocab()});
  new (self) Sequence(prompt, options, std::move(processors), target, draft);
}

void bind_sequence(nb::module_& m) {
  nb::class_<Sequence>(m, "Sequence", "One generation under way, for an Engine.")
      .def("__init__", &make_sequence, "prompt"_a, "options"_a, "target"_a, "draft"_a.none(),
           "The logits_processor of the options changes the logits of both models here.")
      .def("set_place", &Sequence::set_place, "place"_a)
      .def_prop_ro("place", &Sequence::place)
      .def("set_limit", &Sequence::set_limit, "limit"_a)
      .def("want_ranks", &Sequence::want_ranks)
      .def_prop_ro("emitted",
                   [](const Sequence& s) {
                     const auto tokens = s.emitted();
                     return std::vector<Token>(tokens.begin(), tokens.end());
                   })
      .def_prop_ro("logprobs",
                   [](const Sequence& s) {
                     const auto all = s.logprobs();
                     return std::vector<TokenLogprob>(all.begin(), all.end());
                   })
      .def_prop_ro("rank", &Sequence::rank)
      .def("target_row", [](const Sequence& s) { return to_numpy(s.target_row()); })
      .def("draft_row", [](const Sequence& s) { return to_numpy(s.draft_row()); })
      .def_prop_ro("failed", [](const Sequence& s) { return s.failure() != nullptr; })
      .def(
          "raise_failure",
          [](const Sequence& s) {
            if (s.failure()) std::rethrow_exception(s.failure());
          },
          "Raises the error that keeps the sequence from going on, if there is one. An error of a "
          "Python function can be raised once.")
      .def_prop_ro("tokens",
                   [](const Sequence& s) {
                     const auto tokens = s.tokens();
                     return std::vector<Token>(tokens.begin(), tokens.end());
                   })
      .def_prop_ro("room", &Sequence::room)
      .def_prop_ro("stats", [](const Sequence& s) { return s.stats(); });
}

void bind_engine(nb::module_& m) {
  nb::class_<Engine>(m, "Engine", "The decoding step of many sequences over two language models.")
      .def(nb::init<LanguageModel&, LanguageModel*, double, int32_t>(), "target"_a,
           "draft"_a.none(), "prompt_share"_a = 0.5, "n_history"_a = 0, nb::keep_alive<1, 2>(),
           nb::keep_alive<1, 3>())
      .def("begin", &Engine::begin, "sequence"_a)
      .def(
          "step",
          [](Engine& engine, const std::vector<Sequence*>& sequences) { engine.step(sequences); },
          "sequences"_a)
      .def("shift", &Engine::shift, "sequence"_a, "keep"_a)
      .def("end", &Engine::end, "sequence"_a)
      .def("forget", &Engine::forget)
      .def_prop_ro("measured", &Engine::measured)
      .def_prop_ro("n_measurements", &Engine::n_measurements)
      .def("must_measure", &Engine::must_measure)
      .def("measure", &Engine::measure)
      .def("profile", &Engine::profile)
      .def("restore", &Engine::restore, "profile"_a)
      .def("forecast", &Engine::forecast)
      .def_prop_ro("histogram", [](const Engine& e) { return e.histogram(); })
      .def_prop_ro("margins", [](const Engine& e) { return e.margins(); });
}

}  // namespace

void bind_decode(nb::module_& m) {
  bind_options(m);
  bind_sequence(m);
  bind_engine(m);
}
