package dev.tarpon.optim;

import dev.tarpon.DType;
import dev.tarpon.Device;
import dev.tarpon.Tensor;

import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/**
 * An embedding that trains stably with 8-bit optimizers (Dettmers et al., "8-bit Optimizers via
 * Block-wise Quantization", section 2.3): the table starts from Xavier's uniform distribution
 * rather than a normal one, whose extreme values would coarsen a block; each row that is looked up
 * passes a layer norm; and the table's states are of 32 bits, since its gradients, most of them
 * zero, differ from row to row by orders of magnitude.
 *
 * <p>The tensors are fp32 on the device and are what an optimizer steps. {@link #forward} and
 * {@link #backward} compute on the host, for examples and tests; a program with kernels of its own
 * takes {@link #parameters} and leaves them be.
 *
 * <p>Not thread-safe.
 */
public final class StableEmbedding implements AutoCloseable {
    /** What keeps a row's standard deviation from 0, as in PyTorch's layer norm. */
    public static final double EPS = 1e-5;

    private final int rows;
    private final int columns;
    private final Parameter table;
    private final Parameter scale;
    private final Parameter shift;

    private StableEmbedding(
            int rows, int columns, Parameter table, Parameter scale, Parameter shift) {
        this.rows = rows;
        this.columns = columns;
        this.table = table;
        this.scale = scale;
        this.shift = shift;
    }

    /**
     * Allocates a table of {@link #xavierUniform}, a norm of ones and zeros, and gradients of
     * zeros.
     *
     * @param name what {@code .weight}, {@code .norm.weight} and {@code .norm.bias} follow
     * @param rows the vocabulary; >= 1
     * @param columns of a row; >= 1
     * @param seed of the table's values
     */
    public static StableEmbedding create(
            Device device, String name, int rows, int columns, long seed) {
        Objects.requireNonNull(device, "device");
        Objects.requireNonNull(name, "name");
        float[] values = xavierUniform(rows, columns, seed);
        float[] ones = new float[columns];
        Arrays.fill(ones, 1);
        return new StableEmbedding(
                rows,
                columns,
                parameter(device, name + ".weight", values, rows, columns)
                        .withStateFormat(StateFormat.F32),
                parameter(device, name + ".norm.weight", ones, columns),
                parameter(device, name + ".norm.bias", new float[columns], columns));
    }

    /**
     * Values uniform between plus and minus sqrt(6 / (rows + columns)), row-major (Glorot and
     * Bengio, "Understanding the difficulty of training deep feedforward neural networks").
     */
    public static float[] xavierUniform(int rows, int columns, long seed) {
        if (rows < 1 || columns < 1) {
            throw new IllegalArgumentException(
                    "an embedding is %d x %d; both must be >= 1".formatted(rows, columns));
        }
        // Named, since the default generator may change between releases of Java.
        RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
        float bound = (float) Math.sqrt(6 / ((double) rows + columns));
        float[] values = new float[Math.multiplyExact(rows, columns)];
        for (int i = 0; i < values.length; i++) {
            values[i] = (2 * random.nextFloat() - 1) * bound;
        }
        return values;
    }

    private static Parameter parameter(Device device, String name, float[] values, long... shape) {
        Tensor value = device.allocate(DType.F32, shape).copyFrom(values);
        Tensor gradient = device.allocate(DType.F32, shape).copyFrom(new float[values.length]);
        return new Parameter(name, value, gradient);
    }

    /** The table, with states of 32 bits whatever its size. */
    public Parameter table() {
        return table;
    }

    /** The layer norm's weight and bias, for a group without weight decay. */
    public List<Parameter> norm() {
        return List.of(scale, shift);
    }

    /** All of them: the table, the norm's weight, its bias. */
    public List<Parameter> parameters() {
        return List.of(table, scale, shift);
    }

    /**
     * Looks rows up and normalises them.
     *
     * @param ids rows of the table
     * @return [ids.length, columns]
     * @throws IllegalArgumentException if an id is none of the table's rows
     */
    public float[] forward(int[] ids) {
        float[] values = table.value().toFloatArray();
        float[] weight = scale.value().toFloatArray();
        float[] bias = shift.value().toFloatArray();
        float[] output = new float[Math.multiplyExact(ids.length, columns)];
        for (int i = 0; i < ids.length; i++) {
            Row row = row(values, ids[i]);
            for (int j = 0; j < columns; j++) {
                output[i * columns + j] = (float) (row.normal(j) * weight[j] + bias[j]);
            }
        }
        return output;
    }

    /**
     * Replaces the gradients by those of one {@link #forward}; rows that were not looked up have
     * zeros, and an id that occurs twice adds up.
     *
     * @param outputGradient of the loss by what forward returned
     */
    public void backward(int[] ids, float[] outputGradient) {
        if (outputGradient.length != Math.multiplyExact(ids.length, columns)) {
            throw new IllegalArgumentException(
                    "%d ids of %d columns have a gradient of %d elements, not %d"
                            .formatted(
                                    ids.length,
                                    columns,
                                    ids.length * columns,
                                    outputGradient.length));
        }
        float[] values = table.value().toFloatArray();
        float[] weight = scale.value().toFloatArray();
        double[] tableGradient = new double[values.length];
        double[] scaleGradient = new double[columns];
        double[] shiftGradient = new double[columns];
        for (int i = 0; i < ids.length; i++) {
            Row row = row(values, ids[i]);
            // With x^ = (x - mean) / deviation and d = dy * weight:
            // dx = (d - mean(d) - x^ * mean(d * x^)) / deviation
            double mean = 0;
            double along = 0;
            for (int j = 0; j < columns; j++) {
                double dy = outputGradient[i * columns + j];
                mean += dy * weight[j] / columns;
                along += dy * weight[j] * row.normal(j) / columns;
                scaleGradient[j] += dy * row.normal(j);
                shiftGradient[j] += dy;
            }
            for (int j = 0; j < columns; j++) {
                double d = (double) outputGradient[i * columns + j] * weight[j];
                tableGradient[row.begin + j] += (d - mean - row.normal(j) * along) / row.deviation;
            }
        }
        write(tableGradient, table);
        write(scaleGradient, scale);
        write(shiftGradient, shift);
    }

    private record Row(float[] values, int begin, double mean, double deviation) {
        double normal(int column) {
            return (values[begin + column] - mean) / deviation;
        }
    }

    private Row row(float[] values, int id) {
        if (id < 0 || id >= rows) {
            throw new IllegalArgumentException(
                    "id %d is none of the table's %d rows".formatted(id, rows));
        }
        int begin = id * columns;
        double mean = 0;
        for (int j = 0; j < columns; j++) {
            mean += (double) values[begin + j] / columns;
        }
        double variance = 0;
        for (int j = 0; j < columns; j++) {
            double distance = values[begin + j] - mean;
            variance += distance * distance / columns;
        }
        return new Row(values, begin, mean, Math.sqrt(variance + EPS));
    }

    private static void write(double[] gradient, Parameter parameter) {
        float[] rounded = new float[gradient.length];
        for (int i = 0; i < gradient.length; i++) {
            rounded[i] = (float) gradient[i];
        }
        parameter.gradient().copyFrom(rounded);
    }

    /** Frees values and gradients. Idempotent. */
    @Override
    public void close() {
        for (Parameter parameter : parameters()) {
            parameter.value().close();
            parameter.gradient().close();
        }
    }
}
