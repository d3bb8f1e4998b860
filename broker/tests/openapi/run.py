"""Runs every check of Schemathesis against the admin API of a node, as an administrator and as nobody, and prints the counts as Node.js does.

`BONGSU_BIN` is the broker. `OPENAPI_EXAMPLES` says how many requests are made up for each operation, 20 by default.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

ADMIN = re.compile(r"(http://127\.0\.0\.1:\d+)")
TOKEN = "an administrator of the tests"
HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = os.path.join(HERE, "schemathesis.toml")
# What never ends by itself is no answer that this suite could judge.
ENDLESS = r"/(tail|trace)$"


class Node:
    """A node on free ports, on a folder that goes away."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="bongsu-openapi-")
        config = os.path.join(self._folder.name, "bongsu.toml")
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        with open(config, "w", encoding="utf-8") as file:
            file.write('listen = "127.0.0.1:0"\n[drain]\nspread = "0s"\n[admin]\nlisten = "127.0.0.1:0"\n')
            file.write(f'[[admin.tokens]]\nname = "tests"\nsha256 = "{digest}"\nrole = "admin"\n')
        self._process = subprocess.Popen(
            [os.environ["BONGSU_BIN"], "serve", "--config", config, "--data", self._folder.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        found = []
        for line in self._process.stdout:
            found += ADMIN.findall(line)
            if len(found) == 2:
                break
        self.admin = found[1]
        # What it says further must not fill the pipe.
        self._rest = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._rest.start()

    def document(self):
        """What the node says of its own API."""
        request = urllib.request.Request(f"{self.admin}/v1/openapi.json")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        self._rest.join()
        self._process.stdout.close()
        self._folder.cleanup()


def check(node, headers):
    """One run; whether nothing failed."""
    command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--config-file", CONFIG]
    command += ["run", "openapi.json"]
    command += ["--url", node.admin, "--checks", "all", "--continue-on-failure", "--no-color", "--seed", "1"]
    command += ["--max-examples", os.environ.get("OPENAPI_EXAMPLES", "20"), "--no-shrink"]
    command += ["--generation-database", "none", "--request-timeout", "30", "--exclude-path-regex", ENDLESS]
    # A key that is made up is none of ours: nothing but 401 is due, which the run as nobody sees.
    command += ["--generation-with-security-parameters", "false"]
    for header in headers:
        command += ["--header", header]
    # Its folder takes what the suite leaves behind.
    with tempfile.TemporaryDirectory(prefix="bongsu-openapi-run-") as folder:
        with open(os.path.join(folder, "openapi.json"), "wb") as file:
            file.write(node.document())
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": HERE, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode == 0


def main() -> int:
    results = []
    for name, headers in [("an administrator", [f"Authorization: Bearer {TOKEN}"]), ("nobody", [])]:
        node = Node()
        try:
            is_well = check(node, headers)
        finally:
            node.stop()
        print(f"{'ok' if is_well else 'not ok'} - every check passes for {name}")
        results.append(is_well)
    print(f"# pass {results.count(True)}")
    print(f"# fail {results.count(False)}")
    print("# skipped 0")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
