// ersd-bench: checks that speculation does not change the tokens, then times all methods in turn.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <exception>
#include <iostream>
#include <numeric>

#include "arguments.h"
#include "ersd/llama/backend.h"
#include "report.h"

#ifdef _WIN32
#include <io.h>
#define isatty _isatty
#define fileno _fileno
#else
#include <unistd.h>
#endif

namespace ersd::bench {
namespace {

struct Answer {
  std::vector<Token> tokens;
  Stats stats;
};

Answer generate(Generator& generator, const std::vector<Token>& prompt,
                const GenerationOptions& options) {
  Answer answer;
  const auto request = generator.submit(prompt, options);
  while (const auto step = generator.next(*request))
    answer.tokens.insert(answer.tokens.end(), step->tokens.begin(), step->tokens.end());
  answer.stats = request->stats();
  return answer;
}

// The results of one configuration over all prompts.
struct Outcome {
  bool identical = true;
  std::vector<double> speeds;  // tokens per second of each repetition
  int64_t generated = 0, target_calls = 0, drafted = 0, accepted = 0;
  std::array<int64_t, kSourceCount> accepted_by{};
  double prefill_ms = 0, target_ms = 0, draft_ms = 0, race_ms = 0, total_ms = 0;

  void add(const Stats& s) {
    generated += s.generated;
    target_calls += s.target_calls;
    drafted += s.drafted;
    accepted += s.accepted;
    for (size_t i = 0; i < kSourceCount; ++i) accepted_by[i] += s.accepted_by[i];
    prefill_ms += s.prefill_ms;
    target_ms += s.target_ms;
    draft_ms += s.draft_ms;
    race_ms += s.race_ms;
    total_ms += s.total_ms;
  }
};

double mean(const std::vector<double>& x) {
  return x.empty() ? 0 : std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

// The amount divided by n, or by 1 if n is 0.
double per(auto amount, int64_t n) {
  return static_cast<double>(amount) / static_cast<double>(std::max<int64_t>(n, 1));
}

// The sample standard deviation.
double deviation(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += (v - mean(x)) * (v - mean(x));
  return x.size() < 2 ? 0 : std::sqrt(sum / static_cast<double>(x.size() - 1));
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&time));
  return text.data();
}

std::string names(DraftSources sources) {
  std::string text;
  for (size_t i = 0; i < kSourceCount; ++i)
    if (const auto source = static_cast<Source>(i); sources.has(source)) {
      if (!text.empty()) text += '+';
      text += to_string(source);
    }
  return text.empty() ? "none" : text;
}

std::string joined_devices(bool gpu) {
  std::string text;
  for (const auto& device : llama::devices())
    if (device.gpu == gpu) text += (text.empty() ? "" : ", ") + device.description;
  return text;
}

class Benchmark {
 public:
  explicit Benchmark(const Arguments& arguments)
      : args_(arguments), generator_(args_.target, args_.draft, args_.generator) {
    for (const auto& prompt : args_.prompts)
      prompts_.push_back(generator_.models().target().tokenize(
          args_.chat ? generator_.models().target().chat_prompt(prompt) : prompt, true, true));
    outcomes_.resize(args_.configurations.size());
  }

  // Returns whether all races gave the tokens of plain sampling.
  bool run(Report& report) {
    check_tokens();
    for (int32_t r = 0; r < args_.repetitions; ++r)
      for (size_t c = 0; c < outcomes_.size(); ++c) time_prompts(c, r);
    if (terminal_) std::fprintf(stderr, "\r%40s\r", "");
    report.begin();
    bool identical = true;
    for (size_t c = 0; c < outcomes_.size(); ++c) {
      report.add(row(c));
      identical &= outcomes_[c].identical;
    }
    report.end();
    return identical;
  }

 private:
  GenerationOptions options(size_t c, size_t prompt) const {
    const Configuration& config = args_.configurations[c];
    GenerationOptions o;
    o.max_tokens = args_.n_gen;
    o.sampling = args_.sampling;
    o.sampling.temperature = config.temperature;
    o.seed = args_.seed + prompt;
    o.method = config.method;
    o.strategy = config.strategy;
    o.draft_sources = config.sources;
    if (drafts(c)) o.draft_nodes = config.draft_nodes;
    o.draft_depth = args_.draft_depth;
    o.adapt_draft = args_.adapt_draft;
    return o;
  }

  void check_tokens() {
    size_t differing = 0;
    for (size_t p = 0; p < prompts_.size(); ++p) {
      std::vector<Token> plain;
      for (size_t c = 0; c < outcomes_.size(); ++c) {
        progress("checking", p * outcomes_.size() + c, prompts_.size() * outcomes_.size());
        const Answer answer = generate(generator_, prompts_[p], options(c, p));
        if (args_.configurations[c].method == Method::kAr) plain = answer.tokens;
        if (is_race(args_.configurations[c].method) && answer.tokens != plain) {
          outcomes_[c].identical = false;
          ++differing;
        }
      }
    }
    if (differing == 0)
      std::fprintf(stderr, "%ssame tokens as ar: every configuration of races, %zu prompts\n",
                   terminal_ ? "\r" : "", prompts_.size());
    else
      std::fprintf(stderr, "%sNOT the same tokens as ar: %zu of %zu answers differ\n",
                   terminal_ ? "\r" : "", differing, prompts_.size() * outcomes_.size());
  }

  void time_prompts(size_t c, int32_t repetition) {
    progress("timing", static_cast<size_t>(repetition) * outcomes_.size() + c,
             static_cast<size_t>(args_.repetitions) * outcomes_.size());
    double tokens = 0, ms = 0;
    for (size_t p = 0; p < prompts_.size(); ++p) {
      const Stats stats = generate(generator_, prompts_[p], options(c, p)).stats;
      outcomes_[c].add(stats);
      tokens += static_cast<double>(stats.generated);
      ms += stats.total_ms - stats.prefill_ms;
    }
    outcomes_[c].speeds.push_back(ms > 0 ? tokens / ms * 1000 : 0);
  }

  void progress(const char* what, size_t done, size_t all) const {
    if (terminal_) std::fprintf(stderr, "\r%s %zu/%zu ", what, done + 1, all);
  }

  Row row(size_t c) const {
    Row row = environment_keys(c);
    for (const auto& keys : {configuration_keys(c), result_keys(c), source_keys(c)})
      row.insert(row.end(), keys.begin(), keys.end());
    return row;
  }

  // Accepted tokens by source.
  Row source_keys(size_t c) const {
    Row keys;
    for (size_t i = 0; i < kSourceCount; ++i)
      keys.emplace_back(std::string("accepted_") + to_string(static_cast<Source>(i)),
                        outcomes_[c].accepted_by[i]);
    return keys;
  }

  bool drafts(size_t c) const { return args_.configurations[c].method != Method::kAr; }
  bool uses_model(size_t c) const {
    return drafts(c) && args_.configurations[c].sources.has(Source::kModel);
  }

  // The keys that say what ran where, most of them with llama-bench's names.
  Row environment_keys(size_t c) const {
    const llama::Model& target = generator_.models().target();
    return {
        {"build_commit", std::string(ERSD_COMMIT)},
        {"cpu_info", joined_devices(false)},
        {"gpu_info", joined_devices(true)},
        {"model_filename", target.path()},
        {"model_type", target.description()},
        {"model_size", static_cast<int64_t>(target.size())},
        {"model_n_params", static_cast<int64_t>(target.n_params())},
        {"draft_filename", uses_model(c) ? generator_.models().draft()->path() : std::string()},
        {"n_threads", int64_t{generator_.n_threads()}},
        {"n_gpu_layers", int64_t{args_.generator.model.n_gpu_layers}},
        {"draft_n_gpu_layers", int64_t{args_.generator.draft_n_gpu_layers}},
        {"n_prompts", static_cast<int64_t>(prompts_.size())},
        {"n_gen", int64_t{args_.n_gen}},
        {"repetitions", int64_t{args_.repetitions}},
        {"test_time", now()},
    };
  }

  Row configuration_keys(size_t c) const {
    const Configuration& config = args_.configurations[c];
    const bool automatic = drafts(c) && config.draft_nodes == kAuto;
    return {
        {"method", std::string(to_string(config.method))},
        {"strategy", std::string(drafts(c) ? to_string(config.strategy) : "-")},
        {"sources", drafts(c) ? names(config.sources) : std::string("-")},
        {"draft_nodes",
         automatic ? Value(std::string("auto")) : Value(int64_t{config.draft_nodes})},
        {"temperature", std::round(config.temperature * 1e6) / 1e6},  // 0.6f is not 0.6
        {"top_k", int64_t{args_.sampling.top_k}},
        {"top_p", double{args_.sampling.top_p}},
        {"min_p", double{args_.sampling.min_p}},
    };
  }

  Row result_keys(size_t c) const {
    const Outcome& o = outcomes_[c];
    const std::vector<double> ratios = ratios_to_ar(c);
    const double rest_ms = o.total_ms - o.prefill_ms - o.target_ms - o.draft_ms - o.race_ms;
    return {
        {"identical", is_race(args_.configurations[c].method) ? Value(o.identical) : Value()},
        {"tokens_per_call", per(o.generated, o.target_calls)},
        {"acceptance_rate", per(o.accepted, o.drafted)},
        {"drafted_per_call", per(o.drafted, o.target_calls)},
        {"avg_ts", mean(o.speeds)},
        {"stddev_ts", deviation(o.speeds)},
        {"ratio_to_ar", mean(ratios)},
        {"stddev_ratio", deviation(ratios)},
        {"target_ms", per(o.target_ms, o.generated)},
        {"draft_ms", per(o.draft_ms, o.generated)},
        {"race_ms", per(o.race_ms, o.generated)},
        {"rest_ms", per(rest_ms, o.generated)},
    };
  }

  // Each repetition's speed divided by that of plain sampling, f64[repetitions].
  std::vector<double> ratios_to_ar(size_t c) const {
    size_t baseline = c;
    while (drafts(baseline)) --baseline;
    std::vector<double> ratios;
    for (size_t r = 0; r < outcomes_[c].speeds.size(); ++r)
      ratios.push_back(outcomes_[c].speeds[r] / outcomes_[baseline].speeds[r]);
    return ratios;
  }

  const Arguments& args_;
  Generator generator_;
  std::vector<std::vector<Token>> prompts_;
  std::vector<Outcome> outcomes_;
  bool terminal_ = isatty(fileno(stderr)) != 0;
};

}  // namespace
}  // namespace ersd::bench

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty() || words[0] == "-h" || words[0] == "--help") {
    std::fputs(ersd::bench::usage(), stdout);
    return words.empty() ? 2 : 0;
  }
  try {
    const auto arguments = ersd::bench::parse(words);
    ersd::bench::Report report(arguments.format, std::cout);
    return ersd::bench::Benchmark(arguments).run(report) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ersd-bench: %s\n", error.what());
    return 2;
  }
}
