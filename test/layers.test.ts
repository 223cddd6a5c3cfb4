import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, test } from "vitest";

/** docs/architecture.md's table: what each folder of src/ may import besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  types: [],
  codec: ["core"],
  io: ["core", "codec"],
  elf: ["core"],
  x86: ["core"],
  vmx: ["core", "x86"],
  svm: ["core", "x86"],
  kernel: ["core", "elf", "x86"],
  dump: ["core", "io", "codec", "elf", "x86"],
  kvm: ["core", "x86", "vmx", "kernel"],
  qemu: ["core", "elf", "x86"],
  guest: ["core", "io", "codec", "elf", "x86", "vmx", "svm", "kernel", "kvm", "dump", "qemu"],
  vmcore: ["core", "io", "codec", "elf", "x86", "guest"],
  triage: ["core", "codec", "kernel"],
  jobs: [
    "core",
    "io",
    "codec",
    "elf",
    "x86",
    "vmx",
    "svm",
    "kernel",
    "kvm",
    "dump",
    "qemu",
    "guest",
    "vmcore",
    "triage",
  ],
  report: ["core", "elf", "x86", "vmx", "svm", "kernel", "kvm", "guest", "vmcore", "triage", "jobs"],
  cli: ["core", "io", "jobs", "report"],
};

/** Node modules that reach outside the process, and the only folders that may use them. */
const GUARDED: Readonly<Record<string, readonly string[]>> = {
  "node:fs": ["io"],
  "node:zlib": ["io", "codec"],
  "node:worker_threads": ["io"],
  "node:child_process": [],
};

const root = join(import.meta.dirname, "..", "src");
const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));

const importsOf = (file: string): string[] =>
  [...readFileSync(join(root, file), "utf8").matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map(
    ([, name]) => name!,
  );

const folderOf = (file: string): string => (file.includes("/") ? file.split("/")[0]! : "");

describe("import rules", () => {
  test("every folder of src/ has a rule", () => {
    const folders = new Set(files.map(folderOf).filter((folder) => folder !== ""));
    expect([...folders].sort()).toEqual(Object.keys(MAY_IMPORT).sort());
  });

  test.each(files.filter((file) => folderOf(file) !== ""))("%s imports only what its folder may", (file) => {
    const folder = folderOf(file);
    for (const name of importsOf(file)) {
      if (!name.startsWith(".")) continue;
      const target = folderOf(relative(root, join(root, file, "..", name)));
      if (target !== folder) expect(MAY_IMPORT[folder], `${file} imports ${name}`).toContain(target);
    }
  });

  test.each(Object.entries(GUARDED))("%s is used only in %s", (module, allowed) => {
    const users = files.filter((file) => importsOf(file).some((name) => name.startsWith(module)));
    expect(users.filter((file) => !allowed.includes(folderOf(file)))).toEqual([]);
  });

  test("only cli/ touches the process or the console", () => {
    const users = files.filter(
      (file) =>
        folderOf(file) !== "cli" &&
        /\bprocess\.(env|argv|stdin|stdout|stderr|exit|exitCode|on|cwd|pid)\b|(?<![-/])\bconsole\./.test(
          withoutComments(file),
        ),
    );
    expect(users).toEqual([]);
  });
});

const withoutComments = (file: string): string =>
  readFileSync(join(root, file), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
