// The kernels in NEON; it belongs to every 64-bit ARM processor, so no target is needed.
#if defined(__aarch64__) || defined(LATENTDIFF_EMULATED_NEON)
#include "neon.h"
#include "../ada_norm.h"
#include "group_norm.h"
#include "kernels.h"
#include "tile.h"

namespace latentdiff::cpu {
extern const Kernels neon{"neon",     normal<Neon>,   add_noise<Neon>,
                          step<Neon>, ada_norm<Neon>, group_norm<Neon>};
}  // namespace latentdiff::cpu
#endif
