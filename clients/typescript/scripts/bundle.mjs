// Joins the compiled modules into the one ES module that the broker serves to browsers.
//
//   node scripts/bundle.mjs ../../broker/assets/bongsu.js          writes it
//   node scripts/bundle.mjs --check ../../broker/assets/bongsu.js  fails if it is not what would be written
//
// Small on purpose: the modules import from each other only, by lines that the compiler writes, and share one scope without
// a clash of names (the result is loaded here, so a clash is an error here and not in a browser).

import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [first, second] = process.argv.slice(2);
const isCheck = first === "--check";
const target = isCheck ? second : first;
if (target === undefined) throw new Error("usage: bundle.mjs [--check] FILE");

const compiled = join(dirname(fileURLToPath(import.meta.url)), "..", "build", "browser");
const IMPORT = /^import \{[^}]*\} from "\.\/([a-z]+)\.js";\n/gm;
const modules = new Map();
collect("client");
collect("presence");
collect("error");
collect("subscription");

const names = ["Client", "BongsuError", "Presence", "PresenceWatch", "Subscription"];
const bundle =
  "// The client of clients/typescript in one file. Made by `npm run bundle` there; do not edit.\n\n" +
  [...modules.values()].join("\n") +
  `\nexport { ${names.join(", ")} };\n`;

const loaded = await import(`data:text/javascript;base64,${Buffer.from(bundle).toString("base64")}`);
for (const name of names) {
  if (typeof loaded[name] !== "function") throw new Error(`${name} is missing`);
}

if (!isCheck) {
  writeFileSync(target, bundle);
} else if (readFileSync(target, "utf8") !== bundle) {
  console.error(`${target} is out of date: run \`npm run bundle\` in clients/typescript and commit the result`);
  process.exit(1);
}

/** Adds a module after those that it imports. */
function collect(name) {
  if (modules.has(name)) return;
  const source = readFileSync(join(compiled, `${name}.js`), "utf8");
  modules.set(name, "");
  for (const [, imported] of source.matchAll(IMPORT)) collect(imported);
  // Once more, so that it comes after what it imports.
  modules.delete(name);
  const body = source.replaceAll(IMPORT, "").replaceAll(/^export (?=(async function|class|const|function|let) )/gm, "");
  if (/^\s*(import|export)\b/m.test(body)) throw new Error(`${name}: a form of import or export that this does not know`);
  modules.set(name, body);
}
