// Python's objects behind interfaces of the core. Steps run without the GIL, in any thread, so
// every call acquires it.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <span>
#include <utility>

#include "ersd/verify/grammar.h"
#include "ersd/verify/logits_processor.h"
#include "gil.h"

// A Python object that may be released in any thread.
class PythonObject {
 public:
  explicit PythonObject(nanobind::object object = {}) : object_(std::move(object)) {}
  PythonObject(const PythonObject&) = delete;
  PythonObject& operator=(const PythonObject&) = delete;
  ~PythonObject() {
    if (interpreter_ends() && PyGILState_Check() == 0) {
      object_.release();  // nothing is deleted any more
      return;
    }
    const nanobind::gil_scoped_acquire gil;
    object_.reset();
  }

  const nanobind::object& get() const { return object_; }

  // Holds another object from now on. The thread has the GIL.
  void reset(nanobind::object object) { object_ = std::move(object); }

 private:
  nanobind::object object_;
};

// A logits processor of llama-cpp-python: (input_ids, scores) -> scores; i32[n], f32[n_vocab].
class PythonLogitsProcessor : public ersd::LogitsProcessor {
 public:
  explicit PythonLogitsProcessor(nanobind::object function) : function_(std::move(function)) {}

  void process(std::span<const ersd::Token> history, std::span<float> logits) override;

 private:
  PythonObject function_;
};

// A grammar in Python. Its method start() returns an object with those methods of llguidance's
// LLMatcher that callbacks.cpp calls, and reason(matcher) says why one failed. `ends` lists the end
// tokens.
class PythonGrammar : public ersd::Grammar {
 public:
  explicit PythonGrammar(nanobind::object grammar)
      : grammar_(std::make_shared<PythonObject>(std::move(grammar))) {}

  std::unique_ptr<ersd::GrammarMatcher> start() const override;

 private:
  std::shared_ptr<PythonObject> grammar_;
};
