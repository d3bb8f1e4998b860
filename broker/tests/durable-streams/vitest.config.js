import { defineConfig } from "vitest/config";

export default defineConfig({
  // Far beyond what anything takes on a busy machine: the suite's own bounds are for a machine that does nothing else.
  test: { testTimeout: 120_000, hookTimeout: 120_000, reporters: ["default", "./counts.js"] },
});
