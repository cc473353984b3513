package dev.tarpon.quant.cli;

import dev.tarpon.Status;
import dev.tarpon.Tarpon;
import dev.tarpon.TarponException;
import dev.tarpon.format.FormatException;

import picocli.CommandLine;
import picocli.CommandLine.IExecutionExceptionHandler;
import picocli.CommandLine.ParseResult;

import java.io.FileNotFoundException;
import java.io.PrintWriter;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;

/** Turns an exception into one line for the reader and an exit code for the caller. */
final class ErrorReporter implements IExecutionExceptionHandler {
    @Override
    public int handleExecutionException(
            Exception exception, CommandLine commandLine, ParseResult parseResult) {
        PrintWriter err = commandLine.getErr();
        err.println("tarpon: " + message(exception));
        TarponCommand root = (TarponCommand) commandLine.getCommandSpec().root().userObject();
        if (root.isVerbose()) {
            exception.printStackTrace(err);
        }
        err.flush();
        return exitCode(exception);
    }

    private static String message(Exception exception) {
        return switch (exception) {
            case NoSuchFileException e when e.getReason() == null -> e.getFile() + ": no such file";
            case AccessDeniedException e -> e.getFile() + ": permission denied";
            default ->
                    exception.getMessage() == null ? exception.toString() : exception.getMessage();
        };
    }

    private static int exitCode(Exception exception) {
        return switch (exception) {
            case FormatException e -> ExitCode.BAD_INPUT;
            case NoSuchFileException e -> ExitCode.BAD_INPUT;
            case FileNotFoundException e -> ExitCode.BAD_INPUT;
            case FileSystemException e -> ExitCode.FAILURE;
            case TarponException e
                    when e.status() == Status.DEVICE_UNAVAILABLE || !Tarpon.isAvailable() ->
                    ExitCode.DEVICE_UNAVAILABLE;
            default -> ExitCode.FAILURE;
        };
    }
}
