/**
 * Small bindings for the tests of BindingDescription: {@code shipped} in the shape of the
 * hand-written binding, {@code generated} as jextract would write the same header, and {@code
 * differing} as jextract would write another one.
 */
package dev.tarpon.ffi.sample;
