import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { untilOpen } from "./support/process.ts";
import {
  aliases,
  blocksTimesMappings,
  endlessHeap,
  longAuxv,
  managersTimesPointers,
  manyCpus,
  pluggedTimesRanges,
  regionsTimesRegions,
  spacesTimesNames,
  vcpusTimesSize,
  vmcoreinfoTimesKeys,
} from "./synth/hostile.ts";

/** Each core in a process of its own: memory that one of them took does not hide what the next one takes. */
const root = join(import.meta.dirname, "..");
const directory = mkdtempSync(join(tmpdir(), "guestcore-hostile-"));
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

const MIB = 2 ** 20;
/** The longest takes four seconds alone; a busy machine is no loop. */
const MAX_MS = 40_000;
/** Writes the most memory the process ever had, in KiB, behind everything else. */
const TELL_MEMORY =
  'data:text/javascript,process.on("exit",()=>process._rawDebug("maxrss "+process.resourceUsage().maxRSS))';

/** `guestcore info --json` of a core: status, envelope, bytes of memory. */
function inspect(core: Buffer) {
  const path = join(directory, "core");
  writeFileSync(path, core);
  const argv = ["--import", TELL_MEMORY, program, "info", "--json", "--quiet", path];
  const { status, stdout, stderr, signal } = spawnSync(process.execPath, argv, {
    timeout: MAX_MS,
    // A signal that can be caught is what a loop does not see.
    killSignal: "SIGKILL",
    maxBuffer: 512 * MIB,
    encoding: "utf8",
  });
  expect(signal, "takes too long").toBeNull();
  const { result, warnings } = JSON.parse(stdout);
  return { status, result, warnings, memory: Number(/maxrss (\d+)/.exec(stderr)?.[1]) * 1024 };
}

describe("lists that multiply", { timeout: 2 * MAX_MS }, () => {
  test.each([
    ["RAMBlocks and mappings", () => blocksTimesMappings(2000, 60_000), 300],
    ["vCPUs and the size of one", () => vcpusTimesSize(4096), 450],
    ["entries of the auxiliary vector", () => longAuxv(3_900_000), 300],
    ["FlatRanges and plugged blocks", () => pluggedTimesRanges(2 ** 19, 65_536, false), 300],
    ["FlatRanges that show all plugged blocks each", () => pluggedTimesRanges(2 ** 19, 2000, true), 300],
    ["more plugged blocks than any guest's", () => pluggedTimesRanges(2 ** 22, 64, false), 300],
    ["virtio-mem devices and what their managers hold", () => managersTimesPointers(512), 300],
    ["memory regions that cover others", () => regionsTimesRegions(16_000, 16_700), 300],
    ["address spaces and names of their roots", () => spacesTimesNames(1_000_000), 300],
    ["VMCOREINFO notes and their keys", () => vmcoreinfoTimesKeys(256), 200],
    ["NT_PRSTATUS notes", () => manyCpus(180_000), 500],
  ])("%s", (_, build, most) => {
    const { status, memory } = inspect(build());
    expect(status).toBe(0);
    expect(memory / MIB).toBeLessThan(most);
  });

  test("the CPUs of a vmcore are counted, not shown, where there are more than Linux has", () => {
    const { result, warnings } = inspect(manyCpus(9000));
    expect(result.vmcore.cpus).toHaveLength(8192);
    expect(warnings).toMatchObject([{ code: "CORE006", message: expect.stringContaining("9000") }]);
  });

  test("what was plugged in too many pieces is taken for plugged as a whole", () => {
    const { result, warnings } = inspect(pluggedTimesRanges(2 ** 20, 2, false));
    expect(result.process.ranges).toMatchObject([{ start: 0, end: 8192 }]);
    expect(warnings.map(({ code }: { code: string }) => code)).toContain("LAY002");
  });
});

describe("signals", { timeout: MAX_MS }, () => {
  test.each([
    ["SIGINT", 130, "a search in memory", () => aliases(8000)],
    ["SIGTERM", 143, "a search in memory", () => aliases(8000)],
    ["SIGINT", 130, "a search in the heap", () => endlessHeap(60_000)],
  ] as const)("%s: status %d during %s", async (signal, status, _, build) => {
    const path = join(directory, "core");
    writeFileSync(path, build());
    const child = spawn(process.execPath, [program, "info", path], { stdio: "ignore" });
    await untilOpen(child, path);
    // Into the search.
    setTimeout(() => child.kill(signal), 300);
    const stuck = setTimeout(() => child.kill("SIGKILL"), MAX_MS / 4);
    const [code, by] = await once(child, "exit");
    clearTimeout(stuck);
    expect([code, by]).toEqual([status, null]);
  });
});
