// Which item a thread does.
#pragma once

#include "../vector_item.h"

namespace latentdiff::cuda {

// The order in which items are done: row after row and, where operands are read element by element, in the
// order of memory within a row, so that neighboring threads share the sectors that they touch.
struct Order {
  int64_t total;
  bool narrow;                 // it is below 2^31
  Divisor per_row;             // items
  Dimensions items;            // of a row
  int64_t elements[max_dims];  // the logical distance of neighboring items of a dimension

  template <class T>
  static Order of(const Shape& shape, const Items& items, const Operand& written) {
    const int64_t per_row = (shape.inner + item_size<T> - 1) / item_size<T>, total = shape.rows * per_row;
    const bool narrow = total >> 31 == 0;
    Order order{total, narrow, Divisor::of(per_row), {1, narrow, {}}, {item_size<T>}};
    if (items.whole || !items.even) return order;
    order.items.count = shape.dims;
    int64_t distance[max_dims], inner = 1;  // in memory, from item to item
    for (int d = shape.dims - 1; d >= 0; inner *= shape.sizes[d--]) {
      const int of_item = d == shape.dims - 1 ? item_size<T> : 1;
      const int64_t here = written.strides[d] * of_item;
      int to = d;  // after the dimensions of longer distances
      for (; to + 1 < shape.dims && distance[to + 1] > here; ++to) {
        order.items.sizes[to] = order.items.sizes[to + 1];
        order.elements[to] = order.elements[to + 1];
        distance[to] = distance[to + 1];
      }
      order.items.sizes[to] = Divisor::of(shape.sizes[d] / of_item);
      order.elements[to] = inner * of_item;
      distance[to] = here;
    }
    return order;
  }

  template <class T, bool whole>
  LD_FN ItemPosition place_of(const Shape& shape, int64_t index) const {
    const int64_t row = shape.rows > 1 ? per_row.quotient(index, narrow) : 0,
                  item = index - row * per_row.size;
    return ItemPosition::of<T, whole>(shape, row, whole ? item * item_size<T> : items.offset(elements, item));
  }
};

}  // namespace latentdiff::cuda
