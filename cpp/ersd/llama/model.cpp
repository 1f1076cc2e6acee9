// Loading, vocabulary and requantisation of models.
#include "ersd/llama/model.h"

#include <llama.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <utility>

#include "ersd/check.h"
#include "ersd/llama/backend.h"
#include "ersd/llama/device_memory.h"

namespace ersd::llama {
namespace {

constexpr int32_t kMaxPadding = 128;  // padding tokens by which vocabularies may differ in size

llama_model_params model_params(const ModelOptions& options) {
  llama_model_params params = llama_model_default_params();
  params.n_gpu_layers = options.n_gpu_layers;
  params.main_gpu = options.main_gpu;
  params.split_mode = static_cast<llama_split_mode>(options.split_mode);
  params.load_mode = options.use_mlock
                         ? (options.use_mmap ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MLOCK)
                         : (options.use_mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE);
  return params;
}

// The shares of all devices that llama.cpp could use, f32[llama_max_devices()].
std::vector<float> padded_split(std::vector<float> tensor_split) {
  const size_t n = llama_max_devices();
  if (tensor_split.size() > n)
    throw std::invalid_argument("tensor_split must have at most " + std::to_string(n) +
                                " shares, got " + std::to_string(tensor_split.size()));
  tensor_split.resize(n);
  return tensor_split;
}

// llama.cpp's form of the overrides. It ends with an empty key.
std::vector<llama_model_kv_override> overrides(const std::vector<KvOverride>& given) {
  std::vector<llama_model_kv_override> all(given.size() + 1);
  for (size_t i = 0; i < given.size(); ++i) {
    const auto& [key, value] = given[i];
    const auto copy = [&](const char* what, const std::string& text, std::span<char> room) {
      if (text.size() >= room.size())
        throw std::invalid_argument("kv_overrides: a " + std::string(what) +
                                    " must be shorter than " + std::to_string(room.size()) +
                                    " bytes, got '" + text + "'");
      std::ranges::copy(text, room.begin());
    };
    copy("key", key, all[i].key);
    if (const auto* flag = std::get_if<bool>(&value)) {
      all[i].tag = LLAMA_KV_OVERRIDE_TYPE_BOOL;
      all[i].val_bool = *flag;
    } else if (const auto* number = std::get_if<int64_t>(&value)) {
      all[i].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
      all[i].val_i64 = *number;
    } else if (const auto* real = std::get_if<double>(&value)) {
      all[i].tag = LLAMA_KV_OVERRIDE_TYPE_FLOAT;
      all[i].val_f64 = *real;
    } else {
      all[i].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
      copy("text", std::get<std::string>(value), all[i].val_str);
    }
  }
  return all;
}

}  // namespace

void Model::Free::operator()(llama_model* model) const { llama_model_free(model); }

Model::Owned Model::load(const std::string& path, const ModelOptions& options,
                         bool without_weights) {
  llama_model_params params = model_params(options);
  const std::vector<float> split = padded_split(options.tensor_split);
  if (!options.tensor_split.empty()) params.tensor_split = split.data();
  const auto kv_overrides = overrides(options.kv_overrides);
  if (!options.kv_overrides.empty()) params.kv_overrides = kv_overrides.data();
  params.vocab_only = options.vocab_only;
  std::vector<ggml_backend_dev_t> devices = devices_with(options.rpc_servers);
  if (has_rpc()) params.devices = devices.data();  // otherwise llama.cpp chooses
  params.no_alloc = without_weights;
  if (without_weights) params.load_mode = LLAMA_LOAD_MODE_NONE;
  return Owned(llama_model_load_from_file(path.c_str(), params));
}

Model::Model(const std::string& path, const ModelOptions& options)
    : path_(path), options_(options) {
  init_backend();
  check_gguf(path, GgufKind::kModel);
  check_weights_fit(path, options);
  clear_error();
  model_ = load(path, options, false);
  if (!model_) {
    const std::string reason = error_suffix();
    throw std::runtime_error("llama.cpp could not load '" + path + "'" + reason +
                             needs_of_weights(path, options));
  }
  vocab_ = llama_model_get_vocab(model_.get());
  on_gpu_ = options.n_gpu_layers != 0 && devices_with(options.rpc_servers).size() > 1;
  if (llama_vocab_type(vocab_) == LLAMA_VOCAB_TYPE_NONE)
    throw std::invalid_argument("'" + path + "' has no vocabulary, expected a text model");
  const bool generates = llama_model_has_decoder(model_.get()) &&
                         !llama_model_has_encoder(model_.get()) &&
                         !llama_model_is_diffusion(model_.get());
  if (!generates && !options.any_kind)
    throw std::invalid_argument(
        "'" + path + "' (" + architecture() +
        ") does not generate text from left to right, expected a decoder-only model");
  if (!options.lora_path.empty()) load_lora(options);
}

void Model::load_lora(const ModelOptions& options) {
  if (!std::isfinite(options.lora_scale))
    throw std::invalid_argument("lora_scale must be finite, got " +
                                std::to_string(options.lora_scale));
  check_gguf(options.lora_path, GgufKind::kAdapter);
  clear_error();
  lora_ = llama_adapter_lora_init(model_.get(), options.lora_path.c_str());
  lora_scale_ = options.lora_scale;
  if (!lora_)
    throw std::invalid_argument("'" + options.lora_path + "' is not a LoRA adapter for '" + path_ +
                                "'" + error_suffix());
}

std::string Model::description() const {
  std::array<char, 256> text{};
  llama_model_desc(model_.get(), text.data(), text.size());
  return text.data();
}

std::string Model::metadata(const std::string& key) const {
  std::string text(256, '\0');
  const int32_t n = llama_model_meta_val_str(model_.get(), key.c_str(), text.data(), text.size());
  if (n < 0) return {};
  if (static_cast<size_t>(n) >= text.size()) {
    text.resize(static_cast<size_t>(n) + 1);
    llama_model_meta_val_str(model_.get(), key.c_str(), text.data(), text.size());
  }
  text.resize(static_cast<size_t>(n));
  return text;
}

std::string Model::architecture() const { return metadata("general.architecture"); }
int32_t Model::n_vocab() const { return llama_vocab_n_tokens(vocab_); }
int32_t Model::n_ctx_train() const { return llama_model_n_ctx_train(model_.get()); }
uint64_t Model::n_params() const { return llama_model_n_params(model_.get()); }
uint64_t Model::size() const { return llama_model_size(model_.get()); }
bool Model::can_branch() const {
  return !llama_model_is_recurrent(model_.get()) && !llama_model_is_hybrid(model_.get());
}
bool Model::is_end(Token token) const { return llama_vocab_is_eog(vocab_, token); }
Token Model::bos() const { return llama_vocab_bos(vocab_); }
Token Model::eos() const { return llama_vocab_eos(vocab_); }
std::array<Token, 3> Model::fim() const {
  return {llama_vocab_fim_pre(vocab_), llama_vocab_fim_suf(vocab_), llama_vocab_fim_mid(vocab_)};
}

std::string Model::chat_prompt(const std::string& message) const {
  const llama_chat_message user{"user", message.c_str()};
  std::string text(2 * message.size() + 1024, '\0');
  const char* chat_template = llama_model_chat_template(model_.get(), nullptr);
  const int32_t n = chat_template
                        ? llama_chat_apply_template(chat_template, &user, 1, true, text.data(),
                                                    static_cast<int32_t>(text.size()))
                        : -1;
  if (n < 0 || static_cast<size_t>(n) > text.size())
    throw std::runtime_error("'" + path_ + "' has no chat template that llama.cpp knows");
  text.resize(static_cast<size_t>(n));
  return text;
}

std::vector<Token> Model::tokenize(const std::string& text, bool add_special,
                                   bool parse_special) const {
  std::vector<Token> tokens(text.size() + 8);
  const auto fill = [&] {
    return llama_tokenize(vocab_, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                          static_cast<int32_t>(tokens.size()), add_special, parse_special);
  };
  clear_error();
  int32_t n = fill();
  if (n < 0 && n != INT32_MIN) {  // -n is the size that is needed; INT32_MIN is an overflow
    tokens.resize(static_cast<size_t>(-n));
    n = fill();
  }
  if (n < 0)
    throw std::runtime_error("llama.cpp could not tokenise a text of " +
                             std::to_string(text.size()) + " bytes" + error_suffix());
  tokens.resize(static_cast<size_t>(n));
  return tokens;
}

std::string Model::piece(Token token, bool special) const {
  check_between("token", token, 0, n_vocab() - 1);
  std::string text(32, '\0');
  int32_t n = llama_token_to_piece(vocab_, token, text.data(), static_cast<int32_t>(text.size()), 0,
                                   special);
  if (n < 0) {
    text.resize(static_cast<size_t>(-n));
    n = llama_token_to_piece(vocab_, token, text.data(), static_cast<int32_t>(text.size()), 0,
                             special);
  }
  text.resize(static_cast<size_t>(std::max(n, 0)));
  return text;
}

std::span<const uint8_t> Model::piece_lengths() const {
  std::call_once(piece_lengths_->computed, [this] {
    for (Token token = 0; token < n_vocab(); ++token)
      piece_lengths_->bytes.push_back(
          static_cast<uint8_t>(std::min<size_t>(piece(token).size(), UINT8_MAX)));
  });
  return piece_lengths_->bytes;
}

void check_same_vocabulary(const Model& target, const Model& draft) {
  const auto differ = [&](const std::string& difference) {
    throw std::invalid_argument("the draft '" + draft.path() +
                                "' does not share the vocabulary of the target '" + target.path() +
                                "': " + difference);
  };
  const auto *t = llama_model_get_vocab(target.get()), *d = llama_model_get_vocab(draft.get());
  const int32_t common = std::min(target.n_vocab(), draft.n_vocab());
  for (int32_t token = 0; token < common; ++token) {
    const std::string in_target = llama_vocab_get_text(t, token),
                      in_draft = llama_vocab_get_text(d, token);
    if (in_target != in_draft)
      differ("token " + std::to_string(token) + " is '" + in_target + "' in the target and '" +
             in_draft + "' in the draft");
  }
  if (std::abs(target.n_vocab() - draft.n_vocab()) > kMaxPadding)
    differ("the target has " + std::to_string(target.n_vocab()) + " tokens, the draft " +
           std::to_string(draft.n_vocab()));
}

void quantize(const std::string& path, const std::string& out_path, const std::string& type,
              int32_t n_threads) {
  static constexpr std::array kTypes{std::pair{"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K},
                                     std::pair{"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M},
                                     std::pair{"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},
                                     std::pair{"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
                                     std::pair{"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S},
                                     std::pair{"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
                                     std::pair{"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL},
                                     std::pair{"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0},
                                     std::pair{"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1},
                                     std::pair{"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M},
                                     std::pair{"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K},
                                     std::pair{"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
                                     std::pair{"F16", LLAMA_FTYPE_MOSTLY_F16},
                                     std::pair{"BF16", LLAMA_FTYPE_MOSTLY_BF16}};
  const auto* found = std::ranges::find_if(kTypes, [&](const auto& t) { return type == t.first; });
  if (found == kTypes.end()) {
    std::string names;
    for (const auto& [name, ftype] : kTypes)
      names += (names.empty() ? "" : ", ") + std::string(name);
    throw std::invalid_argument("quantize: unknown type '" + type + "', expected one of " + names);
  }
  init_backend();
  check_gguf(path, GgufKind::kModel);
  clear_error();
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype = found->second;
  params.allow_requantize = true;
  params.nthread = n_threads;
  if (llama_model_quantize(path.c_str(), out_path.c_str(), &params) != 0)
    throw std::runtime_error("llama.cpp could not quantise '" + path + "' to " + type +
                             error_suffix());
}

}  // namespace ersd::llama
