// Attention of ours in llama.cpp's calls on a CPU.
//
// llama.cpp's CPU backend asks each of its extra buffer types whether it computes an operation. The
// list of them is no part of its API, but its library exports it, and so it is found at run time,
// for the versions whose structures are known. Elsewhere llama.cpp's own attention stays.
#pragma once

namespace ersd::llama {

// Whether contexts can be computed with ersd/attention/: on this processor, with this llama.cpp.
bool has_own_attention();

// While it lives, flash attention over keys and values in half precision is ours in the calls of
// this thread, if `use` is true.
class OwnAttention {
 public:
  explicit OwnAttention(bool use);
  ~OwnAttention();
  OwnAttention(const OwnAttention&) = delete;
  OwnAttention& operator=(const OwnAttention&) = delete;

 private:
  bool before_;
};

}  // namespace ersd::llama
