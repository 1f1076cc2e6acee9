// What a context knows of one of its sequences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ersd/tree/batch.h"

namespace ersd::llama {

// The recurrent state of a sequence after its first n tokens, as llama.cpp's bytes. Keys and values
// of attention are not in it.
struct Checkpoint {
  int32_t n = -1;  // -1: there is none
  std::vector<uint8_t> data;
};

// Cells are numbered in the order in which they were decoded since all trees of the context had
// ended. llama.cpp fills free cells from the lowest on, so that these numbers have the cells'
// order.
struct Place {
  std::vector<Token> cached;  // committed tokens, by position
  // llama.cpp's sequences: first the number of the place, then one for each further branch of its
  // trees. All hold the positions 0 to n_shared - 1; the sequence ids[kept] holds all that is
  // committed.
  std::vector<int32_t> ids;
  int32_t n_shared = 0;
  int32_t kept = 0;

  BatchLayout layout;              // its sequences are indices of `ids`
  int32_t n_tree = 0;              // nodes decoded since the last commit or rollback
  int32_t row_offset = -1;         // first node's row in the last call; -1: none was in it
  std::vector<int32_t> node_cell;  // by tree node: the number of its cell, -1 for none
  std::vector<int32_t> new_cells;  // the numbers of the last committed cells, by position

  // Of a model that cannot branch: how many of the last committed tokens llama.cpp's state lacks,
  // so that they are read again; the state before a tree that may be rejected; the states at the
  // ends of prompts, in ascending order; and how many tokens were read since the last of them.
  int32_t n_read_again = 0;
  Checkpoint base;
  std::vector<Checkpoint> checkpoints;
  int32_t n_new = 0;
  int32_t n_last_rows = 0;  // tokens of the place in its last call

  int32_t n_held() const { return n_cached() - n_read_again; }  // tokens in llama.cpp's state
  int32_t n_cached() const { return static_cast<int32_t>(cached.size()); }
  int32_t n_ids() const { return static_cast<int32_t>(ids.size()); }
};

}  // namespace ersd::llama
