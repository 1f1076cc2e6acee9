// Parses the command line into Arguments.
#include "arguments.h"

#include <charconv>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>

namespace ersd::bench {
namespace {

std::vector<std::string> split(const std::string& text, char separator = ',') {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  if (parts.empty()) parts.emplace_back();
  return parts;
}

template <class Number>
Number number(const std::string& option, const std::string& text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw std::invalid_argument(option + " must be a number, got '" + text + "'");
  return value;
}

template <class Value>
std::vector<Value> each(const std::string& text,
                        const std::function<Value(const std::string&)>& parse_one) {
  std::vector<Value> values;
  for (const auto& part : split(text)) values.push_back(parse_one(part));
  return values;
}

// The prompts of a file. Lines that hold only "---" separate them.
std::vector<std::string> read_prompts(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::invalid_argument("-f: cannot read '" + path + "'");
  std::vector<std::string> prompts(1);
  for (std::string line; std::getline(file, line);) {
    if (line == "---")
      prompts.emplace_back();
    else
      prompts.back() += (prompts.back().empty() ? "" : "\n") + line;
  }
  std::erase(prompts, "");
  return prompts;
}

Format format_from(const std::string& name) {
  static const std::map<std::string, Format> kFormats{{"md", Format::kMarkdown},
                                                      {"csv", Format::kCsv},
                                                      {"json", Format::kJson},
                                                      {"jsonl", Format::kJsonLines}};
  if (const auto found = kFormats.find(name); found != kFormats.end()) return found->second;
  throw std::invalid_argument("-o must be one of md, csv, json, jsonl, got '" + name + "'");
}

constexpr int32_t kHistory = 32768;  // tokens, as a Generator has it in Python

DraftSources sources_from_text(const std::string& text) {
  return sources_from(text == "none" ? std::vector<std::string>() : split(text, '+'));
}

// The values that comma lists sweep over.
struct Sweep {
  std::vector<Method> methods{Method::kAr, Method::kErsd};
  std::vector<Strategy> strategies{Strategy::kTree};
  std::vector<DraftSources> sources{{bit(Source::kModel)}};
  std::vector<int32_t> draft_nodes{16};
  std::vector<float> temperatures{1.0f};
};

// Reads the value of an option; the option's name is for messages.
using Reader = std::function<void(const std::string& option, const std::string& value)>;
using Readers = std::map<std::string, Reader>;

Reader integer(int32_t& out) {
  return [&out](const std::string& o, const std::string& v) { out = number<int32_t>(o, v); };
}

Reader real(float& out) {
  return [&out](const std::string& o, const std::string& v) { out = number<float>(o, v); };
}

Reader text(std::string& out) {
  return [&out](const std::string&, const std::string& v) { out = v; };
}

// Options with one value. Only prompts may be given several times.
Readers single_readers(Arguments& a) {
  auto& context = a.generator.context;
  return {
      {"-m", text(a.target)},
      {"-md", text(a.draft)},
      {"-p", [&a](const auto&, const auto& v) { a.prompts.push_back(v); }},
      {"-f",
       [&a](const auto&, const auto& v) {
         for (auto& prompt : read_prompts(v)) a.prompts.push_back(std::move(prompt));
       }},
      {"-n", integer(a.n_gen)},
      {"-r", integer(a.repetitions)},
      {"-s", [&a](const auto& o, const auto& v) { a.seed = number<uint64_t>(o, v); }},
      {"--draft-depth", integer(a.draft_depth)},
      {"--top-k", integer(a.sampling.top_k)},
      {"--top-p", real(a.sampling.top_p)},
      {"--min-p", real(a.sampling.min_p)},
      {"-c", integer(context.n_ctx)},
      {"-t", integer(context.n_threads)},
      {"-ngl", integer(a.generator.model.n_gpu_layers)},
      {"-ngld", integer(a.generator.draft_n_gpu_layers)},
      {"-fa", integer(context.flash_attn)},
      {"-ctk", text(context.type_k)},
      {"-ctv", text(context.type_v)},
      {"-o", [&a](const auto&, const auto& v) { a.format = format_from(v); }},
  };
}

// Options whose value is a comma list.
Readers list_readers(Sweep& sweep) {
  const auto nodes = [](const std::string& o, const std::string& s) {
    return s == "auto" ? kAuto : number<int32_t>(o, s);
  };
  return {
      {"--method",
       [&](const auto&, const auto& v) {
         sweep.methods = each<Method>(v, [](const std::string& s) { return method_from(s); });
       }},
      {"--strategy",
       [&](const auto&, const auto& v) {
         sweep.strategies =
             each<Strategy>(v, [](const std::string& s) { return strategy_from(s); });
       }},
      {"--sources",
       [&](const auto&, const auto& v) {
         sweep.sources = each<DraftSources>(v, sources_from_text);
       }},
      {"-k",
       [&sweep, nodes](const auto& o, const auto& v) {
         sweep.draft_nodes = each<int32_t>(v, [&](const std::string& s) { return nodes(o, s); });
       }},
      {"--temp",
       [&](const auto& o, const auto& v) {
         sweep.temperatures =
             each<float>(v, [&](const std::string& s) { return number<float>(o, s); });
       }},
  };
}

void read_words(const std::vector<std::string>& words, Arguments& a, Sweep& sweep) {
  Readers readers = single_readers(a);
  readers.merge(list_readers(sweep));
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--chat") {
      a.chat = true;
      continue;
    }
    if (words[i] == "--no-adapt-draft") {
      a.adapt_draft = false;
      continue;
    }
    const auto reader = readers.find(words[i]);
    if (reader == readers.end())
      throw std::invalid_argument("unknown option '" + words[i] + "'; ersd-bench -h lists them");
    if (i + 1 == words.size()) throw std::invalid_argument(words[i] + " needs a value");
    reader->second(words[i], words[i + 1]);
    ++i;
  }
}

// Adds one that drafts. Rejection sampling drafts from the model alone.
void add_configuration(const Configuration& configuration, Arguments& a) {
  const DraftSources sources = configuration.sources;
  if (!is_race(configuration.method) && !sources.has(Source::kModel)) return;
  if (sources.has(Source::kModel) && a.draft.empty())
    throw std::invalid_argument(std::string("--method ") + to_string(configuration.method) +
                                " needs a draft: -md, or --sources without model");
  a.generator.drafts |= sources.set != 0;
  if (sources.has(Source::kHistory)) a.generator.n_history = kHistory;
  a.configurations.push_back(configuration);
}

// Adds all configurations of one temperature. The first is plain sampling, the baseline.
void add_configurations(const Sweep& sweep, float temperature, Arguments& a) {
  a.configurations.push_back({Method::kAr, Strategy::kSimple, {0}, 0, temperature});
  for (const Method method : sweep.methods) {
    if (method == Method::kAr) continue;
    // Block verification is for chains, whatever the strategies are.
    const auto strategies =
        method == Method::kBlock ? std::vector{Strategy::kSequence} : sweep.strategies;
    for (const Strategy strategy : strategies) {
      // Rejection sampling has no adaptive trees.
      if (strategy == Strategy::kAdaptive && !is_race(method)) continue;
      for (const DraftSources sources : sweep.sources)
        for (const int32_t k : sweep.draft_nodes)
          add_configuration(
              {method, strategy, sources, strategy == Strategy::kSimple ? 1 : k, temperature}, a);
    }
  }
}

}  // namespace

const char* usage() {
  return "usage: ersd-bench -m TARGET.gguf [-md DRAFT.gguf] [options]\n"
         "\n"
         "Checks that speculation does not change the tokens, then times all methods in turn.\n"
         "A LIST holds values separated by commas; all combinations are run.\n"
         "\n"
         "  -m FILE, -md FILE    target and draft\n"
         "  -p TEXT, -f FILE     a prompt, or a file of prompts separated by lines of ---; both\n"
         "                       may be repeated\n"
         "  --chat               treat each prompt as a user message and apply the target's chat\n"
         "                       template\n"
         "  -n N                 tokens per prompt (64)\n"
         "  -r N                 timed repetitions (3)\n"
         "  -s SEED              seed of the first prompt; each further prompt adds 1 (1)\n"
         "  --method LIST        ar, ersd, gsd, gsd_iid, match, block (ar,ersd)\n"
         "  --strategy LIST      simple, sequence, batch, tree, adaptive (tree); gsd and gsd_iid\n"
         "                       skip adaptive, and block is always run with sequence\n"
         "  --sources LIST       what drafts: names of sources joined by +, or none (model). They "
         "are\n"
         "                       model, lookup, history, which has the answers of earlier runs, "
         "also\n"
         "                       of the same prompts, prediction and grammar, which have nothing "
         "here\n"
         "  -k LIST              drafted nodes per target call; auto: as many as pay (16)\n"
         "  --draft-depth N      longest path of a tree (64)\n"
         "  --no-adapt-draft     ersd: do not correct the draft by what the target says\n"
         "  --temp LIST          temperatures (1.0)\n"
         "  --top-k N, --top-p P, --min-p P\n"
         "                       truncation (none)\n"
         "  -c N, -t N           context length (4096), threads (one per core)\n"
         "  -ngl N, -ngld N      layers of target and draft on the GPU (-1: all)\n"
         "  -fa -1|0|1           flash attention (-1: automatic)\n"
         "  -ctk TYPE, -ctv TYPE types of cached keys and values\n"
         "  -o md|csv|json|jsonl output format (md)\n"
         "\n"
         "The formats other than md have more keys. Those with the name of a source, "
         "accepted_model,\n"
         "accepted_lookup and so on, count accepted tokens; a token of several sources counts for\n"
         "each. drafted_per_call is the mean number of drafted tokens that a target call "
         "checked.\n";
}

Arguments parse(const std::vector<std::string>& words) {
  Arguments a;
  a.generator.n_parallel = 1;  // one text at a time, as with llama-bench
  Sweep sweep;
  read_words(words, a, sweep);
  if (a.target.empty()) throw std::invalid_argument("-m is needed: the target, a GGUF file");
  if (a.n_gen < 1 || a.repetitions < 1) throw std::invalid_argument("-n and -r must be at least 1");
  if (a.prompts.empty()) a.prompts.emplace_back("Once upon a time");
  for (const float temperature : sweep.temperatures) add_configurations(sweep, temperature, a);
  return a;
}

}  // namespace ersd::bench
