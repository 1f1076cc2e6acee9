// Words of the command line to Arguments.
#include "arguments.h"

#include <charconv>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>

namespace ersd::bench {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
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

// A file of prompts, set apart by lines that hold only "---".
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

}  // namespace

const char* usage() {
  return "usage: ersd-bench -m TARGET.gguf [-md DRAFT.gguf] [options]\n"
         "\n"
         "Checks that speculated tokens equal plain ones, then times all methods in turn. Comma "
         "lists sweep.\n"
         "\n"
         "  -m FILE, -md FILE    target and draft\n"
         "  -p TEXT, -f FILE     a prompt; a file of prompts set apart by lines of ---; both may "
         "be repeated\n"
         "  --chat               each prompt is a user's message, put into the target's chat "
         "template\n"
         "  -n N                 tokens per prompt (64)\n"
         "  -r N                 timed repetitions (3)\n"
         "  -s SEED              seed of the first prompt; each further one takes the next (1)\n"
         "  --method LIST        ar, ersd, gsd, gsd_iid, match (ar,ersd)\n"
         "  --strategy LIST      simple, sequence, batch, tree, adaptive; the last not for gsd "
         "(tree)\n"
         "  -k LIST              drafted nodes per target call; auto: as many as pay (16)\n"
         "  --draft-depth N      longest path of a tree (64)\n"
         "  --no-adapt-draft     ersd: the draft does not correct itself by what the target says\n"
         "  --temp LIST          temperatures (1.0)\n"
         "  --top-k N, --top-p P, --min-p P    truncation (none)\n"
         "  -c N, -t N           context (4096), threads (one per core)\n"
         "  -ngl N, -ngld N      layers of target and draft on the GPU (-1: all)\n"
         "  -fa -1|0|1           flash attention (-1: automatic)\n"
         "  -ctk TYPE, -ctv TYPE types of cached keys and values\n"
         "  -o md|csv|json|jsonl output (md)\n";
}

Arguments parse(const std::vector<std::string>& words) {
  Arguments a;
  std::vector<Method> methods{Method::kAr, Method::kErsd};
  std::vector<Strategy> strategies{Strategy::kTree};
  std::vector<int32_t> ks{16};
  std::vector<float> temperatures{1.0f};
  auto& context = a.models.context;
  const auto integer = [](int32_t& out) {
    return [&out](const std::string& o, const std::string& v) { out = number<int32_t>(o, v); };
  };
  const auto real = [](float& out) {
    return [&out](const std::string& o, const std::string& v) { out = number<float>(o, v); };
  };
  const auto text = [](std::string& out) {
    return [&out](const std::string&, const std::string& v) { out = v; };
  };

  const std::map<std::string, std::function<void(const std::string&, const std::string&)>> options{
      {"-m", text(a.target)},
      {"-md", text(a.draft)},
      {"-p", [&](const auto&, const auto& v) { a.prompts.push_back(v); }},
      {"-f",
       [&](const auto&, const auto& v) {
         for (auto& p : read_prompts(v)) a.prompts.push_back(std::move(p));
       }},
      {"-n", integer(a.n_gen)},
      {"-r", integer(a.repetitions)},
      {"-s", [&](const auto& o, const auto& v) { a.seed = number<uint64_t>(o, v); }},
      {"--method",
       [&](const auto&, const auto& v) {
         methods = each<Method>(v, [](const std::string& s) { return method_from(s); });
       }},
      {"--strategy",
       [&](const auto&, const auto& v) {
         strategies = each<Strategy>(v, [](const std::string& s) { return strategy_from(s); });
       }},
      {"-k",
       [&](const auto& o, const auto& v) {
         ks = each<int32_t>(
             v, [&](const std::string& s) { return s == "auto" ? kAuto : number<int32_t>(o, s); });
       }},
      {"--draft-depth", integer(a.draft_depth)},
      {"--temp",
       [&](const auto& o, const auto& v) {
         temperatures = each<float>(v, [&](const std::string& s) { return number<float>(o, s); });
       }},
      {"--top-k", integer(a.sampling.top_k)},
      {"--top-p", real(a.sampling.top_p)},
      {"--min-p", real(a.sampling.min_p)},
      {"-c", integer(context.n_ctx)},
      {"-t", integer(context.n_threads)},
      {"-ngl", integer(a.models.target.n_gpu_layers)},
      {"-ngld", integer(a.models.draft.n_gpu_layers)},
      {"-fa", integer(context.flash_attn)},
      {"-ctk", text(context.type_k)},
      {"-ctv", text(context.type_v)},
      {"-o", [&](const auto&, const auto& v) { a.format = format_from(v); }},
  };
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--chat") {
      a.chat = true;
      continue;
    }
    if (words[i] == "--no-adapt-draft") {
      a.adapt_draft = false;
      continue;
    }
    const auto option = options.find(words[i]);
    if (option == options.end())
      throw std::invalid_argument("unknown option '" + words[i] + "'; ersd-bench -h lists them");
    if (i + 1 == words.size()) throw std::invalid_argument(words[i] + " needs a value");
    option->second(words[i], words[i + 1]);
    ++i;
  }
  if (a.target.empty()) throw std::invalid_argument("-m is needed: the target, a GGUF file");
  if (a.n_gen < 1 || a.repetitions < 1) throw std::invalid_argument("-n and -r must be at least 1");
  if (a.prompts.empty()) a.prompts.emplace_back("Once upon a time");

  for (const float temperature : temperatures) {
    a.configurations.push_back(
        {Method::kAr, Strategy::kSimple, 0, temperature});  // the baseline is always there
    for (const Method method : methods) {
      if (method == Method::kAr) continue;
      if (a.draft.empty())
        throw std::invalid_argument(std::string("--method ") + to_string(method) +
                                    " needs a draft: -md");
      for (const Strategy strategy : strategies)
        for (const int32_t k : ks)
          if (strategy != Strategy::kAdaptive ||
              is_race(method))  // rejection sampling has no adaptive trees
            a.configurations.push_back(
                {method, strategy, strategy == Strategy::kSimple ? 1 : k, temperature});
    }
  }
  return a;
}

}  // namespace ersd::bench
