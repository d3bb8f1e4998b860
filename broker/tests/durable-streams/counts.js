// Prints what `cargo xtask test` counts. Tests that the suite itself leaves out, since a server need not do what they are about, are
// named and counted neither way.

export default class Counts {
  onTestRunEnd(modules) {
    const counts = { passed: 0, failed: 0 };
    for (const module of modules) {
      counts.failed += module.errors().length;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state in counts) counts[state] += 1;
        else console.log(`left out: ${test.fullName}`);
      }
    }
    console.log(`# pass ${counts.passed}\n# fail ${counts.failed}`);
  }
}
