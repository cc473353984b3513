package dev.tarpon.quant.op;

import dev.tarpon.GgufType;
import dev.tarpon.WeightType;

import java.nio.file.Path;

/**
 * Where the weight of a linear layer is and in what format; null where the command line says
 * nothing.
 *
 * @param format the format
 * @param weightType what plain codes are
 * @param ggufType what the tensor "blocks" of a safetensors file is
 * @param weights the file with the weight, if it is not the input
 * @param tensor the tensor of a .gguf file
 */
public record FormatOptions(
        CheckpointFormat format,
        WeightType weightType,
        GgufType ggufType,
        Path weights,
        String tensor) {}
