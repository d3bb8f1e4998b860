"""Runs every test beside this file, and prints the counts as Node.js does."""

import sys
import unittest


def main() -> int:
    suite = unittest.defaultTestLoader.discover(".", pattern="*_test.py")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    n_failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"# pass {result.testsRun - n_failed - len(result.skipped)}")
    print(f"# fail {n_failed}")
    print(f"# skipped {len(result.skipped)}")
    return 0 if n_failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
