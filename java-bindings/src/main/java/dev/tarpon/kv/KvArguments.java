package dev.tarpon.kv;

import dev.tarpon.Tensor;
import dev.tarpon.ffi.tarpon_kv_append_args;
import dev.tarpon.ffi.tarpon_kv_attend_args;
import dev.tarpon.ffi.tarpon_kv_dequantize_args;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** The structs and arrays that calls with one batch read, so that calls allocate nothing. */
final class KvArguments {
    private final MemorySegment append;
    private final MemorySegment attend;
    private final MemorySegment dequantize;
    private final Tensor[][] byCount = {new Tensor[4], new Tensor[5], new Tensor[6]};

    KvArguments() {
        Arena arena = Arena.ofAuto();
        append = tarpon_kv_append_args.allocate(arena);
        attend = tarpon_kv_attend_args.allocate(arena);
        dequantize = tarpon_kv_dequantize_args.allocate(arena);
    }

    private static long addressOrNull(Tensor tensor) {
        return tensor == null ? 0 : tensor.address();
    }

    MemorySegment append(
            KvBatch batch,
            KvSinks sinks,
            Tensor pages,
            long pageCount,
            Tensor recent,
            Tensor k,
            Tensor v) {
        tarpon_kv_append_args.k(append, k.address());
        tarpon_kv_append_args.v(append, v.address());
        tarpon_kv_append_args.tokens(append, batch.tokens());
        tarpon_kv_append_args.slots(append, batch.slotsAddress());
        tarpon_kv_append_args.positions(append, batch.positionsAddress());
        tarpon_kv_append_args.rows(append, batch.rowsAddress());
        tarpon_kv_append_args.batch(append, batch.sequences());
        tarpon_kv_append_args.lengths(append, batch.lengthsAddress());
        tarpon_kv_append_args.recent_index(append, batch.recentIndexAddress());
        tarpon_kv_append_args.pages(append, pages.address());
        tarpon_kv_append_args.page_count(append, pageCount);
        tarpon_kv_append_args.recent(append, addressOrNull(recent));
        tarpon_kv_append_args.sink_positions(append, sinks == null ? 0 : sinks.memory().address());
        return append;
    }

    MemorySegment attend(
            KvBatch batch,
            int queries,
            KvSinks sinks,
            Tensor pages,
            long pageCount,
            Tensor recent,
            Tensor q,
            Tensor o) {
        tarpon_kv_attend_args.queries(attend, queries);
        tarpon_kv_attend_args.q(attend, q.address());
        tarpon_kv_attend_args.o(attend, o.address());
        tarpon_kv_attend_args.batch(attend, batch.sequences());
        tarpon_kv_attend_args.page_table(attend, batch.pageTableAddress());
        tarpon_kv_attend_args.table_stride(attend, batch.tableStride());
        tarpon_kv_attend_args.lengths(attend, batch.lengthsAddress());
        tarpon_kv_attend_args.max_length(attend, batch.maxLength());
        tarpon_kv_attend_args.recent_index(attend, batch.recentIndexAddress());
        tarpon_kv_attend_args.pages(attend, pages.address());
        tarpon_kv_attend_args.page_count(attend, pageCount);
        tarpon_kv_attend_args.recent(attend, addressOrNull(recent));
        tarpon_kv_attend_args.sink_positions(attend, sinks == null ? 0 : sinks.memory().address());
        return attend;
    }

    MemorySegment dequantize(
            KvBatch batch,
            KvSinks sinks,
            Tensor pages,
            long pageCount,
            Tensor recent,
            Tensor k,
            Tensor v) {
        tarpon_kv_dequantize_args.k(dequantize, k.address());
        tarpon_kv_dequantize_args.v(dequantize, v.address());
        tarpon_kv_dequantize_args.tokens(dequantize, batch.tokens());
        tarpon_kv_dequantize_args.slots(dequantize, batch.slotsAddress());
        tarpon_kv_dequantize_args.positions(dequantize, batch.positionsAddress());
        tarpon_kv_dequantize_args.rows(dequantize, batch.rowsAddress());
        tarpon_kv_dequantize_args.batch(dequantize, batch.sequences());
        tarpon_kv_dequantize_args.lengths(dequantize, batch.lengthsAddress());
        tarpon_kv_dequantize_args.recent_index(dequantize, batch.recentIndexAddress());
        tarpon_kv_dequantize_args.pages(dequantize, pages.address());
        tarpon_kv_dequantize_args.page_count(dequantize, pageCount);
        tarpon_kv_dequantize_args.recent(dequantize, addressOrNull(recent));
        tarpon_kv_dequantize_args.sink_positions(
                dequantize, sinks == null ? 0 : sinks.memory().address());
        return dequantize;
    }

    /** The tensors whose addresses a call has. */
    Tensor[] operands(
            KvBatch batch,
            KvSinks sinks,
            Tensor pages,
            Tensor recent,
            Tensor first,
            Tensor second) {
        int count = 4;
        if (recent != null) {
            count++;
        }
        if (sinks != null) {
            count++;
        }
        Tensor[] operands = byCount[count - 4];
        operands[0] = batch.memory();
        operands[1] = pages;
        operands[2] = first;
        operands[3] = second;
        if (sinks != null) {
            operands[--count] = sinks.memory();
        }
        if (recent != null) {
            operands[--count] = recent;
        }
        return operands;
    }
}
