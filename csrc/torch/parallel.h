// A loop that ATen's threads share.
#pragma once

#include <ATen/Parallel.h>

namespace latentdiff {

// at::parallel_for without its first step: at the first call of a thread that gives it the process's number
// of threads. It does so once for each library, as its flag is a variable of an inline function, so that a
// worker which was given threads of its own would have all of them again, in the middle of its work.
template <class Function>
void parallel_for(int64_t count, int64_t grain, const Function& f) {
#if defined(INTRA_OP_PARALLEL)
  if (count > grain && at::get_num_threads() > 1 && !at::in_parallel_region())
    return at::internal::invoke_parallel(0, count, grain, f);
#endif
  f(0, count);
}

}  // namespace latentdiff
