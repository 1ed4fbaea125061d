// Nothing of it is used: csrc/element.h rounds bfloat16 in integers.
#pragma once
