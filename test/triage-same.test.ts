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

test("of any number of VMs as many are named as are kept, all are counted", () => {
  const same = new SameFailures();
  for (let i = 0; i < 20_000; i++) same.add(`vm${i}`, failed(`s${i}`));
  for (let i = 0; i < 5000; i++) same.add(`again${i}`, failed("s1"));
  const [first, ...others] = same.end();
  expect([first!.count, first!.vms.length, others]).toEqual([5001, 100, []]);
});

test("the text's last lines name them", () => {
  const summary = new TriageSummary();
  const one = vmOf([]);
  const add = (vm: string, signature: string | undefined) =>
    summary.add({ vm, verdict: { ...one.verdict, verdict: "guest-panic", title: "BUG: x", signature } });
  add("web\x1b[31m", "s1");
  expect(summary.text()).toBe("");
  for (let i = 0; i < 9; i++) add(`vm${i}`, "s1");
  add("other", undefined);
  const lines = summary.text().split("\n");
  expect(lines.slice(0, 2)).toEqual(["11 VMs: 11 guest-panic", "  10 failed alike, signature s1: BUG: x"]);
  expect(lines[2]).toMatch(/^ {4}web.*, vm0, .*, vm6 and 2 more$/);
  expect(summary.text()).not.toContain("\x1b");
});
