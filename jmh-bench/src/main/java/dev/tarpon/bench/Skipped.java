package dev.tarpon.bench;

/** Something that was asked for and could not be measured here. */
record Skipped(String what, String reason) {}
