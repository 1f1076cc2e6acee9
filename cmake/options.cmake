# Options that all targets of the project are built with.
option(ERSD_PYTHON "Build the Python extension" OFF)
option(ERSD_FUZZ "Build the fuzzers of the core, with Clang" OFF)
set(ERSD_SANITIZE "" CACHE STRING "Sanitizers of the core, as the compiler names them: address,undefined or thread")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# The static core goes into a shared extension module.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

# The CMake package of llama-cpp-python in site-packages. pip finds it by itself; otherwise run
#   cmake -DCMAKE_PREFIX_PATH=$(python -c "import sysconfig; print(sysconfig.get_path('platlib'))")
find_package(
  llama
  # The package brings its own configuration file.
  CONFIG
  # There is no build without llama.cpp.
  REQUIRED
)

if(MSVC)
  add_compile_options(/W4)
else()
  add_compile_options(
    # Warnings
    -Wall
    -Wextra
    # A fused a*b+c would round differently on other instruction sets, and clocks must not.
    -ffp-contract=off
    # Lets the compiler vectorise comparisons.
    -fno-trapping-math
  )
endif()
if(ERSD_SANITIZE)
  # The programs that link the core need the runtime of the sanitizers.
  add_link_options(-fsanitize=${ERSD_SANITIZE})
endif()
