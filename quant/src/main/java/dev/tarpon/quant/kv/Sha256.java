package dev.tarpon.quant.kv;

import dev.tarpon.format.HostTensor;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;

/** SHA-256 in hexadecimal, by which files are recognised. */
public final class Sha256 {
    private static final long CHUNK_BYTES = 64L << 20;

    private Sha256() {}

    /** A digest to be fed. */
    static MessageDigest digest() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java platform has SHA-256", e);
        }
    }

    static String text(MessageDigest digest) {
        return HexFormat.of().formatHex(digest.digest());
    }

    /** Of a file's content. */
    public static String of(Path file) throws IOException {
        MessageDigest digest = digest();
        try (InputStream in = new DigestInputStream(Files.newInputStream(file), digest)) {
            in.transferTo(OutputStream.nullOutputStream());
        }
        return text(digest);
    }

    /** Of tensors' bytes, one after the other. */
    public static String of(List<HostTensor> tensors) {
        MessageDigest digest = digest();
        for (HostTensor tensor : tensors) {
            MemorySegment data = tensor.data();
            for (long done = 0; done < data.byteSize(); done += CHUNK_BYTES) {
                long count = Math.min(CHUNK_BYTES, data.byteSize() - done);
                digest.update(data.asSlice(done, count).asByteBuffer());
            }
        }
        return text(digest);
    }
}
