// Loading of models, and the choice between exact contexts and llama.cpp's own.
#include "ersd/model_pair.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "ersd/check.h"
#include "ersd/model/width_test.h"

namespace ersd {
namespace {

// Tokens in the cache when the test of widths runs again: llama.cpp's attention has paths that
// begin at 512.
constexpr int32_t kLongCache = 1024;

// Paddings that are tried where widths differ, cheap ones first. llama.cpp's CPU kernels take 2, 4
// or 8 rows at a time. On an H100, calls of 9 to 48 tokens were alike, and of few others.
constexpr std::array<CallWidths, 4> kPaddings{{{2, 0}, {4, 0}, {8, 0}, {16, 48}}};

// Drafted nodes of a call for which memory is taken when models are loaded: so many for each
// request, and enough for the widest call of the test of widths. A row of logits of a vocabulary of
// 262,144 tokens has a megabyte, on the host and on a GPU.
constexpr int32_t kNodesEach = 16, kLeastNodes = 64;

constexpr int32_t kMaxDefaultCtx = 4096;  // limit of the context length that a model chooses

// Each running request has a place, and as many places keep the texts of earlier requests.
// llama.cpp has 256 sequences, and those that are no place are needed for trees.
constexpr int32_t kMaxParallel = 64;

}  // namespace

void GeneratorOptions::validate() const {
  if (n_keep < -1) refuse("n_keep", "at least 0, or -1 for the whole prompt", n_keep);
  check_between("n_parallel", n_parallel, 1, kMaxParallel);
  if (!(prompt_share >= 0 && prompt_share < 1))
    refuse("prompt_share", "at least 0 and less than 1", prompt_share);
  if (n_history < 0) refuse("n_history", "at least 0", n_history);
}

ModelPair::ModelPair(const std::string& target_path, const std::string& draft_path,
                     const GeneratorOptions& options, const std::function<bool()>& interrupted)
    : target_((options.validate(), target_path), options.model) {
  llama::ContextOptions context = context_options(options);
  if (!draft_path.empty()) load_draft(draft_path, options);
  make_target_context(options, context, interrupted);
  if (draft_) {
    context.exact = context.ordered_cells = false;         // a draft may differ in its last bits
    context.own_attention = options.exact.value_or(true);  // exact=False asks for llama.cpp's
    context.rope = {};                                     // which is the target's
    context.whole_trees = false;
    draft_context_ = std::make_unique<llama::Context>(*draft_, context, interrupted);
  }
  // Flash attention on a CPU, which exact contexts have too, skips the cells of other places.
  const bool flash = options.context.flash_attn == 1;
  const auto keeps = [&](const llama::Model& model, bool skips) {
    return skips && (!model.on_gpu() || !options.context.offload_kqv);
  };
  place_options_.target_keeps =
      keeps(target_, flash || exactness_.holds || target_context_->owns_attention());
  place_options_.draft_keeps = draft_ && keeps(*draft_, flash || draft_context_->owns_attention());
}

// Sizes of both contexts. A request whose prompt is new need not drop the text of an earlier one,
// if the cache can share tokens between places. With one request at a time there is one place, as
// in llama.cpp's own programs.
llama::ContextOptions ModelPair::context_options(const GeneratorOptions& options) {
  llama::ContextOptions context = options.context;
  if (context.n_ctx == 0) context.n_ctx = std::min(target_.n_ctx_train(), kMaxDefaultCtx);
  if (options.n_ctx_total != 0 && options.n_ctx_total < context.n_ctx)
    refuse("n_ctx_total", "0 or at least n_ctx, which is " + std::to_string(context.n_ctx),
           options.n_ctx_total);
  place_options_.n_cells = options.n_ctx_total == 0 ? context.n_ctx : options.n_ctx_total;
  // A recurrent or hybrid model has a state and cells for each place, which no other place can use.
  if (!target_.can_branch())
    place_options_.n_cells = std::max(place_options_.n_cells, options.n_parallel * context.n_ctx);
  context.max_nodes = std::clamp(kNodesEach * options.n_parallel, kLeastNodes, kMaxDraftNodes);
  const bool keeps_texts = options.n_parallel > 1 && target_.can_branch();
  context.n_ctx_total = place_options_.n_cells;
  context.n_sequences = keeps_texts ? 2 * options.n_parallel : options.n_parallel;
  return context;
}

// Makes a context that is exact if that is wanted and can be, and says in exactness_ what came of
// it. An exact context that fails the test of widths is given up, since its cache is slower.
void ModelPair::make_target_context(const GeneratorOptions& options, llama::ContextOptions context,
                                    const std::function<bool()>& interrupted) {
  context.exact = options.exact.value_or(draft_ || options.drafts);
  context.own_attention = context.exact;
  context.ordered_cells = options.exact.value_or(true);
  // The test of widths makes trees too.
  if (!draft_ && !options.drafts && !context.exact) context.max_nodes = 0;
  context.lean_window = !draft_;  // texts propose chains mostly
  const bool is_known_to_differ = options.widths.differs.value_or(0) != 0;
  const bool gives_up = context.exact && !options.exact && is_known_to_differ;
  if (!gives_up) target_context_ = std::make_unique<llama::Context>(target_, context, interrupted);
  if (!context.exact) {
    exactness_.reason =
        options.exact ? "exact=False was given" : "nothing drafts, so the cache is llama.cpp's own";
    return;
  }
  widths_ = options.widths;
  if (!widths_.differs) widths_.differs = find_width_that_differs(*target_context_, kLongCache);
  if (*widths_.differs == 0) {
    exactness_ = {true, "calls of one and of several tokens give the same logits"};
    return;
  }
  exactness_.reason = "'" + target_.path() + "' (" + target_.description() +
                      ") gives other logits in calls of " + std::to_string(*widths_.differs) +
                      " tokens than in calls of one";
  if (options.exact && pad_target_context(options.n_parallel)) return;
  if (options.exact)
    throw std::invalid_argument("exact=True cannot hold: " + exactness_.reason +
                                ", and padding its calls does not help. On a CPU, a file in Q8_0 "
                                "or Q4_0 without an adapter gives the same (ersd quantize makes "
                                "one)");
  context.exact = false;
  target_context_.reset();
  target_context_ = std::make_unique<llama::Context>(target_, context, interrupted);
}

// Pads the target's calls so that all of them give the same logits. Returns false if no padding
// does that.
bool ModelPair::pad_target_context(int32_t n_parallel) {
  if (!target_.can_branch()) return false;  // padding needs a sequence in the same call
  for (const CallWidths& padding : kPaddings) {
    const int32_t n = padding.step;
    if (widths_.padding && n != *widths_.padding) continue;
    target_context_->set_widths(padding);
    if (!widths_.padding && find_width_that_differs(*target_context_, kLongCache) != 0) continue;
    widths_.padding = n;
    const std::string limit = padding.most == 0 ? "" : " up to " + std::to_string(padding.most);
    if (padding.most > 0 && 2 * n_parallel > padding.most)
      refuse("n_parallel",
             "at most " + std::to_string(padding.most / 2) +
                 " with exact=True, as calls have multiples of " + std::to_string(n) + " tokens" +
                 limit + " here",
             n_parallel);
    exactness_ = {true, exactness_.reason + ", so every call is padded to a multiple of " +
                            std::to_string(n) + " tokens" + limit};
    return true;
  }
  widths_.padding = 0;
  return false;
}

void ModelPair::load_draft(const std::string& path, const GeneratorOptions& options) {
  llama::ModelOptions model_options = options.model;
  model_options.n_gpu_layers = options.draft_n_gpu_layers;
  model_options.lora_path.clear();
  model_options.kv_overrides.clear();
  model_options.rpc_servers.clear();  // its calls are too short for a network
  draft_.emplace(path, model_options);
  llama::check_same_vocabulary(target_, *draft_);
}

void ModelPair::check_prompt(const std::vector<Token>& prompt) const {
  if (prompt.empty())
    throw std::invalid_argument("the prompt is empty, expected at least one token");
  if (prompt.size() >= static_cast<size_t>(n_ctx()))
    throw std::invalid_argument("the prompt has " + std::to_string(prompt.size()) +
                                " tokens, the context of " + std::to_string(n_ctx()) +
                                " (n_ctx) has room for " + std::to_string(n_ctx() - 1) +
                                " and one to generate");
  for (const Token token : prompt) check_between("prompt tokens", token, 0, target_.n_vocab() - 1);
}

}  // namespace ersd
