// A test level: as `scalar`, over 16 float lanes of whatever the compiler has.
#pragma once

#include "vec_scalar.h"
