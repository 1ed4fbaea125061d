// Nothing of it is used: csrc/dtype.h rounds bfloat16 in integers.
#pragma once
