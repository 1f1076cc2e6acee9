// Any bytes as a GGUF file: the check passes or throws.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "ersd/llama/backend.h"
#include "ersd/llama/gguf_check.h"
#include "input.h"

using namespace ersd;

namespace {

// The name of a file of this process, in memory where the system has such a folder.
std::string file_name() {
  namespace fs = std::filesystem;
  const fs::path memory = "/dev/shm";
  const fs::path folder = fs::exists(memory) ? memory : fs::temp_directory_path();
  return folder / ("fuzz_gguf." + std::to_string(getpid()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string name = file_name();
  static const bool is_ready = (llama::init_backend(), true);
  fuzz::require(is_ready);
  std::FILE* file = std::fopen(name.c_str(), "wb");
  fuzz::require(file != nullptr && std::fwrite(data, 1, size, file) == size);
  std::fclose(file);
  for (const auto kind : {llama::GgufKind::kModel, llama::GgufKind::kAdapter}) {
    try {
      llama::check_gguf(name, kind);
    } catch (const std::invalid_argument&) {
    }
  }
  return 0;
}

// The fuzzer calls this before the first input.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  std::atexit([] { std::remove(file_name().c_str()); });
  return 0;
}
