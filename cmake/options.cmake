# What every target of the project is built with.
option(ERSD_PYTHON "Build the Python extension" OFF)
option(ERSD_SANITIZE "Build the core with AddressSanitizer and UndefinedBehaviorSanitizer" OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

# The packages that the pip package llama-cpp-python installs into site-packages. Building outside pip:
#   cmake -DCMAKE_PREFIX_PATH=$(python -c "import sysconfig; print(sysconfig.get_path('platlib'))") ...
find_package(llama CONFIG REQUIRED)

if(MSVC)
  add_compile_options(/W4)
else()
  # Contracting a*b+c would give other bits on other machines: clocks must not depend on the instruction set.
  add_compile_options(-Wall -Wextra -ffp-contract=off -fno-trapping-math)
endif()
if(ERSD_SANITIZE)
  add_link_options(-fsanitize=address,undefined)
endif()
