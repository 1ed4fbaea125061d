#include "group_norm.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include <numeric>
#include <vector>

#include "check.h"
#include "cpu_dispatch.h"
#include "parallel.h"

namespace latentdiff {

at::Tensor group_norm(const at::Tensor& x, int64_t groups, const at::Tensor& weight, const at::Tensor& bias,
                      double eps) {
  check::group_norm(x, groups, weight, bias);
  const at::AutoDispatchBelowADInplaceOrView guard;
  const at::Tensor from = x.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor factors = weight.contiguous(), terms = bias.contiguous();
  at::Tensor y = at::empty_like(from, from.options(), at::MemoryFormat::ChannelsLast);
  if (x.numel() == 0) return y;
  GroupNormArguments a{};
  a.channels = x.size(1);
  a.pixels = x.size(2) * x.size(3);
  a.groups = groups;
  a.unit = std::lcm(a.channels, int64_t{sum_lanes});
  a.eps = static_cast<float>(eps);
  a.x = from.const_data_ptr();
  a.y = y.mutable_data_ptr();
  a.weight = factors.const_data_ptr<float>();
  a.bias = terms.const_data_ptr<float>();
  const auto kernel = cpu_kernels().group_norm;
  parallel_for(x.size(0), 1, [&](int64_t first, int64_t last) {
    std::vector<float> scratch(4 * a.unit + a.groups);
    kernel(a, first, last, scratch.data());
  });
  return y;
}

}  // namespace latentdiff
