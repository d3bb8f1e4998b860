// What the README shows compiles.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";

it("the examples of the README type-check", async () => {
  const root = fileURLToPath(new URL("../../../", import.meta.url));
  const readme = await readFile(join(root, "README.md"), "utf8");
  const examples = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code as string);
  assert.ok(examples.length >= 5);
  const folder = join(root, "build", "readme");
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  for (const [i, code] of examples.entries()) await writeFile(join(folder, `example${i + 1}.ts`), code);
  const compilerOptions = { rootDir: ".", noEmit: true, declaration: false, types: ["node"] };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ extends: "../../tsconfig.json", compilerOptions, include: ["."] }));
  const { status, stdout } = spawnSync(process.execPath, [join(root, "node_modules", "typescript", "bin", "tsc"), "-p", folder], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});
