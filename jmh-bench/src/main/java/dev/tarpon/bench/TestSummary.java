package dev.tarpon.bench;

import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.w3c.dom.NodeList;
import org.xml.sax.SAXException;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.parsers.ParserConfigurationException;

/**
 * Counts passed, failed and skipped tests in the reports of ctest and JUnit, with the reason of
 * every skip. gpu-check uses it from benchmarks.jar; .ci/run starts this file by itself, before
 * anything is built and under the JDK that Maven runs on, so it keeps to Java 17 and to one file:
 *
 * <pre>java TestSummary.java native/target/cmake/ctest.xml java-bindings/target/surefire-reports
 * </pre>
 *
 * Arguments are JUnit XML files, directories with TEST-*.xml files, and plain text files of which
 * each line is a skip. What does not exist counts as a failure: a report that was expected is
 * missing.
 */
public final class TestSummary {
    /** A test that failed or was skipped. */
    public record Event(String suite, String test, String reason) {
        @Override
        public String toString() {
            return suite + ": " + test + ": " + reason;
        }
    }

    /** What native tests print for what they leave out: "skipped test_run: no CUDA device". */
    private static final Pattern SKIP_LINE =
            Pattern.compile("^\\s*skip(?:ped)?\\b[:\\s]+(.*)$", Pattern.CASE_INSENSITIVE);

    /** The closing line of a native test program, which holds many tests. */
    private static final Pattern COUNTS =
            Pattern.compile("^(\\d+) passed, (\\d+) failed, (\\d+) skipped$", Pattern.MULTILINE);

    private int passed;
    private final List<Event> failed = new ArrayList<>();
    private final List<Event> skipped = new ArrayList<>();

    public int passed() {
        return passed;
    }

    public List<Event> failed() {
        return failed;
    }

    public List<Event> skipped() {
        return skipped;
    }

    public static void main(String[] arguments) {
        TestSummary summary = new TestSummary();
        for (String argument : arguments) {
            summary.add(Path.of(argument));
        }
        summary.skippedByReason()
                .forEach(
                        (reason, tests) -> {
                            System.out.println("skipped  " + reason);
                            tests.forEach(test -> System.out.println("           " + test));
                        });
        summary.failed.forEach(event -> System.out.println("FAILED   " + event));
        System.out.println(summary.line());
        System.exit(summary.failed.isEmpty() && summary.passed > 0 ? 0 : 1);
    }

    /** "N passed, N failed, N skipped". */
    public String line() {
        return passed + " passed, " + failed.size() + " failed, " + skipped.size() + " skipped";
    }

    /** Many tests are skipped for one and the same reason: "suite: test" under each. */
    public Map<String, List<String>> skippedByReason() {
        Map<String, List<String>> reasons = new LinkedHashMap<>();
        for (Event event : skipped) {
            reasons.computeIfAbsent(event.reason(), reason -> new ArrayList<>())
                    .add(event.suite() + ": " + event.test());
        }
        return reasons;
    }

    /** Adds a report, a directory of reports, or a file that lists skips. */
    public void add(Path path) {
        try {
            if (Files.isDirectory(path)) {
                try (Stream<Path> files = Files.list(path)) {
                    List<Path> reports =
                            files.filter(f -> f.getFileName().toString().matches("TEST-.*\\.xml"))
                                    .sorted()
                                    .toList();
                    for (Path report : reports) {
                        addXml(report);
                    }
                }
            } else if (path.toString().endsWith(".xml")) {
                addXml(path);
            } else {
                addSkipLines("build", "check", Files.readString(path));
            }
        } catch (IOException | SAXException | ParserConfigurationException unreadable) {
            failed.add(new Event(path.toString(), "report", "cannot be read: " + unreadable));
        }
    }

    private void addXml(Path path) throws IOException, SAXException, ParserConfigurationException {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        String suite = suiteName(path);
        File file = path.toFile();
        NodeList tests = factory.newDocumentBuilder().parse(file).getElementsByTagName("testcase");
        for (int i = 0; i < tests.getLength(); i++) {
            addTest(suite, (Element) tests.item(i));
        }
    }

    private void addTest(String suite, Element test) {
        String type = test.getAttribute("classname");
        String name = test.getAttribute("name");
        String label = type.isEmpty() || type.equals(name) ? name : type + "." + name;
        String output = text(test, "system-out");
        Element failure = firstOf(test, "failure", "error");
        Element skip = firstOf(test, "skipped");
        if (failure != null) {
            failed.add(new Event(suite, label, firstLine(failure)));
        } else if (skip != null) {
            if (addSkipLines(suite, label, output) == 0) {
                skipped.add(new Event(suite, label, firstLine(skip)));
            }
        } else {
            addPassed(suite, label, output);
        }
    }

    /**
     * A passed test of ctest is a program of many tests, if it says so in its closing line. One
     * that reports failures and passes all the same is a test of the harness: its output is not to
     * be believed.
     */
    private void addPassed(String suite, String label, String output) {
        Matcher counts = COUNTS.matcher(output);
        boolean counted = counts.find();
        boolean trusted = !counted || (!counts.group(1).equals("0") && counts.group(2).equals("0"));
        passed += counted && trusted ? Integer.parseInt(counts.group(1)) : 1;
        if (trusted && suite.startsWith("ctest")) {
            addSkipLines(suite, label, output);
        }
    }

    /** Returns how many there were. */
    private int addSkipLines(String suite, String test, String output) {
        List<Event> events =
                output.lines()
                        .map(SKIP_LINE::matcher)
                        .filter(Matcher::find)
                        .map(line -> new Event(suite, test, line.group(1)))
                        .toList();
        skipped.addAll(events);
        return events.size();
    }

    /** "ctest cmake-asan" for native/target/cmake-asan/ctest.xml, else the file's directory. */
    private static String suiteName(Path path) {
        Path directory = path.toAbsolutePath().getParent();
        if (path.getFileName().toString().equals("ctest.xml")) {
            return "ctest " + directory.getFileName();
        }
        return "junit";
    }

    private static Element firstOf(Element parent, String... names) {
        for (String name : names) {
            NodeList found = parent.getElementsByTagName(name);
            if (found.getLength() > 0) {
                return (Element) found.item(0);
            }
        }
        return null;
    }

    private static String text(Element parent, String name) {
        NodeList found = parent.getElementsByTagName(name);
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < found.getLength(); i++) {
            Node node = found.item(i);
            text.append(node.getTextContent()).append('\n');
        }
        return text.toString();
    }

    /** The message of a failure or skip, or else the first line of its text. */
    private static String firstLine(Element element) {
        String message = element.getAttribute("message");
        String text = message.isBlank() ? element.getTextContent() : message;
        return text.strip()
                .lines()
                .findFirst()
                .orElse("its output above says why")
                .replaceFirst("^org\\.opentest4j\\.TestAbortedException: ", "")
                .replaceFirst("^Assumption failed: ", "");
    }
}
