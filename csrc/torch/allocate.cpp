#include "allocate.h"

#include <ATen/ops/empty_like.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace latentdiff {

at::Tensor with_huge_pages(at::Tensor made) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Above the larger size, finding or compacting huge pages was seen to stall for longer than they save.
  constexpr uintptr_t page = 4096, worth_it = 4 << 20, available = 64 << 20;
  if (made.device().is_cpu() && made.nbytes() >= worth_it && made.nbytes() <= available) {
    const auto first = reinterpret_cast<uintptr_t>(made.data_ptr());
    const uintptr_t begin = (first + page - 1) / page * page, end = (first + made.nbytes()) / page * page;
    madvise(reinterpret_cast<void*>(begin), end - begin,
            MADV_HUGEPAGE);  // a wish: whether it is granted does not matter
  }
#endif
  return made;
}

at::Tensor new_like(const at::Tensor& x) { return with_huge_pages(at::empty_like(x)); }

}  // namespace latentdiff
