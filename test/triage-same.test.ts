import { expect, test } from "vitest";
import { TriageSummary } from "../src/report/triage-outputs.ts";
import { SameFailures } from "../src/triage/verdict/same-failures.ts";
import { vmOf } from "./support/triage-synth.ts";

const failed = (signature: string | undefined, title = "BUG: x") => ({ signature, title });

test("VMs that failed alike are those of one signature, the commonest first", () => {
  const same = new SameFailures();
  same.add("a", failed("one"));
  same.add("b", failed("two", "BUG: y"));
  same.add("c", failed("one", "another title"));
  same.add("d", failed(undefined));
  same.add("e", failed(undefined));
  expect(same.end()).toEqual([{ signature: "one", title: "BUG: x", count: 2, vms: ["a", "c"] }]);
  same.add("f", failed("two"));
  same.add("g", failed("two"));
  expect(same.end().map(({ signature, count }) => [signature, count])).toEqual([
    ["two", 3],
    ["one", 2],
  ]);
});

test("what unlike failures come to is no failure they share", () => {
  const same = new SameFailures();
  for (const signature of ["qmp:watchdog", "silent-reset", "triple-fault", "qmp:stop:0x7e"]) {
    same.add("a", failed(signature));
    same.add("b", failed(signature));
  }
  expect(same.end().map(({ signature }) => signature)).toEqual(["qmp:stop:0x7e"]);
});

test("of any number of VMs as many are named as are kept, all are counted", () => {
  const same = new SameFailures();
  for (let i = 0; i < 20_000; i++) same.add(`vm${i}`, failed(`s${i}`));
  for (let i = 0; i < 5000; i++) same.add(`again${i}`, failed("s1"));
  const [first, ...others] = same.end();
  expect([first!.count, first!.vms.length, others]).toEqual([5001, 100, []]);
});

test("the text names them before it counts", () => {
  const summary = new TriageSummary();
  const one = vmOf([]);
  const add = (vm: string, signature: string | undefined) =>
    summary.add({ vm, verdict: { ...one.verdict, verdict: "guest-panic", title: "BUG: x", signature } });
  add("web\x1b[31m", "s1");
  expect(summary.text()).toBe("");
  for (let i = 0; i < 9; i++) add(`vm${i}`, "s1");
  add("other", undefined);
  const lines = summary.text().split("\n");
  expect(lines[0]).toBe("10 failed alike, signature s1: BUG: x");
  expect(lines[1]).toMatch(/^ {2}web.*, vm0, .*, vm6 and 2 more$/);
  expect(lines.slice(2)).toEqual(["11 VMs: 11 guest-panic", ""]);
  expect(summary.text()).not.toContain("\x1b");
});
