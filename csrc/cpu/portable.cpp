// The portable kernels: item by item, as a CUDA thread does it, in standard C++ on any processor.
#include "../ada_norm.h"
#include "../dispatch.h"
#include "../vector_item.h"
#include "group_norm.h"
#include "kernels.h"
#include "number.h"
#include "tiling.h"

namespace latentdiff::cpu {
namespace {

// Calls f(Bool<whole>, arguments, items, place) for every item of the tiles.
template <class T, class Arguments, class Function>
void each_item(const Arguments& given, int64_t first, int64_t last, const Function& f) {
  Arguments a = given;
  const Items items = Items::prepare<T>(a);
  const Tiling tiling = Tiling::of(a.shape, needs_scratch(a));
  with_truth(items.whole, [&](auto whole) {
    for (int64_t index = first; index < last; ++index) {
      const Tile tile = Tile::of(tiling, index);
      for (int64_t row = tile.row; row < tile.row + tile.rows; ++row) {
        for (int64_t e = tile.first; e < tile.first + tile.length; e += item_size<T>) {
          f(whole, a, items, ItemPosition::of<T, decltype(whole)::value>(a.shape, row, e));
        }
      }
    }
  });
}

void normal(const NormalArguments& a, int64_t first, int64_t last) {
  with_type(a.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    each_item<T>(a, first, last,
                 [](auto whole, const auto&... item) { normal_item<T, decltype(whole)::value>(item...); });
  });
}

void add_noise(const NoisingArguments& a, int64_t first, int64_t last) {
  with_type(a.dtype, [&](auto type) {
    with_truth(a.keys.seeds != nullptr, [&](auto drawn) {
      using T = typename decltype(type)::type;
      each_item<T>(a, first, last, [](auto whole, const auto&... item) {
        noising_item<T, decltype(drawn)::value, decltype(whole)::value>(item...);
      });
    });
  });
}

void step(const StepArguments& a, int64_t first, int64_t last) {
  with_type(a.dtype, [&](auto type) {
    with_form(a.n, a.direct, [&](auto form) {
      with_truth(a.keys.seeds != nullptr, [&](auto drawn) {
        using T = typename decltype(type)::type;
        using Form = decltype(form);
        each_item<T>(a, first, last, [](auto whole, const auto&... item) {
          step_item<T, Form::n, Form::direct, decltype(drawn)::value, decltype(whole)::value>(item...);
        });
      });
    });
  });
}

}  // namespace

extern const Kernels portable{"portable", normal, add_noise, step, ada_norm<Number>, group_norm<Number>};

}  // namespace latentdiff::cpu
