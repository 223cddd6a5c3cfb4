import { describe, expect, test } from "vitest";
import { type JobFlags, jobContext } from "../src/cli/context.ts";
import { progressSink } from "../src/cli/progress.ts";
import { InterruptedError } from "../src/core/errors.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";

const MiB = 1024 * 1024;
const FLAGS: JobFlags = { json: false, progress: "auto", quiet: false, color: "auto", debug: false };

/** Copies 100 MiB in 100 steps of `milliseconds` each. */
function copy(terminal: FakeTerminal, mode: "auto" | "plain" | "json" | "none", milliseconds: number): void {
  const progress = progressSink(terminal, mode);
  progress.start(100 * MiB, "copying");
  for (let i = 1; i <= 100; i++) {
    terminal.time += milliseconds;
    progress.update(i * MiB);
  }
  progress.finish();
}

describe("progress", () => {
  test("on a terminal: one line, redrawn at most ten times a second, gone at the end", () => {
    const terminal = new FakeTerminal({ isTTY: true });
    copy(terminal, "auto", 30);
    const drawn = terminal.err.split("\r").filter((line) => line.includes("copying"));
    expect(drawn.length).toBeGreaterThan(20);
    expect(drawn.length).toBeLessThanOrEqual(30);
    expect(drawn[0]).toMatch(/^copying 4\.0 MiB of 100\.0 MiB {2} {2}4% {2}33\.3 MiB\/s {2}3 s left\s*$/);
    expect(terminal.err).not.toContain("\n");
    expect(terminal.err).toMatch(/\r +\r$/);
  });

  test("a narrow terminal: the line never wraps", () => {
    const terminal = new FakeTerminal({ isTTY: true, columns: 20 });
    copy(terminal, "auto", 200);
    for (const line of terminal.err.split("\r")) expect(line.length).toBeLessThan(20);
  });

  test("elsewhere: a plain line every ten seconds, none for a short job", () => {
    const short = new FakeTerminal();
    copy(short, "auto", 99);
    expect(short.err).toBe("");
    const long = new FakeTerminal();
    copy(long, "auto", 1000);
    expect(long.err.split("\n").slice(0, -1)).toHaveLength(10);
    expect(long.err).not.toContain("\r");
    const dumb = new FakeTerminal({ isTTY: true, env: { TERM: "dumb" } });
    copy(dumb, "auto", 1000);
    expect(dumb.err).toBe(long.err);
    const plain = new FakeTerminal({ isTTY: true });
    copy(plain, "plain", 1000);
    expect(plain.err).toBe(long.err);
  });

  test("json: one object a line, every second, and a last one", () => {
    const terminal = new FakeTerminal({ isTTY: true });
    copy(terminal, "json", 500);
    const lines = terminal.err
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toHaveLength(51);
    expect(lines[0]).toEqual({
      schema: "guestcore/progress/1",
      label: "copying",
      done: 2 * MiB,
      total: 100 * MiB,
      seconds: 1,
      finished: false,
    });
    expect(lines.filter(({ finished }) => finished)).toEqual([
      {
        schema: "guestcore/progress/1",
        label: "copying",
        done: 100 * MiB,
        total: 100 * MiB,
        seconds: 50,
        finished: true,
      },
    ]);
    const validate = schemas().getSchema("progress.json");
    for (const line of lines) expect(validate?.(line), JSON.stringify(validate?.errors)).toBe(true);
  });

  test("json: a short job has its last event too, one that failed says how far it came, once", () => {
    const terminal = new FakeTerminal();
    const progress = progressSink(terminal, "json");
    progress.finish();
    progress.start(10, "unpacking");
    progress.update(3);
    progress.finish();
    progress.finish();
    expect(terminal.err.trimEnd().split("\n")).toHaveLength(1);
    expect(JSON.parse(terminal.err)).toMatchObject({
      label: "unpacking",
      done: 3,
      total: 10,
      finished: true,
    });
  });

  test("none: silence", () => {
    const terminal = new FakeTerminal({ isTTY: true });
    copy(terminal, "none", 1000);
    expect(terminal.err).toBe("");
  });

  test("nothing to do, and nothing done yet, are no division by zero", () => {
    const terminal = new FakeTerminal();
    const progress = progressSink(terminal, "plain");
    progress.start(0, "copying");
    terminal.time = 20_000;
    progress.update(0);
    expect(terminal.err).toBe("copying 0 B\n");
  });
});

describe("the context of a job", () => {
  test("a warning takes the progress line away first", () => {
    const terminal = new FakeTerminal({ isTTY: true, env: { NO_COLOR: "1" } });
    const context = jobContext(terminal, FLAGS);
    context.progress.start(10, "copying");
    terminal.time = 1000;
    context.progress.update(5);
    context.warn({ code: "RAM001", message: "mem0 \x1b[2J", hint: "do this" });
    expect(terminal.err).toMatch(/\r +\rwarning RAM001: mem0 \\x1b\[2J\n {2}hint: do this\n$/);
  });

  test("quiet: neither warnings nor progress", () => {
    const terminal = new FakeTerminal({ isTTY: true });
    const context = jobContext(terminal, { ...FLAGS, quiet: true });
    context.progress.start(10, "copying");
    terminal.time = 60_000;
    context.progress.update(5);
    context.warn({ code: "RAM001", message: "mem0" });
    expect(terminal.err).toBe("");
  });

  test("a checkpoint lets the event loop run, but not at every call", async () => {
    const terminal = new FakeTerminal();
    const context = jobContext(terminal, FLAGS);
    let turns = 0;
    let over = false;
    const turn = () => {
      turns++;
      if (!over) setImmediate(turn);
    };
    setImmediate(turn);
    for (let i = 0; i < 1000; i++) await context.checkpoint();
    expect(turns).toBeLessThanOrEqual(2);
    for (let i = 0; i < 10; i++) {
      terminal.time += 100;
      await context.checkpoint();
    }
    expect(turns).toBeGreaterThanOrEqual(10);
    over = true;
  });

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("%s ends the job at its next checkpoint with status %d", async (signal, status) => {
    const terminal = new FakeTerminal();
    const context = jobContext(terminal, FLAGS);
    await context.checkpoint();
    setImmediate(() => {
      terminal.signal = signal;
    });
    terminal.time = 1000;
    const error = await context.checkpoint().then(
      () => context.checkpoint(),
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(InterruptedError);
    expect((error as InterruptedError).exitCode).toBe(status);
  });

  test("temporary directories: the option, else TMPDIR, else /var/tmp first", () => {
    const directories = (env: Record<string, string>, flags: Partial<JobFlags> = {}) =>
      jobContext(new FakeTerminal({ env }), { ...FLAGS, ...flags }).temporaryDirectories;
    expect(directories({ TMPDIR: "/a" }, { tmpdir: "/b" })).toEqual(["/b"]);
    expect(directories({ TMPDIR: "/a" })).toEqual(["/a"]);
    expect(directories({ TMPDIR: "" })[0]).toBe("/var/tmp");
    expect(directories({})).toContain("/tmp");
  });
});
