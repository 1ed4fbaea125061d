// Autograd's share of a call. The formulas are written once, in Python (latentdiff/ops/autograd.py); this is
// the short cut past them for the calls that need no gradient, which are nearly all, so that those never
// enter Python.
#pragma once

#include <torch/library.h>

namespace latentdiff {

void register_autograd(torch::Library& library);

}  // namespace latentdiff
