/**
 * What schemes of low-bit caches do to keys and values of real models, and to a language model's
 * predictions: measurement, table and picture.
 */
package dev.tarpon.quant.kvreport;
