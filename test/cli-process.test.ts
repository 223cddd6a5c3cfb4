import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { EventEmitter, once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runProcess } from "../src/cli/process.ts";
import { untilOpen } from "./support/process.ts";
import { buildKdump } from "./synth/kdump.ts";
import { patternBytes } from "./synth/pattern.ts";

/** The program as it is shipped, compiled into a directory of its own. */
const root = join(import.meta.dirname, "..");
const directory = mkdtempSync(join(tmpdir(), "guestcore-process-"));
const program = join(directory, "package/bin/guestcore.js");
afterAll(() => rmSync(directory, { recursive: true }));

beforeAll(() => {
  const home = join(directory, "package");
  mkdirSync(home);
  cpSync(join(root, "bin"), join(home, "bin"), { recursive: true });
  cpSync(join(root, "package.json"), join(home, "package.json"));
  symlinkSync(join(root, "node_modules"), join(home, "node_modules"));
  const tsc = join(root, "node_modules/.bin/tsc");
  spawnSync(tsc, ["-p", join(root, "tsconfig.build.json"), "--outDir", join(home, "dist")]);
  expect(existsSync(join(home, "dist/cli/process.js"))).toBe(true);
}, 120_000);

const shell = (command: string) => {
  const { stdout, stderr, status } = spawnSync("bash", ["-c", command, "bash", program], { cwd: directory });
  return { out: stdout.toString(), err: stderr.toString(), status };
};

/** A zstd frame of a few megabytes that unpacks to terabytes of zeros: work that does not end by itself. */
function endless(name: string): string {
  const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38]);
  const block = Buffer.alloc(4);
  block.writeUIntLE(128 * 1024 * 8 + 2, 0, 3);
  const path = join(directory, name);
  writeFileSync(path, Buffer.concat([header, Buffer.alloc(4 * 1_000_000, block)]));
  return path;
}

async function statusOf(child: ChildProcess): Promise<number | string | null> {
  const [code, signal] = await once(child, "exit");
  return code ?? signal;
}

describe("a dump on standard input", () => {
  const pages = new Map([1, 2, 700].map((pfn) => [pfn, patternBytes(4096, pfn)] as const));

  test.each([
    ["a pipe", 'cat dump | node "$1" convert - piped'],
    ["a file", 'node "$1" convert - piped < dump'],
    ["a compressed pipe", 'gzip -c dump | node "$1" convert - piped'],
    [
      "the stream that convert itself writes",
      'node "$1" convert dump - --format flat 2>/dev/null | node "$1" convert - piped',
    ],
    ["a FIFO", 'mkfifo fifo; cat dump > fifo & node "$1" convert - piped < fifo'],
  ])("from %s", (_, command) => {
    writeFileSync(join(directory, "dump"), buildKdump({ pages }));
    rmSync(join(directory, "piped"), { force: true });
    expect(shell(command)).toMatchObject({ status: 0, err: "" });
    shell('node "$1" convert dump named --force');
    const [piped, named] = [join(directory, "piped"), join(directory, "named")].map((path) =>
      readFileSync(path),
    );
    expect(piped!.equals(named!)).toBe(true);
  });

  test("info tells how to save it", () => {
    const { out } = shell('gzip -c dump | node "$1" info -');
    expect(out).toContain("cat > saved.dump && gunzip -c saved.dump > saved.dump.unpacked");
  });

  test("that is nothing", () => {
    expect(shell('printf "" | node "$1" convert - piped --force')).toMatchObject({ status: 3 });
    expect(shell('node "$1" convert - piped --force < /dev/null')).toMatchObject({ status: 3 });
  });
});

describe("signals", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("%s: status %d, one line, nothing left behind", { timeout: 30_000 }, async (signal, status) => {
    const input = endless("endless.zst");
    const temporary = mkdtempSync(join(directory, "tmp-"));
    const output = join(directory, "out.vmcore");
    const child = spawn(process.execPath, [program, "extract", input, "-o", output, "--tmpdir", temporary]);
    let err = "";
    child.stderr.on("data", (text: Buffer) => {
      err += text.toString();
    });
    await untilOpen(child, temporary);
    child.kill(signal);
    expect(await statusOf(child)).toBe(status);
    expect(err).toMatch(new RegExp(`^guestcore: .*interrupted by ${signal}\\n$`));
    expect(readdirSync(temporary)).toEqual([]);
    expect([existsSync(output), existsSync(`${output}.incomplete`)]).toEqual([false, false]);
  });

  /** A dump with a megabyte, and one whose memory lies far apart: gigabytes of zeros go to a pipe. */
  test.each([
    ["pages to a pipe", "elf", "fifo", Array.from({ length: 256 }, (_, pfn) => pfn)],
    ["zeros to a pipe", "raw", "fifo", [1, 2 ** 24]],
    ["records to a pipe", "flat", "fifo", Array.from({ length: 256 }, (_, pfn) => pfn)],
    // What a child of Node.js has, or of sshd.
    ["pages to a socket", "elf", "pipe", Array.from({ length: 256 }, (_, pfn) => pfn)],
  ] as const)(
    "are heard though nobody reads what is written: %s",
    { timeout: 30_000 },
    async (name, format, kind, pfns) => {
      const input = join(directory, `${name}.dump`);
      writeFileSync(input, buildKdump({ pages: new Map(pfns.map((pfn) => [pfn, patternBytes(4096, pfn)])) }));
      const options = format === "flat" ? ["--format", format, "--compress", "none"] : ["--format", format];
      const child = spawn(process.execPath, [program, "convert", input, "-", "-q", ...options], {
        stdio: ["ignore", kind === "pipe" ? kind : fifo(), "ignore"],
      });
      // Then it takes a moment until the pipe is full.
      await untilOpen(child, input);
      await setTimeout(700);
      const ended = statusOf(child);
      const began = performance.now();
      child.kill("SIGTERM");
      expect(await ended).toBe(143);
      expect(performance.now() - began).toBeLessThan(1000);
      child.stdout?.destroy();
    },
  );

  /** A pipe that has a reader, who does not read. */
  function fifo(): number {
    const path = join(directory, "unread");
    rmSync(path, { force: true });
    expect(shell("mkfifo unread").status).toBe(0);
    return openSync(path, "r+");
  }

  /** Runs the program; a signal reaches it while it writes its result, which is the last thing it does. */
  async function signalledAtTheEnd(signal: string, ...argv: string[]): Promise<number | string | null> {
    const code = `
      const write = process.stdout.write;
      process.stdout.write = function (...args) {
        process.kill(process.pid, "${signal}");
        return write.apply(this, args);
      };
      process.argv = ["node", "guestcore", ...JSON.parse(process.argv[1])];
      const { runProcess } = await import(${JSON.stringify(join(directory, "package/dist/cli/process.js"))});
      await runProcess(process);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", code, JSON.stringify(argv)]);
    child.stdout.resume();
    return statusOf(child);
  }

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("%s when the job has just ended: status %d all the same", async (signal, status) => {
    expect(await signalledAtTheEnd(signal, "explain", "RAM001")).toBe(status);
    // A command line that is wrong, whose error is told when the signal comes.
    expect(await signalledAtTheEnd(signal, "explain", "RAM999", "--json")).toBe(status);
  });

  test("when the output is complete under its name, the status says so", async () => {
    const output = join(directory, "complete.json");
    expect(await signalledAtTheEnd("SIGTERM", "explain", "RAM001", "--json-file", output)).toBe(0);
    expect(existsSync(output)).toBe(true);
  });

  test("a second signal does not wait for the job", async () => {
    /** As much of a process as runProcess uses. */
    class FakeProcess extends EventEmitter {
      readonly argv = ["node", "guestcore", "info", endless("second.zst"), "--tmpdir", directory];
      readonly env = {};
      readonly stdout = Object.assign(new EventEmitter(), { write: () => true });
      readonly stderr = Object.assign(new EventEmitter(), { write: () => true });
      readonly exits: number[] = [];
      exitCode: number | undefined;
      exit(code: number): void {
        this.exits.push(code);
      }
    }
    const fake = new FakeProcess();
    const finished = runProcess(fake as unknown as NodeJS.Process);
    fake.emit("SIGINT");
    expect(fake.exits).toEqual([]);
    fake.emit("SIGTERM");
    expect(fake.exits).toEqual([143]);
    await finished;
    expect(fake.exitCode).toBe(143);
  });
});

describe("standard output", () => {
  test("a reader that goes away: 141 and silence", () => {
    const { err, status } = shell('set -o pipefail; node "$1" explain | head -c 0');
    expect([status, err]).toEqual([141, ""]);
  });

  test.skipIf(!existsSync("/dev/full"))(
    "a full disk: status 7 and the reason (skipped without /dev/full)",
    () => {
      const { status, err } = shell('node "$1" explain > /dev/full');
      expect(status).toBe(7);
      expect(err).toMatch(/^guestcore: cannot write to standard output: .*no space left on device/i);
    },
  );

  test("a closed standard error changes neither result nor status", () => {
    const { status, out } = shell('node "$1" explain RAM001 2>&-');
    expect(status).toBe(0);
    expect(out).toMatch(/^RAM001: /);
  });
});

test("data on standard output, everything else on standard error", () => {
  const { status, out, err } = shell('node "$1" info package.json missing');
  expect(status).toBe(7);
  expect(out).toBe("");
  expect(err.split("\n").slice(0, -1)).toEqual([
    "guestcore: cannot open package.json: no such file",
    "guestcore: cannot open missing: no such file",
  ]);
});

test("--help loads no decoder: its modules are a handful", () => {
  const { out } = shell(
    'NODE_DEBUG=esm node --import "data:text/javascript,process.on(\'exit\',()=>{})" "$1" --help >/dev/null 2>log; grep -o "dist/[a-z0-9/-]*\\.js" log | sort -u',
  );
  expect(out).toContain("dist/cli/main.js");
  // What finds shared libraries decodes nothing, and loads none until it is asked to.
  expect(out).not.toMatch(/dist\/(jobs|qemu|kernel|codec(?!\/shared-library)|dump|vmcore)\//);
});
