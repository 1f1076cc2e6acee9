// Variants of code for several processors, by their names.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

// Throws std::invalid_argument if there is none of this name. all: a range of pointers to variants;
// function: what lists them.
auto* find_variant(const auto& all, std::string_view name, const char* function) {
  const auto found = std::ranges::find_if(all, [&](auto* v) { return v->name == name; });
  if (found == all.end())
    throw std::invalid_argument("variant must be one of " + std::string(function) + ", got " +
                                std::string(name));
  return *found;
}

std::vector<std::string> names_of_variants(const auto& all) {
  std::vector<std::string> names;
  for (const auto* variant : all) names.emplace_back(variant->name);
  return names;
}
