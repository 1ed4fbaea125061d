// The two devices that run kernels. Each call does the whole operation: threads on the CPU, one launch on
// CUDA's current stream.
#pragma once

#include <c10/core/Device.h>

#include "../kernel_args.h"

namespace latentdiff {

struct Cpu {
  static void run(const NormalArguments& a, c10::Device device);
  static void run(const NoisingArguments& a, c10::Device device);
  static void run(const StepArguments& a, c10::Device device);
  static void run(const AdaNormArguments& a, c10::Device device);
};

struct Cuda {
  static void run(const NormalArguments& a, c10::Device device);
  static void run(const NoisingArguments& a, c10::Device device);
  static void run(const StepArguments& a, c10::Device device);
  static void run(const AdaNormArguments& a, c10::Device device);
};

}  // namespace latentdiff
