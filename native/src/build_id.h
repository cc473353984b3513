// Ties libtarpon.so and its simulator plug-in together: C++ interfaces cross that boundary, so both
// must come from one build. CMake defines TARPON_BUILD_ID for both.
#pragma once

namespace tarpon {
inline constexpr const char *kBuildId = TARPON_BUILD_ID;
}
