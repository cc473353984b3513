/**
 * Quantised linear layers on CPUs and NVIDIA GPUs.
 *
 * <p>A program opens a {@link dev.tarpon.Device}, quantises weights once ({@link
 * dev.tarpon.QuantizedWeights}), makes a {@link dev.tarpon.QuantizedLinear} of them and runs it on
 * {@link dev.tarpon.Tensor}s as often as it likes. {@link dev.tarpon.Tarpon} says what is there.
 * {@link dev.tarpon.Hadamard} and {@link dev.tarpon.BlockwiseQuantizer} work on tensors alone, and
 * {@link dev.tarpon.optim} has optimizers.
 *
 * <h2>Lifetime</h2>
 *
 * Everything made from a device is {@link AutoCloseable}. {@code close} is idempotent and may be
 * called from any thread; a call that another thread has under way completes first, and the native
 * object is destroyed when its last user has let go. Using a closed object is an {@link
 * IllegalStateException} that names it. Closing a device closes everything made from it, as closing
 * a JDBC connection closes its statements. An object that is never closed is closed after the
 * garbage collector has found it unreachable; that is a safety net, not a way to manage device
 * memory.
 *
 * <h2>Errors</h2>
 *
 * What can be seen from Java is checked before the native call: {@link NullPointerException} names
 * the argument, {@link IllegalArgumentException} carries the values that disagree, {@link
 * IllegalStateException} names what is closed. What the native library reports is a {@link
 * dev.tarpon.TarponException} with its {@link dev.tarpon.Status}.
 *
 * <h2>Matrices</h2>
 *
 * All matrices are row-major and contiguous; shapes are written [rows, columns].
 */
package dev.tarpon;
