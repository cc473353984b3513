// main() of every test program that links tarpon_testing.
#include "testing/test.h"

int main(int argc, char **argv) {
    return tarpon::testing::run(argc, argv);
}
