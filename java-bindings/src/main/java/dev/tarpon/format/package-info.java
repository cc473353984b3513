/**
 * Files of named tensors: safetensors, read ({@link dev.tarpon.format.SafetensorsFile}) without
 * trusting them and written ({@link dev.tarpon.format.SafetensorsWriter}) complete or not at all.
 */
package dev.tarpon.format;
