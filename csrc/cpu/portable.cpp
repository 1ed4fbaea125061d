// The portable kernels: item by item, as a CUDA thread does it, in standard C++ on any processor.
#include "../form.h"
#include "../item.h"
#include "kernels.h"
#include "tiling.h"

namespace latentdiff::cpu {
namespace {

// Calls f(place) for every item of the tiles.
template <class T, class Arguments, class Function>
void each_item(const Arguments& a, int64_t first, int64_t last, const Function& f) {
  const bool packed = packs<T>(a);
  const Tiling tiling = Tiling::of(a.shape, needs_scratch(a));
  for (int64_t index = first; index < last; ++index) {
    const Tile tile = Tile::of(tiling, index);
    const int64_t begin = tile.first / item_size<T>;
    const int64_t end = (tile.first + tile.length + item_size<T> - 1) / item_size<T>;
    for (int64_t row = tile.row; row < tile.row + tile.rows; ++row) {
      for (int64_t item = begin; item < end; ++item) f(place<T>(a.shape, packed, row, item));
    }
  }
}

void normal(const NormalArguments& a, int64_t first, int64_t last) {
  with_type(a.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    each_item<T>(a, first, last, [&](const Place& at) { normal_item<T>(a, at); });
  });
}

void add_noise(const NoisingArguments& a, int64_t first, int64_t last) {
  with_type(a.dtype, [&](auto type) {
    with_truth(a.keys.seeds != nullptr, [&](auto drawn) {
      using T = typename decltype(type)::type;
      each_item<T>(a, first, last, [&](const Place& at) { noising_item<T, decltype(drawn)::value>(a, at); });
    });
  });
}

void step(const StepArguments& a, int64_t first, int64_t last) {
  with_type(a.dtype, [&](auto type) {
    with_form(a.n, a.direct, [&](auto form) {
      with_truth(a.keys.seeds != nullptr, [&](auto drawn) {
        using T = typename decltype(type)::type;
        using Form = decltype(form);
        each_item<T>(a, first, last,
                     [&](const Place& at) { step_item<T, Form::n, Form::direct, decltype(drawn)::value>(a, at); });
      });
    });
  });
}

}  // namespace

extern const Kernels portable{"portable", normal, add_noise, step};

}  // namespace latentdiff::cpu
