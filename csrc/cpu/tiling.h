// How a call is cut into tiles: parts of one long row, or several short rows.
#pragma once

#include "../kernel_args.h"

namespace latentdiff::cpu {

constexpr int64_t noise_tile = 1024;    // elements: the scratch of a tile stays in the first-level cache
constexpr int64_t direct_tile = 16384;  // where nothing needs scratch

struct Tiling {
  int64_t rows, inner;    // of the shape
  int64_t length;         // elements of a row in a tile, a multiple of 4 unless it is the whole row
  int64_t rows_per_tile;  // more than one only if a tile holds whole rows
  int64_t tiles_per_row;  // 1 then

  static LD_FN Tiling of(const Shape& shape, bool scratch) {
    const int64_t limit = scratch ? noise_tile : direct_tile;
    Tiling tiling{shape.rows, shape.inner, shape.inner < limit ? shape.inner : limit, 1, 1};
    if (shape.inner > limit) {
      tiling.tiles_per_row = (shape.inner + limit - 1) / limit;
    } else if (shape.inner > 0) {
      const int64_t pitch = (shape.inner + 3) / 4 * 4;  // scratch rows start at a Philox block
      const int64_t fit = limit / pitch;
      tiling.rows_per_tile = fit < 1 ? 1 : fit;
    }
    return tiling;
  }

  LD_FN int64_t tiles() const {
    if (inner == 0) return 0;
    return (rows + rows_per_tile - 1) / rows_per_tile * tiles_per_row;
  }
};

// Noise is drawn into scratch, and operands with gaps are collected there.
LD_FN bool needs_scratch(const NormalArguments&) { return true; }
LD_FN bool needs_scratch(const NoisingArguments& a) { return a.keys.seeds != nullptr || !a.shape.flat; }
LD_FN bool needs_scratch(const StepArguments& a) { return a.keys.seeds != nullptr || !a.shape.flat; }

// Elements first .. first + length - 1 of the rows row .. row + rows - 1.
struct Tile {
  int64_t row, rows, first, length;

  static LD_FN Tile of(const Tiling& tiling, int64_t index) {
    const int64_t group = index / tiling.tiles_per_row, part = index - group * tiling.tiles_per_row;
    const int64_t row = group * tiling.rows_per_tile, first = part * tiling.length;
    const int64_t rows = tiling.rows - row < tiling.rows_per_tile ? tiling.rows - row : tiling.rows_per_tile;
    const int64_t length = tiling.inner - first < tiling.length ? tiling.inner - first : tiling.length;
    return {row, rows, first, length};
  }
};

}  // namespace latentdiff::cpu
