// The loops of attention, for vectors that the including file defines: Floats of kWidth numbers,
// and kVectors of them for each of kRows rows, which fill the registers.
//
// No include guard: each variant includes this in its own namespace and for its own instructions.

// Turns kWidth vectors into their columns.
inline void transpose(Floats (&x)[kWidth]) {
#pragma GCC unroll 4
  for (int step = 1; step < kWidth; step *= 2) {
    // A pair of vectors exchanges the lanes in which their indices differ.
    Ints first, second;
#pragma GCC unroll 16
    for (int lane = 0; lane < kWidth; ++lane) {
      first[lane] = lane & step ? kWidth + lane - step : lane;
      second[lane] = lane & step ? kWidth + lane : lane + step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) {
      if (i & step) continue;
      const Floats a = x[i], b = x[i + step];
      x[i] = __builtin_shuffle(a, b, first);
      x[i + step] = __builtin_shuffle(a, b, second);
    }
  }
}

// Calls work<n> for the next n of the rows that are left, kRows at most.
template <int n = kRows, class Work>
inline void with_rows(int64_t left, Work&& work) {
  if constexpr (n > 1) {
    if (left < n) return with_rows<n - 1>(left, work);
  }
  work.template operator()<n>();
}

// Writes the keys of up to kTile cells as columns; columns: f32[key_size, kTile].
inline void pack_keys(const Unit& unit, const int32_t* cells, int n, float* columns) {
  for (int j = 0; j < kTile; j += kWidth) {
    const char* rows[kWidth];
    for (int i = 0; i < kWidth; ++i) {
      rows[i] = unit.k + static_cast<size_t>(cells[j + i < n ? j + i : 0]) * unit.k_row;
      const char* later = unit.k + static_cast<size_t>(cells[j + i + kAhead]) * unit.k_row;
      for (int64_t d = 0; d < unit.key_size; d += 32) __builtin_prefetch(later + 2 * d);
    }
    for (int64_t d = 0; d < unit.key_size; d += kWidth) {
      Floats x[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) x[i] = from_halves(rows[i] + 2 * d);
      transpose(x);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) store(columns + (d + i) * kTile + j, x[i]);
    }
  }
}

// Scores of n_rows queries at one tile; q: f32[n_rows, key_size], out: f32[n_rows, stride].
template <int n_rows>
inline void score_rows(const float* q, int64_t key_size, const float* columns, float* out,
                       int64_t stride) {
  Floats sum[n_rows][kVectors] = {};
  for (int64_t d = 0; d < key_size; ++d) {
    Floats key[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) key[i] = load(columns + d * kTile + i * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; ++r) {
      const Floats x = all(q[r * key_size + d]);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = multiply_add(x, key[i], sum[r][i]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < n_rows; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) store(out + r * stride + i * kWidth, sum[r][i]);
}

// e to the power of x for x <= 0; 0 below -87. Cody and Waite's reduction and the polynomial of
// Cephes' expf.
inline Floats exponential(Floats x) {
  const Floats magic = all(0x1.8p23f);  // adding it rounds to a whole number
  const Floats n = multiply_add(x, all(0x1.715476p0f), magic) - magic;
  Floats r = multiply_add(n, all(-0x1.63p-1f), x);
  r = multiply_add(n, all(0x1.bd0106p-13f), r);
  Floats y = all(1.9875691500e-4f);
  y = multiply_add(y, r, all(1.3981999507e-3f));
  y = multiply_add(y, r, all(8.3334519073e-3f));
  y = multiply_add(y, r, all(4.1665795894e-2f));
  y = multiply_add(y, r, all(1.6666665459e-1f));
  y = multiply_add(y, r, all(5.0000001201e-1f));
  y = multiply_add(y, r * r, r) + all(1.0f);
  const Floats power = (Floats)((Ints)(n + all(0x1.8p23f + 127)) << 23);
  return x < all(-87.0f) ? all(0.0f) : y * power;
}

// x limited smoothly to within -1 and 1.
inline Floats hyperbolic_tangent(Floats x) {
  const Floats size = x < all(0.0f) ? -x : x;
  const Floats e = exponential(all(-2.0f) * size);
  const Floats y = (all(1.0f) - e) / (all(1.0f) + e);
  return x < all(0.0f) ? -y : y;
}

void scores(const Unit& unit, const int32_t* cells, int64_t first_tile, int64_t last_tile,
            float* columns, float* scores) {
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t begin = tile * kTile;
    const int n = static_cast<int>(unit.n_cells - begin < kTile ? unit.n_cells - begin : kTile);
    const int32_t* in_tile = cells + begin;
    pack_keys(unit, in_tile, n, columns);
    for (int64_t row = 0; row < unit.n_rows; row += kRows) {
      const float* q = unit.q + row * unit.key_size;
      float* out = scores + row * unit.stride + begin;
      with_rows(unit.n_rows - row, [&]<int n_rows>() {
        score_rows<n_rows>(q, unit.key_size, columns, out, unit.stride);
      });
    }
    // Cells of one piece of the cache are the rule.
    const bool in_one_piece = n == kTile && in_tile[kTile - 1] - in_tile[0] == kTile - 1;
    for (int64_t token = 0; token < unit.n_tokens; ++token) {
      const char* mask = unit.mask + static_cast<size_t>(token) * unit.mask_row;
      alignas(64) uint16_t gathered[kTile];
      if (!in_one_piece) {
        for (int i = 0; i < kTile; ++i)
          gathered[i] = i < n ? reinterpret_cast<const uint16_t*>(mask)[in_tile[i]] : kUnseen;
        mask = reinterpret_cast<const char*>(gathered);
      } else {
        mask += 2 * static_cast<size_t>(in_tile[0]);
      }
      Floats bias[kVectors];
      for (int i = 0; i < kVectors; ++i) bias[i] = from_halves(mask + 2 * i * kWidth);
      for (int64_t head = 0; head < unit.n_heads; ++head) {
        float* out = scores + (token * unit.n_heads + head) * unit.stride + begin;
        for (int i = 0; i < kVectors; ++i) {
          Floats s = load(out + i * kWidth);
          if (unit.softcap != 0) s = all(unit.softcap) * hyperbolic_tangent(s);
          store(out + i * kWidth, multiply_add(all(unit.slopes[head]), bias[i], s));
        }
      }
    }
  }
}

float weights(float* scores, int64_t n_cells, float sink) {
  const int64_t n = (n_cells + kWidth - 1) / kWidth * kWidth;
  Floats most = all(sink);
  for (int64_t i = 0; i < n; i += kWidth) {
    const Floats s = load(scores + i);
    most = s > most ? s : most;
  }
  float greatest = most[0];
  for (int i = 1; i < kWidth; ++i) greatest = most[i] > greatest ? most[i] : greatest;
  if (greatest == -kInfinity) greatest = 0;  // nothing is seen, and all weights are 0
  // The sum counts units of 2^-30, in 64 bits.
  Longs even = {}, odd = {};
  const auto count = [&](Floats p) {
    const Longs parts = (Longs)to_ints(p * all(0x1p30f));
    even += parts & 0xffffffff;
    odd += (Longs)((UnsignedLongs)parts >> 32);
  };
  for (int64_t i = 0; i < n; i += kWidth) {
    const Floats p = exponential(load(scores + i) - all(greatest));
    store(scores + i, p);
    count(p);
  }
  if (sink != -kInfinity) {
    Floats one = all(-kInfinity);
    one[0] = sink - greatest;
    count(exponential(one));
  }
  even += odd;
  int64_t sum = 0;
  for (int i = 0; i < kWidth / 2; ++i) sum += even[i];
  return static_cast<float>(static_cast<double>(sum) * 0x1p-30);
}

// n_rows sums over the cells of weight times value, for n vectors of each value.
template <int n_rows, int n>
inline void add_rows(const Unit& unit, const int32_t* cells, const float* weights, int64_t d,
                     const float* inverse, float* const* out) {
  Floats sum[n_rows][n] = {};
  const char* v = unit.v + 2 * d;
  for (int64_t cell = 0; cell < unit.n_cells; ++cell) {
    const char* value = v + static_cast<size_t>(cells[cell]) * unit.v_row;
    const char* later = v + static_cast<size_t>(cells[cell + kAhead]) * unit.v_row;
    for (int i = 0; i < n * kWidth; i += 32) __builtin_prefetch(later + 2 * i);
    Floats x[n];
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) x[i] = from_halves(value + 2 * i * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; ++r) {
      const Floats p = all(weights[r * unit.stride + cell]);
#pragma GCC unroll 4
      for (int i = 0; i < n; ++i) sum[r][i] = multiply_add(p, x[i], sum[r][i]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < n_rows; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) store(out[r] + d + i * kWidth, sum[r][i] * all(inverse[r]));
}

template <int n_rows>
inline void add_vectors(const Unit& unit, const int32_t* cells, const float* weights, int64_t first,
                        int64_t last, const float* inverse, float* const* out) {
  for (int64_t vector = first; vector < last;) {
    const int64_t left = last - vector, d = vector * kWidth;
    if (left >= 4 && kVectors == 4) {
      add_rows<n_rows, 4>(unit, cells, weights, d, inverse, out);
      vector += 4;
    } else if (left >= 2) {
      add_rows<n_rows, 2>(unit, cells, weights, d, inverse, out);
      vector += 2;
    } else {
      add_rows<n_rows, 1>(unit, cells, weights, d, inverse, out);
      vector += 1;
    }
  }
}

void values(const Unit& unit, const int32_t* cells, const float* weights, int64_t first_item,
            int64_t last_item, const float* inverse, float* const* out) {
  const int64_t n_vectors = unit.value_size / kWidth;
  for (int64_t item = first_item; item < last_item;) {
    const int64_t row = item / n_vectors * kRows, first = item % n_vectors;
    const int64_t last =
        first + last_item - item < n_vectors ? first + last_item - item : n_vectors;
    item += last - first;
    const float* p = weights + row * unit.stride;
    with_rows(unit.n_rows - row, [&]<int n_rows>() {
      add_vectors<n_rows>(unit, cells, p, first, last, inverse + row, out + row);
    });
  }
}
