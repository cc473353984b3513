package dev.tarpon.quant.cli;

/** What the command tells its caller. */
final class ExitCode {
    static final int OK = 0;
    static final int FAILURE = 1;
    static final int USAGE = 2;
    static final int DEVICE_UNAVAILABLE = 3;
    static final int BAD_INPUT = 4;
    static final int BELOW_BOUND = 5;

    private ExitCode() {}
}
