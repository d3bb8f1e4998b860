package bongsu;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** A broker in a process of its own, on free ports and a folder that goes away. */
final class TestBroker implements AutoCloseable {
  private static final Pattern ADDRESS = Pattern.compile("(http|stomp)://127\\.0\\.0\\.1:(\\d+)");

  private final Path folder = Files.createTempDirectory("bongsu-spring-");
  private Process process;
  private int http;
  private int stomp;

  TestBroker() throws IOException {
    spawn();
  }

  int http() {
    return http;
  }

  int stomp() {
    return stomp;
  }

  /** Kills it without a word and starts it again, on the same addresses and data. */
  void killAndRestart() throws IOException, InterruptedException {
    process.destroyForcibly().waitFor();
    spawn();
  }

  private void spawn() throws IOException {
    List<String> command = new ArrayList<>(List.of(System.getenv("BONGSU_BIN"), "serve", "--data", folder.toString()));
    command.addAll(List.of("--listen", "127.0.0.1:" + http, "--set", "stomp.listen=127.0.0.1:" + stomp));
    command.addAll(List.of("--set", "drain.spread=0s"));
    ProcessBuilder builder = new ProcessBuilder(command);
    builder.redirectError(ProcessBuilder.Redirect.to(new File("/dev/null")));
    process = builder.start();
    BufferedReader output = new BufferedReader(new InputStreamReader(process.getInputStream()));
    int found = 0;
    for (String line = output.readLine(); found < 2 && line != null; line = found < 2 ? output.readLine() : line) {
      Matcher address = ADDRESS.matcher(line);
      // The administrators' port is no client's.
      if (!line.startsWith("administrators") && address.find()) {
        found += 1;
        int port = Integer.parseInt(address.group(2));
        if (address.group(1).equals("http")) http = port;
        else stomp = port;
      }
    }
    if (found < 2) throw new IOException("the broker did not say where it listens");
    // What it says further must not fill the pipe.
    Thread rest = new Thread(() -> output.lines().forEach(line -> {}));
    rest.setDaemon(true);
    rest.start();
  }

  @Override
  public void close() throws IOException, InterruptedException {
    process.destroy();
    process.waitFor();
    try (Stream<Path> files = Files.walk(folder)) {
      files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
    }
  }
}
