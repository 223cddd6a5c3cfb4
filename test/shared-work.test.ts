import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { SharedWork } from "../src/io/shared-work.ts";

type Result = readonly [where: "here" | "there", number: number];
let work: SharedWork<number, number>;
afterEach(() => work.close());

/** A helper that answers with what an expression in `n` makes of a number. */
const helper = (expression: string): URL =>
  new URL(
    `data:text/javascript,import { parentPort } from "node:worker_threads"; parentPort.on("message", (n) => parentPort.postMessage(${expression}));`,
  );

/** Jobs that take 40 ms each here: helpers come after a second. */
function jobs(script: URL | undefined, { count = 60, isShared = (_: number): boolean => true } = {}) {
  work = new SharedWork<number, number>(script, 2, (result) => result);
  return Array.from({ length: count }, (_, number) =>
    work.add<Result>({
      request: isShared(number) ? number : undefined,
      here: async () => {
        await sleep(40);
        if (number === 57) throw new Error("57");
        return ["here", number];
      },
      resultOf: (reply) => (reply === -1 ? undefined : ["there", reply]),
    }),
  );
}

async function results(tasks: ReturnType<typeof jobs>): Promise<(Result | string)[]> {
  const found: (Result | string)[] = [];
  for (const task of tasks) found.push(await work.wait(task).catch((error: Error) => error.message));
  return found;
}

const numbersOf = (found: readonly (Result | string)[]): number[] => found.map((one) => Number(one[1]));

describe("work that is shared", { timeout: 60_000 }, () => {
  test("is done here and by helpers, each job once, in any order", async () => {
    const found = await results(jobs(helper("n"), { count: 100, isShared: (number) => number % 10 !== 9 }));
    expect(numbersOf(found.with(57, ["there", 57]))).toEqual(Array.from({ length: 100 }, (_, at) => at));
    const there = found.filter(([where]) => where === "there").map((one) => Number(one[1]));
    expect(there.length).toBeGreaterThan(0);
    expect(found.filter(([where]) => where === "here").length).toBeGreaterThan(15);
    expect(there.filter((number) => number % 10 === 9)).toEqual([]);
  });

  test.each([
    ["has no helper", undefined],
    ["has helpers that answer nothing", helper("undefined")],
    ["has helpers whose answers are no results", helper("-1")],
    ["has helpers that end", helper("process.exit(3)")],
    ["has helpers that fail", helper("nothing.at.all")],
    ["has a helper that is no program", new URL("data:text/javascript,import 'nothing-of-that-name'")],
  ])("is done here where it %s, and failures are of the job that failed", async (_, script) => {
    const found = await results(jobs(script));
    expect(found).toEqual(Array.from({ length: 60 }, (_, at) => (at === 57 ? "57" : ["here", at])));
  });

  test("ends when what heeds signals says so", async () => {
    const silent = new URL(
      'data:text/javascript,import { parentPort } from "node:worker_threads"; parentPort.on("message", () => {});',
    );
    work = new SharedWork<number, number>(silent, 1, () => Promise.reject(new Error("stopped")));
    const first = work.add({ request: undefined, here: () => sleep(1200, 1), resultOf: () => undefined });
    const never = work.add({ request: 2, here: () => sleep(5, 2), resultOf: () => undefined });
    expect(await work.wait(first)).toBe(1);
    // A helper has it, so that nothing is left to do here.
    await expect(work.wait(never)).rejects.toThrow("stopped");
  });
});
