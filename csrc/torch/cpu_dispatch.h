// Which instruction set the CPU kernels use.
#pragma once

#include <string>
#include <vector>

#include "../cpu/kernels.h"

namespace latentdiff {

// The best that this processor has, or the one that was set.
const cpu::Kernels& cpu_kernels();

// "portable" first; the last is the default.
std::vector<std::string> cpu_capabilities();

// Throws ValueError (in Python) for a name that this processor does not offer.
void set_cpu_capability(const std::string& name);

}  // namespace latentdiff
