package dev.tarpon;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tarpon.ffi.tarpon_h;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

import java.util.List;
import java.util.Optional;

/** What is there, and the enums that mirror the header. */
class TarponTest {
    @Test
    void libraryIsThere() {
        assertTrue(Tarpon.isAvailable());
        assertEquals(Optional.empty(), Tarpon.unavailableReason());
        assertEquals(
                "%d.%d.%d"
                        .formatted(
                                tarpon_h.TARPON_VERSION_MAJOR,
                                tarpon_h.TARPON_VERSION_MINOR,
                                tarpon_h.TARPON_VERSION_PATCH),
                Tarpon.version());
        assertEquals(tarpon_h.TARPON_ABI_VERSION, Tarpon.abiVersion());
        assertEquals(System.getProperty("dev.tarpon.library.path"), Tarpon.libraryPath());
    }

    @ParameterizedTest
    @EnumSource
    void aKindIsThereOrSaysWhyNot(DeviceKind kind) {
        boolean available = Tarpon.deviceCount(kind) > 0;
        assertEquals(available, Tarpon.unavailableReason(kind).isEmpty());
    }

    @Test
    void devicesBeginWithTheCpu() {
        List<DeviceInfo> devices = Tarpon.devices();
        DeviceInfo cpu = devices.getFirst();
        assertEquals(DeviceKind.CPU, cpu.kind());
        assertEquals("cpu:0", cpu.spec());
        assertFalse(cpu.name().isBlank());
        assertFalse(cpu.isa().isBlank());
        assertEquals(0, cpu.computeCapability());
        assertTrue(cpu.memoryBytes() > 0);
    }

    @ParameterizedTest
    @MethodSource("dev.tarpon.TestDevices#all")
    void devicesDescribeThemselves(String spec) {
        try (Device device = TestDevices.open(spec)) {
            DeviceInfo info = device.info();
            assertEquals(spec + ":0", info.spec());
            assertEquals("Device " + spec + ":0", device.toString());
            assertTrue(info.processorCount() > 0, info::toString);
            assertEquals(info.kind() == DeviceKind.CPU, info.computeCapability() == 0);
        }
    }

    @Test
    void threadCountIsTaken() {
        try (Device device = Device.open(DeviceKind.CPU, 0, new DeviceOptions(1))) {
            assertEquals(1, device.info().processorCount());
        }
    }

    @ParameterizedTest
    @EnumSource
    void statusesMirrorTheHeader(Status status) {
        assertEquals(status, Status.of(status.id()));
        String name = NativeStrings.read(tarpon_h.tarpon_status_name(status.id()));
        String expected = status == Status.OK ? "TARPON_OK" : "TARPON_ERROR_" + status;
        assertEquals(expected, name);
    }
}
