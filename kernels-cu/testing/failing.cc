// Tests that fail or skip on purpose: ctest checks what the harness says about them.
#include "testing/test.h"

TARPON_TEST(test_check_equal_fails) {
    const int actual = 2;
    CHECK_EQ(actual, 5, "row %d", 3);
}

TARPON_TEST(test_require_fails_and_ends) {
    const bool flag = false;
    REQUIRE(flag);
    throw 1;  // not reached: would end the program
}

TARPON_TEST(test_skips) {
    SKIP("no such device, code %d", 7);
}
