package dev.tarpon;

import java.lang.foreign.MemorySegment;

/**
 * 4-bit weights in MARLIN's order, read-only. With Kp and Np the next multiples of 16 and 64 of the
 * input and output features:
 *
 * @param qweight int32 [Kp / 16, 2 * Np]
 * @param scales binary16 [groups, Np], permuted for the kernel's fragments
 */
public record MarlinWeights(MemorySegment qweight, MemorySegment scales) {}
