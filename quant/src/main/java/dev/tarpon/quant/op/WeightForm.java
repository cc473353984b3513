package dev.tarpon.quant.op;

import java.util.List;

/** How a file holds the weight of a linear layer. */
public enum WeightForm {
    /** [N, K] in fp16, bf16 or fp32, as torch keeps it. */
    WEIGHT("weight"),
    /** Codes and scales in plain order. */
    CODES("codes", "scales"),
    /** MARLIN order. */
    QWEIGHT("qweight", "scales_packed");

    private final List<String> tensors;

    WeightForm(String... tensors) {
        this.tensors = List.of(tensors);
    }

    /** The tensors' names; the first tells the form. */
    public List<String> tensors() {
        return tensors;
    }

    /** The name on the command line. */
    @Override
    public String toString() {
        return tensors.getFirst();
    }
}
