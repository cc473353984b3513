package dev.tarpon;

/**
 * What a device says about itself.
 *
 * @param kind where it runs
 * @param ordinal its number among the devices of its kind, from 0
 * @param name such as "NVIDIA H200"
 * @param isa what kernels are chosen for: "sm_90", "avx512_bf16", "scalar"
 * @param computeCapability 10 * major + minor for SIM and CUDA, such as 90; 0 for the CPU
 * @param processorCount streaming multiprocessors, or the threads that this device uses on the CPU
 * @param memoryBytes total memory of the device
 */
public record DeviceInfo(
        DeviceKind kind,
        int ordinal,
        String name,
        String isa,
        int computeCapability,
        int processorCount,
        long memoryBytes) {

    /** The specification that {@link Device#open(String)} takes, such as "cuda:1". */
    public String spec() {
        return kind + ":" + ordinal;
    }
}
