// Which cells of a cache each place holds. Places share the cells of a common beginning.
#pragma once

#include <cstdint>
#include <vector>

namespace ersd {

// A cell stands for one cached token. Cells are counted here and not placed: a model decides where
// in its memory they lie.
class CellLedger {
 public:
  explicit CellLedger(int32_t n_places);

  void append(int32_t place, int32_t n);            // the place takes n new cells
  void share(int32_t from, int32_t to, int32_t n);  // an empty place also holds the first n cells
  void truncate(int32_t place, int32_t n);          // the place keeps its first n cells

  int32_t n_held(int32_t place) const;                // cells of one place, shared ones included
  int32_t n_live() const { return n_live_; }          // cells that any place holds
  int32_t shared_prefix(int32_t a, int32_t b) const;  // how many first cells both places hold

 private:
  std::vector<std::vector<int32_t>> cells_;  // by place and position: the number of the cell
  std::vector<int32_t> n_holders_;           // by cell: how many places hold it
  std::vector<int32_t> unused_;              // cells that no place holds
  int32_t n_live_ = 0;
};

}  // namespace ersd
