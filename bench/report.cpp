// Rows as Markdown, CSV, JSON and JSON lines.
#include "report.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ostream>
#include <string_view>

namespace ersd::bench {
namespace {

// The columns of the Markdown table. The other formats give every key.
constexpr std::array<std::string_view, 15> kColumns{
    "method",       "strategy",        "sources",  "draft_nodes", "temperature",
    "identical",    "tokens_per_call", "avg_ts",   "stddev_ts",   "ratio_to_ar",
    "stddev_ratio", "target_ms",       "draft_ms", "race_ms",     "rest_ms"};
constexpr size_t kTextColumns = 3;  // the first columns hold text, the others numbers

std::string plain(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  if (std::holds_alternative<std::monostate>(value)) return "null";
  if (const auto* integer = std::get_if<int64_t>(&value)) return std::to_string(*integer);
  std::array<char, 32> digits{};
  std::snprintf(digits.data(), digits.size(), "%.6g", std::get<double>(value));
  return digits.data();
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c));
      out += escape.data();
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string json(const Row& row, std::string_view indent, std::string_view separator) {
  std::string out;
  for (const auto& [key, value] : row)
    out += (out.empty() ? "" : ",") + std::string(separator) + std::string(indent) + quoted(key) +
           ": " +
           (std::holds_alternative<std::string>(value) ? quoted(plain(value)) : plain(value));
  return out;
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

// One line of the Markdown table: the names of the columns or their values.
std::string markdown(const Row& row, bool names) {
  std::string out = "|";
  for (const auto column : kColumns) {
    const auto cell = std::find_if(row.begin(), row.end(),
                                   [&](const auto& entry) { return entry.first == column; });
    std::string text = names ? std::string(column) : plain(cell->second);
    if (!names && std::holds_alternative<double>(cell->second)) {
      std::array<char, 32> digits{};
      std::snprintf(digits.data(), digits.size(), "%.2f", std::get<double>(cell->second));
      text = digits.data();
    }
    if (!names && std::holds_alternative<std::monostate>(cell->second)) text = "-";
    out += " " + text + " |";
  }
  return out;
}

}  // namespace

void Report::begin() {
  if (format_ == Format::kJson) out_ << "[";
}

void Report::add(const Row& row) {
  switch (format_) {
    case Format::kMarkdown:
      if (first_) {
        out_ << markdown(row, true) << "\n|";
        for (size_t i = 0; i < kColumns.size(); ++i)
          out_ << (i < kTextColumns ? " --- |" : " ---: |");
        out_ << "\n";
      }
      out_ << markdown(row, false) << "\n";
      break;
    case Format::kCsv:
      for (const bool names : {true, false}) {
        if (names && !first_) continue;
        for (size_t i = 0; i < row.size(); ++i)
          out_ << (i ? "," : "") << csv_cell(names ? row[i].first : plain(row[i].second));
        out_ << "\n";
      }
      break;
    case Format::kJson:
      out_ << (first_ ? "\n  {" : ",\n  {") << json(row, "    ", "\n") << "\n  }";
      break;
    case Format::kJsonLines:
      out_ << "{" << json(row, "", " ").substr(1) << "}\n";
      break;
  }
  out_.flush();
  first_ = false;
}

void Report::end() {
  if (format_ == Format::kJson) out_ << "\n]\n";
}

}  // namespace ersd::bench
