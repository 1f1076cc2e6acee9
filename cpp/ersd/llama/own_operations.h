// Operations of ours in llama.cpp's calls on a CPU: attention, and products with weights in Q8_0.
//
// llama.cpp's CPU backend asks each of its extra buffer types whether it computes an operation. The
// list of them is no part of its API, but its library exports it, and so it is found at run time,
// for the versions whose structures are known. Elsewhere llama.cpp's own operations stay.
#pragma once

namespace ersd::llama {

// Whether contexts can be computed with ersd/attention/: on this processor, with this llama.cpp.
bool has_own_attention();

// While it lives, the calls of this thread have the products of ersd/matrix/, if this processor can
// compute them and they have the bits of this llama.cpp's products. If `attention` is true, flash
// attention over keys and values in half precision is ours, too.
class OwnOperations {
 public:
  explicit OwnOperations(bool attention);
  ~OwnOperations();
  OwnOperations(const OwnOperations&) = delete;
  OwnOperations& operator=(const OwnOperations&) = delete;

 private:
  bool attention_before_, products_before_;
};

}  // namespace ersd::llama
