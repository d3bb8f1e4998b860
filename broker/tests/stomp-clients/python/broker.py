"""A broker of the test's own: started on free ports, on a folder that goes away, and stopped by its process."""

import os
import re
import signal
import subprocess
import tempfile
import threading

ADDRESS = re.compile(r"(http|stomp)://127\.0\.0\.1:(\d+)")


class Broker:
    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="bongsu-stomp-py-")
        self.http = self.stomp = 0
        self._spawn()

    def kill_and_restart(self):
        """Kills it without a word and starts it again, on the same addresses and data."""
        self._process.kill()
        self._end()
        self._spawn()

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        self._end()
        self._folder.cleanup()

    def _end(self):
        self._process.wait()
        self._rest.join()
        self._process.stdout.close()

    def _spawn(self):
        self._process = subprocess.Popen(
            [
                os.environ["BONGSU_BIN"],
                "serve",
                "--listen",
                f"127.0.0.1:{self.http}",
                "--data",
                self._folder.name,
                "--set",
                f"stomp.listen=127.0.0.1:{self.stomp}",
                "--set",
                "drain.spread=0s",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        found = {}
        for line in self._process.stdout:
            for kind, port in ADDRESS.findall(line):
                # The first one is that of clients; the administrators' follows.
                found.setdefault(kind, int(port))
            if len(found) == 2:
                break
        self.http, self.stomp = found["http"], found["stomp"]
        # What it says further must not fill the pipe.
        self._rest = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._rest.start()
