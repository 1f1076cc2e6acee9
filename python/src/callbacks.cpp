// Calls of Python's objects from the core.
#include "callbacks.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "bind.h"

namespace nb = nanobind;
using namespace ersd;

namespace {

std::vector<Token> listed(std::span<const Token> tokens) { return {tokens.begin(), tokens.end()}; }

class PythonMatcher : public GrammarMatcher {
 public:
  explicit PythonMatcher(nb::object matcher) : matcher_(std::move(matcher)) {}

  void write_mask(std::span<const Token> path, std::span<uint32_t> mask) override {
    const nb::gil_scoped_acquire gil;
    const auto bytes = nb::cast<nb::bytes>(matcher_.get().attr("mask")(listed(path)));
    if (bytes.size() < mask.size_bytes())
      throw nb::type_error(("a grammar must give masks of " + std::to_string(mask.size_bytes()) +
                            " bytes, got " + std::to_string(bytes.size()))
                               .c_str());
    std::memcpy(mask.data(), bytes.data(), mask.size_bytes());
  }

  void commit(std::span<const Token> tokens) override {
    const nb::gil_scoped_acquire gil;
    matcher_.get().attr("commit")(listed(tokens));
  }

 private:
  PythonObject matcher_;
};

}  // namespace

void PythonLogitsProcessor::process(std::span<const Token> history, std::span<float> logits) {
  const nb::gil_scoped_acquire gil;
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
  const nb::gil_scoped_acquire gil;
  return std::make_unique<PythonMatcher>(grammar_.get().attr("start")());
}
