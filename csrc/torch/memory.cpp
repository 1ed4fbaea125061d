#include "memory.h"

#include <ATen/ops/empty_like.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace latentdiff {

at::Tensor with_huge_pages(at::Tensor made) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = 4096, worth_it = 4 << 20;
  if (made.device().is_cpu() && made.nbytes() >= worth_it) {
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
