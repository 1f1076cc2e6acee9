// Counts of the cells that places hold.
#include "ersd/model/cell_ledger.h"

#include <algorithm>

#include "ersd/check.h"

namespace ersd {

CellLedger::CellLedger(int32_t n_places) {
  check_at_least("CellLedger: n_places", n_places, 1);
  cells_.resize(static_cast<size_t>(n_places));
}

void CellLedger::append(int32_t place, int32_t n) {
  std::vector<int32_t>& cells = cells_.at(static_cast<size_t>(place));
  for (int32_t i = 0; i < n; ++i) {
    if (unused_.empty()) {
      unused_.push_back(static_cast<int32_t>(n_holders_.size()));
      n_holders_.push_back(0);
    }
    cells.push_back(unused_.back());
    unused_.pop_back();
    n_holders_[static_cast<size_t>(cells.back())] = 1;
  }
  n_live_ += std::max(n, 0);
}

void CellLedger::share(int32_t from, int32_t to, int32_t n) {
  const std::vector<int32_t>& source = cells_.at(static_cast<size_t>(from));
  std::vector<int32_t>& cells = cells_.at(static_cast<size_t>(to));
  check_between("CellLedger: n", n, 0, n_held(from));
  if (!cells.empty()) refuse("CellLedger: the place that takes over", "empty", n_held(to));
  cells.assign(source.begin(), source.begin() + n);
  for (const int32_t cell : cells) ++n_holders_[static_cast<size_t>(cell)];
}

void CellLedger::truncate(int32_t place, int32_t n) {
  std::vector<int32_t>& cells = cells_.at(static_cast<size_t>(place));
  while (static_cast<int32_t>(cells.size()) > std::max(n, 0)) {
    if (--n_holders_[static_cast<size_t>(cells.back())] == 0) {
      unused_.push_back(cells.back());
      --n_live_;
    }
    cells.pop_back();
  }
}

int32_t CellLedger::n_held(int32_t place) const {
  return static_cast<int32_t>(cells_.at(static_cast<size_t>(place)).size());
}

int32_t CellLedger::shared_prefix(int32_t a, int32_t b) const {
  const auto& first = cells_.at(static_cast<size_t>(a));
  const auto& second = cells_.at(static_cast<size_t>(b));
  const auto end = std::mismatch(first.begin(), first.end(), second.begin(), second.end()).first;
  return static_cast<int32_t>(end - first.begin());
}

}  // namespace ersd
