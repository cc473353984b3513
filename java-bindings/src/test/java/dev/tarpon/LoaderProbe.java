package dev.tarpon;

/** A program for LoadingTest: says what it has loaded, or what every call says if nothing. */
final class LoaderProbe {
    private LoaderProbe() {}

    public static void main(String[] args) {
        System.out.println("available: " + Tarpon.isAvailable());
        System.out.println("reason: " + Tarpon.unavailableReason().orElse("none"));
        report("first", () -> System.out.println("library: " + Tarpon.libraryPath()));
        report("second", () -> Device.open("cpu").close());
        report(
                "third",
                () ->
                        QuantizedWeights.quantize(
                                java.lang.foreign.MemorySegment.ofArray(new float[1]),
                                DType.F32,
                                1,
                                1,
                                -1));
    }

    private static void report(String name, Runnable call) {
        try {
            call.run();
            System.out.println(name + ": fine");
        } catch (TarponException exception) {
            System.out.printf(
                    "%s: %s, %s, caused by %s%n",
                    name,
                    exception.status(),
                    exception.getMessage(),
                    exception.getCause().getClass().getSimpleName());
        }
    }
}
