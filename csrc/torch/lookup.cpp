#include "lookup.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include "check.h"
#include "parallel.h"

namespace latentdiff {
namespace {

constexpr int64_t grain = 32768;  // numbers worth a second thread: about ten microseconds

}  // namespace

at::Tensor lookup(const at::Tensor& x, const at::Tensor& table) {
  check::lookup(x, table);
  const at::AutoDispatchBelowADInplaceOrView guard;
  // Any order of the elements in memory that has no gaps is kept.
  const at::Tensor packed = x.is_non_overlapping_and_dense() ? x : x.contiguous();
  const at::Tensor entries = table.contiguous();
  at::Tensor found = at::empty_like(packed);
  const auto* from = static_cast<const uint16_t*>(packed.const_data_ptr());
  const auto* at = static_cast<const uint16_t*>(entries.const_data_ptr());
  auto* to = static_cast<uint16_t*>(found.mutable_data_ptr());
  parallel_for(packed.numel(), grain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) to[i] = at[from[i]];
  });
  return found;
}

}  // namespace latentdiff
