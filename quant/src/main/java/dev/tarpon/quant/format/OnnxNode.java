package dev.tarpon.quant.format;

import java.util.List;
import java.util.Map;

/**
 * One operation of an ONNX graph.
 *
 * @param name its name, often the path of the module it was exported from; may be empty
 * @param opType such as MatMul
 * @param inputs names of values; empty text for an optional input that is absent
 * @param outputs names of values
 * @param integers its attributes that are single integers
 */
public record OnnxNode(
        String name,
        String opType,
        List<String> inputs,
        List<String> outputs,
        Map<String, Long> integers) {}
