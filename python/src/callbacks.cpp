// Calls of Python's objects from the core.
#include "callbacks.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "bind.h"

namespace nb = nanobind;
using namespace ersd;

namespace {

// Follows an answer by two LLMatchers: one has consumed the committed tokens, and one also a path.
// Where another path branches off, it is followed by a new copy of the first. Rollbacks of
// llguidance 1.9 would be cheaper, but they keep its last mask, which may then come back for a path
// that is not its own. Few Python objects are touched for a mask: they are cold after a call of a
// model, and each costs a microsecond then.
class PythonMatcher : public GrammarMatcher {
 public:
  explicit PythonMatcher(std::shared_ptr<PythonObject> grammar)
      : grammar_(std::move(grammar)),
        ends_(nb::cast<std::vector<Token>>(grammar_->get().attr("ends"))),
        committed_(grammar_->get().attr("start")()) {
    follow_committed();
  }

  void write_mask(std::span<const Token> path, std::span<uint32_t> mask) override {
    if (ended_ || has_end(path)) {
      std::ranges::fill(mask, ~0u);
      return;
    }
    const HeldGil gil;
    go_to(path);
    compute_mask_.get()(reinterpret_cast<uintptr_t>(mask.data()), mask.size_bytes());
    if (nb::cast<bool>(is_error_.get()())) fail();
  }

  void commit(std::span<const Token> tokens) override {
    ended_ = ended_ || has_end(tokens);
    if (ended_) return;
    const HeldGil gil;
    go_to(tokens);
    path_.clear();
    committed_.get().attr("try_consume_tokens")(std::vector<Token>(tokens.begin(), tokens.end()));
  }

 private:
  bool has_end(std::span<const Token> tokens) const {
    return std::ranges::find_first_of(tokens, ends_) != tokens.end();
  }

  // Makes the matcher of the empty path.
  void follow_committed() {
    matcher_.reset(committed_.get().attr("deep_copy")());
    compute_mask_.reset(matcher_.get().attr("unsafe_compute_mask_ptr"));
    consume_.reset(matcher_.get().attr("try_consume_tokens"));
    is_error_.reset(matcher_.get().attr("is_error"));
    path_.clear();
  }

  // Follows a path: onwards if it begins with the last one, and from its beginning otherwise.
  void go_to(std::span<const Token> path) {
    if (std::ranges::mismatch(path_, path).in1 != path_.end()) follow_committed();
    const std::vector<Token> rest(path.begin() + path_.size(), path.end());
    path_.assign(path.begin(), path.end());
    if (!rest.empty() && nb::cast<size_t>(consume_.get()(rest)) != rest.size()) fail();
  }

  // Throws. A matcher that failed stays wrong, so that other paths need another one.
  [[noreturn]] void fail() {
    const auto reason = nb::cast<std::string>(grammar_->get().attr("reason")(matcher_.get()));
    follow_committed();
    throw std::runtime_error("the grammar cannot go on: " + reason);
  }

  std::shared_ptr<PythonObject> grammar_;
  std::vector<Token> ends_;
  PythonObject committed_;                          // has consumed the committed tokens
  PythonObject matcher_;                            // has also consumed the path
  PythonObject compute_mask_, consume_, is_error_;  // methods of matcher_
  std::vector<Token> path_;
  bool ended_ = false;
};

}  // namespace

void PythonLogitsProcessor::process(std::span<const Token> history, std::span<float> logits) {
  const HeldGil gil;
  const nb::object scores =
      function_.get()(to_numpy(history), to_numpy(std::span<const float>(logits)));
  nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu> out;
  if (!nb::try_cast(scores, out) || out.size() != logits.size())
    throw nb::type_error(("logits_processor must return an array of " +
                          std::to_string(logits.size()) + " numbers, got " +
                          nb::cast<std::string>(nb::str(scores.type())))
                             .c_str());
  std::copy_n(out.data(), out.size(), logits.data());
}

std::unique_ptr<GrammarMatcher> PythonGrammar::start() const {
  const HeldGil gil;
  return std::make_unique<PythonMatcher>(grammar_);
}
