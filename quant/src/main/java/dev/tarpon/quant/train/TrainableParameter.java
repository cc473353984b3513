package dev.tarpon.quant.train;

/**
 * A parameter and its gradient, each as rows; a norm's weight is one row.
 *
 * @param name the full name in files
 * @param value [rows, columns]
 * @param gradient [rows, columns]; a backward pass overwrites it
 */
record TrainableParameter(String name, float[][] value, float[][] gradient) {
    /** A parameter of zeros. */
    TrainableParameter(String name, int rows, int columns) {
        this(name, new float[rows][columns], new float[rows][columns]);
    }

    int rows() {
        return value.length;
    }

    int columns() {
        return value[0].length;
    }

    boolean isMatrix() {
        return rows() > 1;
    }
}
